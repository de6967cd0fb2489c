"""What vectorizers with a network of torch share: which library runs it, and where.

A network runs on batches of NumPy arrays, in float32, wherever it is: on a CPU by ONNX
Runtime, for which it is exported once and compared with torch, else by torch. For local
vectors it is brought to give its last feature map, whatever shape that has inside.
"""

from __future__ import annotations

import io
import logging
import math
import os
import platform
import sys
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, cast

import numpy as np

from tllboost.dense import threads
from tllboost.errors import DataError, UsageError, need
from tllboost.registry import Spec, one_of, option
from tllboost.vectorizers.base import is_on, loaded
from tllboost.vectorizers.exported import (
    keep_network,
    on_cores,
    read_record,
    read_records,
    runner,
)
from tllboost.vectorizers.network import NetworkVectorizer
from tllboost.vectorizers.preprocess import Preprocessing
from tllboost.vectorizers.weights import first_line, local_file, sha256_of

_TOLERANCE = 1e-4
# What a driver leaves where torch could find a GPU; asking torch itself takes seconds.
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


@dataclass(eq=False, repr=False)
class TorchVectorizer(NetworkVectorizer):
    """Vectors by a network that torch builds.

    On a CPU, where a folder to keep networks in is known, it is exported once and run
    by ONNX Runtime; vectors agree within 1e-4 of their length, which is checked before.
    ``TLLBOOST_TORCH=1`` leaves everything to torch.
    """

    FORM: ClassVar[tuple[str, ...]] = ("NAME",)  # what names its published weights

    # An argument of every kind, in a place of its own.
    file = cast("str | Path | None", None)

    arch: str
    _: KW_ONLY
    precision: str = option("float32", one_of("float32", "bfloat16", "float16"))
    device: str = "auto"
    offline: bool = False

    @classmethod
    def _operands(cls, spec: Spec) -> Sequence[str | None]:
        """Return the names of published weights and the file in their place."""
        named, at, file = spec.rest.partition("@")
        parts = named.split(":", len(cls.FORM) - 1)
        parts += [""] * (len(cls.FORM) - len(parts))
        if not parts[0] or (at and not file) or not (all(parts) or file):
            form = ":".join([cls.KIND, *cls.FORM])
            msg = f"{spec.text!r}: write {form}, or with @FILE for local weights"
            raise UsageError(msg)
        return [one or None for one in (*parts, file)]

    @property
    def name(self) -> str:
        """The spelling without options."""
        return self.short_name + (f"@{self.file}" if self.file else "")

    @property
    def short_name(self) -> str:
        """The name for tables: without the file."""
        named = (self.KIND, self.arch, getattr(self, "tag", None))
        return ":".join(filter(None, named))

    @abstractmethod
    def _described(self) -> tuple[str, str, str]:
        """Return its library's name of the network, what is taken, and the library."""

    @loaded
    def fingerprint(self) -> str:
        """Tell what the vectors depend on."""
        named, taken, made_by = self._recalled() or self._described()
        cells = f"|cells={self.cells}" if self.cells else ""
        return (
            f"{self.KIND}|{named}|sha256:{sha256_of(self.weights_file)}"
            f"|{self.preprocessing}|{taken}|unit={self.normalize}|{self.precision}"
            f"|{made_by}{self.looks}{cells}"
        )

    def _recalled(self) -> Sequence[str] | None:
        """Return what its library says of it, which takes seconds to import.

        As it stands in the record of a network that was exported under the same name
        from the same weights; their file and the preprocessing are taken from there.
        """
        for record in read_records(self._networks):
            with suppress(OSError, ValueError, KeyError, TypeError):
                weights = Path(os.path.expanduser(self.file or record["weights"]))
                preprocessing = Preprocessing(**record["preprocessing"])
                known = f"|sha256:{sha256_of(weights)}|{preprocessing}|"
                if record["label"] == self.label and known in record["fingerprint"]:
                    found = {"weights_file": weights, "preprocessing": preprocessing}
                    self.__dict__ |= found
                    return tuple(record["described"])
        return None

    @loaded
    def weights_file(self) -> Path:
        """Return the file of weights, downloaded if none is given."""
        if self.file is not None:
            return local_file(self.file, what=self.name)
        return self._published()

    @abstractmethod
    def _published(self) -> Path:
        """Return the cached or downloaded weights."""

    @property
    @abstractmethod
    def network(self) -> Any:
        """The network, on its device."""

    def keep_networks_in(self, folder: str | Path) -> None:
        """Say where exported networks are kept: without it there are none."""
        if self.__dict__.get("_folder") != Path(folder):
            self.__dict__.pop("_exported", None)
            self.__dict__["_folder"] = Path(folder)

    def run_kept(self, fingerprint: str) -> bool:
        """Be the vectorizer of a fingerprint, if its network is kept; tell whether.

        Neither weights nor torch are needed then.
        """
        folder = self._networks
        record = folder and read_record(folder, fingerprint)
        if not (record and record["network"] and record["label"] == self.label):
            return False
        self.__dict__ |= {
            "fingerprint": fingerprint,
            "preprocessing": Preprocessing(**record["preprocessing"]),
            "n_dims": record["n_dims"],
            "_exported": on_cores(record["network"], what=self.name),
        }
        return True

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return what the network makes of prepared images, as it is."""
        return self.pooled((self._exported or self._run_torch)(batch))

    @property
    def _networks(self) -> Path | None:
        """Where exported networks are kept, if another than torch may run this one."""
        if is_on("TLLBOOST_TORCH") or self.precision != "float32":
            return None
        folder: Path | None = self.__dict__.get("_folder")
        return folder if folder and is_for_cpu(self.device) else None

    @loaded
    def _exported(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Return what runs the network in place of torch, if anything may."""
        if (folder := self._networks) is None:
            return None
        if (record := read_record(folder, self.fingerprint)) is None:
            need("torch", "this network")
        with suppress(DataError):  # nowhere to keep it
            file = record["network"] if record else self._export(folder)
            return on_cores(file, what=self.name) if file else None
        return None

    # Of a handful of images: torch's threads wait for each other longer than they work.
    @threads(1)
    def _export(self, folder: Path) -> Path | None:
        """Export the network and keep it; None where that can't be done."""
        size = self.preprocessing.size
        expected = self._run_torch(probe(size))
        network, why = None, ""
        try:
            network = exported(self.network, size, self._output)
            self.__dict__.pop("network", None)  # its memory
        except DataError:
            raise
        except Exception as error:
            why = first_line(error)
            logging.getLogger("tllboost").warning(
                "%s: can't be run by ONNX Runtime (%s); torch runs it", self.name, why
            )
        return keep_network(
            folder,
            self.fingerprint,
            network,
            label=self.label,
            weights=os.path.abspath(self.weights_file),
            described=self._described(),
            preprocessing=asdict(self.preprocessing),
            n_dims=self.pooled(expected).shape[1] * len(self.views),
            why=why,
        )

    def _run_torch(self, batch: np.ndarray) -> np.ndarray:
        return run(self.network, batch, self._output, precision=self.precision)

    def _output(self, output: Any) -> Any:
        """Return what is taken of the network's output: its maps or their means."""
        return output if self.cells is not None else averaged(output)


def averaged(output: Any) -> Any:
    """Return one vector an image: maps and tokens are averaged."""
    dim = {4: (2, 3), 3: 1}.get(output.ndim)
    return output if dim is None else output.mean(dim=dim)


def is_for_cpu(device: str) -> bool:
    """Tell whether a device means the CPU here, asking torch only if it must be."""
    if device == "cpu" or (device == "auto" and not _may_have_gpu()):
        return True
    return bool(choose_device(device).type == "cpu")


def _may_have_gpu() -> bool:
    if sys.platform == "win32":
        root = os.environ.get("SYSTEMROOT", "C:\\Windows")
        return Path(root, "System32", "nvcuda.dll").exists()
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return any(Path(one).exists() for one in _DRIVERS)


def choose_device(device: str) -> Any:
    """Return the ``torch.device`` for ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises
    ------
    UsageError
        If there is no such device here.
    MissingLibraryError
        If torch is not installed.
    """
    need("torch", "this network")
    import torch

    known: dict[str, Any] = {"cuda": torch.cuda, "mps": torch.backends.mps}
    here = [*(name for name, one in known.items() if one.is_available()), "cpu"]
    if device.split(":")[0] not in ("auto", *here):
        legal = ", ".join(["auto", *here])
        msg = f"device {device!r} is not available here; choose one of {legal}"
        raise UsageError(msg)
    return torch.device(here[0] if device == "auto" else device)


def on_device(network: Any, device: str) -> Any:
    """Return `network` ready to be run: in evaluation mode, frozen, moved."""
    import torch

    network.eval().requires_grad_(False)
    # On a CPU convolutions run at twice the speed of the default layout (40 to 22).
    return network.to(choose_device(device), memory_format=torch.channels_last)


def run(
    network: Any,
    batch: np.ndarray,
    then: Callable[[Any], Any],
    *,
    precision: str = "float32",
) -> np.ndarray:
    """Return what a network makes of images.

    Parameters
    ----------
    network : torch.nn.Module
        On one device, in evaluation mode.
    batch : ndarray of shape (n_images, 3, height, width), float32
    then : callable
        What is done to its output, on the device.
    precision : {"float32", "bfloat16", "float16"}, default="float32"
        Of what torch may do in less than float32.

    Returns
    -------
    ndarray of shape (n_images, ...), float32
    """
    import torch

    device = next(network.parameters()).device
    less = torch.autocast(
        device.type, getattr(torch, precision), enabled=precision != "float32"
    )
    # TF32 keeps 10 bits of mantissa: vectors would depend on the machine.
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False), less:
        pixels = torch.from_numpy(batch)
        if device.type == "cuda":  # from there it is copied beside other work
            pixels = pixels.pin_memory()
        pixels = pixels.to(device, non_blocking=True, memory_format=torch.channels_last)
        output: np.ndarray = then(network(pixels)).float().cpu().numpy()
    return output


def module(forward: Callable[..., Any], **parts: Any) -> Any:
    """Return a ``torch.nn.Module`` of `parts` that runs ``forward(module, …)``."""
    import torch

    class Composed(torch.nn.Module):
        def forward(self, *inputs: Any, **named: Any) -> Any:
            return forward(self, *inputs, **named)

    made = Composed()
    for name, part in parts.items():
        setattr(made, name, part)
    return made


def timm_maps(network: Any, *, what: str) -> Any:
    """Return a module from pixels to maps (n_images, n_channels, n_rows, n_columns).

    Tokens in front of those of the patches are left out: the class token and registers.

    Parameters
    ----------
    network : torch.nn.Module
        Of timm.
    what : str
        Whose network it is, for messages.

    """
    n_before = getattr(network, "num_prefix_tokens", 0)
    grid = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def forward(own: Any, pixels: Any) -> Any:
        output = own.source.forward_features(pixels)
        n_axes = getattr(output, "ndim", None)
        if n_axes == 4:
            return output.permute(0, 3, 1, 2) if channels_last else output
        if n_axes == 3:
            patches = output[:, n_before:].transpose(1, 2)
            n_patches = patches.shape[2]
            square = (math.isqrt(n_patches),) * 2
            for shape in (grid, square):
                if shape and math.prod(shape) == n_patches:
                    return patches.unflatten(2, tuple(shape))
        found = tuple(getattr(output, "shape", ())) or "several parts"
        msg = f"{what}: its features {found} are not a map; take the kind without -grid"
        raise UsageError(msg)

    return module(forward, source=network)


_LARGEST = 1_800_000_000  # bytes of weights: a file of ONNX holds 2 GiB
_N_PROBES = 3  # not the two that it is exported with: the number must be free


def exported(network: Any, size: tuple[int, int], then: Callable[[Any], Any]) -> bytes:
    """Return a network as ONNX, from ``pixels`` to ``output``.

    Parameters
    ----------
    network : torch.nn.Module
        On the CPU, in evaluation mode.
    size : (int, int)
        Height and width of its input.
    then : callable
        What is done to its output, as part of the network.

    Raises
    ------
    Exception
        Any kind, where it holds what can't be exported, or where ONNX Runtime makes
        something else of :func:`probe` than torch does.
    """
    import torch

    n_bytes = sum(one.numel() * one.element_size() for one in network.parameters())
    if n_bytes > _LARGEST:
        msg = f"its weights take {n_bytes:,} bytes"
        raise ValueError(msg)
    whole = module(lambda own, pixels: then(own.network(pixels)), network=network)
    # Let attention be made of operators that ONNX has, not of one of torch's own.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with TemporaryDirectory() as folder, torch.no_grad(), quiet():
            file = Path(folder, "network.onnx")
            torch.onnx.export(
                whole.eval(),
                (torch.zeros(2, 3, *size),),
                file,
                input_names=["pixels"],
                output_names=["output"],
                dynamic_axes={"pixels": {0: "n"}, "output": {0: "n"}},
                dynamo=False,  # the other exporter needs a library more
            )
            data = file.read_bytes()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    batch = probe(size)
    output = runner(file, n_threads=1, what="it", network=data)(batch)
    if (apart := disagreement(run(network, batch, then), output)) > _TOLERANCE:
        msg = f"its vectors are {apart:g} of their length from torch's"
        raise ValueError(msg)
    return data


def probe(size: tuple[int, int]) -> np.ndarray:
    """Return the images that both must see alike: noise, always the same.

    Returns
    -------
    ndarray of shape (3, 3, height, width), float32
    """
    rng = np.random.default_rng(0)
    return rng.normal(size=(_N_PROBES, 3, *size)).astype(np.float32)


def disagreement(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest distance of two outputs of an image, relative to its length.

    Infinite where they have different shapes or are not finite.

    Examples
    --------
    >>> disagreement(np.float32([[3, 4]]), np.float32([[3, 4.05]]))
    0.01
    """
    if one.shape != other.shape or not np.isfinite(one).all():
        return float("inf")
    rows, others = (each.reshape(len(each), -1) for each in (one, other))
    lengths = np.linalg.norm(rows, axis=1)
    apart = np.linalg.norm(rows - others, axis=1)
    worst = np.max(apart / np.where(lengths > 0, lengths, 1))
    return float(f"{worst:.3g}") if np.isfinite(worst) else float("inf")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep libraries from chatting while they build or export a network.

    Some write to the root logger, which installs a handler where there is none: logging
    would be set up for the whole process.
    """
    root, silent = logging.getLogger(), logging.NullHandler()
    level, nowhere = root.level, io.StringIO()
    root.addHandler(silent)
    root.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            yield
    finally:
        root.removeHandler(silent)
        root.setLevel(level)
