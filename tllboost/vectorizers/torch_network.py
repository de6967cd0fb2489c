"""What vectorizers with a network of torch share: which library runs it, and where."""

from __future__ import annotations

import logging
import os
import platform
import sys
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.errors import DataError, UsageError
from tllboost.vectorizers.base import loaded
from tllboost.vectorizers.exported import (
    ExportedNetwork,
    describe,
    find_exported,
    keep_network,
    keep_record,
    read_record,
)
from tllboost.vectorizers.maps import cell_means
from tllboost.vectorizers.network import NetworkVectorizer
from tllboost.vectorizers.switches import is_on
from tllboost.vectorizers.weights import first_line

__all__ = ["PRECISIONS", "TorchVectorizer", "is_for_cpu"]

PRECISIONS = ("float32", "bfloat16", "float16")

_TOLERANCE = 1e-4
# What a driver leaves where torch could find a GPU; asking torch itself takes seconds.
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


class TorchVectorizer(NetworkVectorizer):
    """Vectors by a network that torch builds.

    On a CPU, where a folder to keep networks in is known, it is exported once and run
    by ONNX Runtime; vectors agree within 1e-4 of their length, which is checked before.
    ``TLLBOOST_TORCH=1`` leaves everything to torch.
    """

    device: str = "auto"
    precision: str = "float32"

    @property
    @abstractmethod
    def _network(self) -> Any:
        """The network, on its device."""

    def keep_networks_in(self, folder: str | Path) -> None:
        """Say where exported networks are kept: without it there are none."""
        if self.__dict__.get("_folder") != Path(folder):
            self.__dict__.pop("_exported", None)
            self.__dict__["_folder"] = Path(folder)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return what the network makes of prepared pictures, as it is."""
        run = self._exported or self._run_torch
        return self._pooled(run(batch))

    @loaded
    def _exported(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Return what runs the network in place of torch, if anything may."""
        folder = self.__dict__.get("_folder")
        if folder is None or is_on("TLLBOOST_TORCH") or self.precision != "float32":
            return None
        if not is_for_cpu(self.device):
            return None
        found = find_exported(folder, self.fingerprint)
        if found is not None:
            return found._network
        if read_record(folder, self.fingerprint) is not None:  # can't be exported
            return None
        with suppress(DataError):  # nowhere to keep it
            return self._export(folder)
        return None

    def _export(self, folder: Path) -> ExportedNetwork | None:
        """Export the network; None where it can't be, or gives something else."""
        from tllboost.vectorizers.torch_export import disagreement, exported, probe

        size = self.preprocessing.size
        batch = probe(size)
        expected = self._run_torch(batch)
        file, network = None, None
        try:
            file = keep_network(folder, exported(self._network, size, self._output))
            network = ExportedNetwork(file, what=self.name)
            apart = disagreement(expected, network(batch))
            why = f"its vectors are {apart:g} of their length from torch's"
        except DataError:
            raise
        except Exception as error:
            why, apart = first_line(error), float("inf")
        if apart > _TOLERANCE:
            if file is not None:
                file.unlink(missing_ok=True)
            file, network = None, None
            _tell(f"{self.name}: can't be run by ONNX Runtime ({why}); torch runs it")
        n_dims = self._pooled(expected).shape[1] * len(self.views)
        record = describe(self, network=file, n_dims=n_dims, why=why)
        keep_record(folder, record)
        if network is not None:
            self.__dict__.pop("_network", None)  # its memory
        return network

    def _run_torch(self, batch: np.ndarray) -> np.ndarray:
        from tllboost.vectorizers.torch_run import run

        if self.precision not in PRECISIONS:
            legal = ", ".join(PRECISIONS)
            msg = f"{self.name}: precision={self.precision!r} must be one of {legal}"
            raise UsageError(msg)
        return run(self._network, batch, self._output, precision=self.precision)

    def _output(self, output: Any) -> Any:
        """Return what is taken of the network's output: its maps or their means."""
        from tllboost.vectorizers.torch_run import mean_over_positions

        return output if self.cells is not None else mean_over_positions(output)

    def _pooled(self, output: np.ndarray) -> np.ndarray:
        if self.cells is None:
            return output
        return cell_means(output, self.cells, what=self.name)


def is_for_cpu(device: str) -> bool:
    """Tell whether a device means the CPU here, asking torch only if it must be."""
    if device == "cpu" or (device == "auto" and not _may_have_gpu()):
        return True
    from tllboost.vectorizers.torch_run import choose_device

    return bool(choose_device(device).type == "cpu")


def _may_have_gpu() -> bool:
    if sys.platform == "win32":
        root = os.environ.get("SYSTEMROOT", "C:\\Windows")
        return Path(root, "System32", "nvcuda.dll").exists()
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return any(Path(one).exists() for one in _DRIVERS)


def _tell(line: str) -> None:
    logging.getLogger("tllboost").warning("%s", line)
