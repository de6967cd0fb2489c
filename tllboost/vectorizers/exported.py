"""Networks of torch that ONNX Runtime runs: exported once, checked, then kept.

On a CPU it runs them at two to six times the speed, and imports in a tenth of the time.
A folder keeps a network under the sha256 of its bytes, and one small record for each
fingerprint: which network, how images become its input, and what to make of what it
gives. So a kept network can be run by whoever knows a fingerprint, without torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.files import whole_file, write_text
from tllboost.vectorizers.base import loaded, usable_cores
from tllboost.vectorizers.network import NetworkVectorizer
from tllboost.vectorizers.onnx_files import CPU_BLOCK, open_session
from tllboost.vectorizers.preprocess import Preprocessing
from tllboost.vectorizers.weights import sha256_of

__all__ = [
    "ExportedNetwork",
    "ExportedVectorizer",
    "find_exported",
    "keep_network",
    "keep_record",
    "read_record",
]

_VERSION = 2  # raise it when a network exported before must not be used any more
_AT_WORK = 3600.0  # seconds in which a network has long been written


class ExportedNetwork:
    """A network that ONNX Runtime runs on the CPU.

    Many images are cut into small blocks, one a core at a time: threads inside of a
    layer wait for each other, and take a fifth more of the processor and a third more
    time. Fewer images than cores get all threads inside.

    Parameters
    ----------
    file : Path
        The network, as `keep_network` left it: images in, the first output out.
    what : str
        Whose it is, for messages.
    """

    def __init__(self, file: Path, *, what: str) -> None:
        self.file = file
        self.what = what

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Return what the network makes of images: vectors, or maps.

        Parameters
        ----------
        batch : ndarray of shape (n_images, 3, height, width), float32
        """
        n_cores = usable_cores()
        if len(batch) < n_cores and "_for_many" not in self.__dict__:
            return self._for_few(batch)
        size = min(CPU_BLOCK, -(-len(batch) // n_cores))
        blocks = [batch[i : i + size] for i in range(0, len(batch), size)]
        with ThreadPoolExecutor(n_cores) as threads:
            return np.concatenate(list(threads.map(self._for_many, blocks)))

    @loaded
    def _for_few(self) -> Callable[[np.ndarray], np.ndarray]:
        return self._opened(n_threads=usable_cores())

    @loaded
    def _for_many(self) -> Callable[[np.ndarray], np.ndarray]:
        return self._opened(n_threads=1)

    def _opened(self, n_threads: int) -> Callable[[np.ndarray], np.ndarray]:
        session = open_session(
            self.file, device="cpu", n_threads=n_threads, what=self.what
        )
        pixels = session.get_inputs()[0].name
        return lambda block: session.run(None, {pixels: block})[0]


class ExportedVectorizer(NetworkVectorizer):
    """A kept network, run by what its record says alone.

    Parameters
    ----------
    folder : Path
        Where networks are kept.
    record : mapping
        What `read_record` gave; one that names a network.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        super().__init__(**record["looks"])
        self.folder = folder
        self.record = record
        self.cells = record["cells"]
        self.normalize = record["normalize"]

    @property
    def fingerprint(self) -> str:
        """What the vectors depend on, as of the vectorizer that was exported."""
        return str(self.record["fingerprint"])

    @property
    def name(self) -> str:
        """The label of the vectorizer that was exported."""
        return str(self.record["label"])

    @property
    def n_dims(self) -> int:
        """Width of a vector."""
        return int(self.record["n_dims"])

    @loaded
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input."""
        stated: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self.record["preprocessing"].items()
        }
        return Preprocessing(**stated)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return what the network makes of prepared images, as it is."""
        return self.pooled(self.network(batch))

    @loaded
    def network(self) -> ExportedNetwork:
        """Return what gives vectors or maps of prepared images."""
        return ExportedNetwork(_network_file(self.folder, self.record), what=self.name)


def find_exported(folder: Path, fingerprint: str) -> ExportedVectorizer | None:
    """Return the vectorizer that a kept network makes, None where there is none.

    Parameters
    ----------
    folder : Path
        Where networks are kept: ``networks`` in a store.
    fingerprint : str
        Of the vectorizer that was exported.
    """
    record = read_record(folder, fingerprint)
    if record is None or record["network"] is None:
        return None
    return ExportedVectorizer(folder, record)


def read_record(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return the record of a fingerprint; None unless it and its network are whole.

    Only what was made and checked with the libraries that are here counts. A record
    whose ``network`` is None says in ``why`` that it can't be exported.
    """
    try:
        text = _record_file(folder, fingerprint).read_text(encoding="utf-8")
        record: dict[str, Any] = json.loads(text)
        known = record["fingerprint"], record["made_with"]
        if known != (fingerprint, _made_with()):
            return None
        network = record["network"]
        whole = network is None or sha256_of(_network_file(folder, record)) == network
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole else None


def keep_network(folder: Path, network: bytes) -> Path:
    """Write a network to the folder that keeps them, and return its file.

    Raises
    ------
    DataError
        If it can't be written.
    """
    # What a killed process left half written goes once nobody can be at it.
    for partial in folder.glob(".*.part"):
        with suppress(OSError):
            if time.time() - partial.stat().st_mtime > _AT_WORK:
                partial.unlink()
    sha256 = hashlib.sha256(network).hexdigest()
    target = folder / f"{sha256}.onnx"
    if not target.is_file() or sha256_of(target) != sha256:
        with whole_file(target) as file:
            file.write(network)
    return target


def keep_record(
    folder: Path,
    vectorizer: NetworkVectorizer,
    *,
    network: Path | None,
    n_dims: int,
    why: str,
) -> None:
    """Write all that `ExportedVectorizer` needs to know of a network.

    Parameters
    ----------
    folder : Path
        Where networks are kept.
    vectorizer : NetworkVectorizer
        Whose network it is.
    network : Path or None
        Its file; None where it can't be exported.
    n_dims : int
        Width of a vector.
    why : str
        Why there is none.

    Raises
    ------
    DataError
        If it can't be written.
    """
    record = {
        "fingerprint": vectorizer.fingerprint,
        "label": vectorizer.label,
        "network": network and network.stem,
        "why": why,
        "n_dims": n_dims,
        "preprocessing": asdict(vectorizer.preprocessing),
        "looks": asdict(vectorizer.looks),
        "cells": vectorizer.cells,
        "normalize": vectorizer.normalize,
        "made_with": _made_with(),
    }
    file = _record_file(folder, vectorizer.fingerprint)
    write_text(file, json.dumps(record, indent=1) + "\n")


def _record_file(folder: Path, fingerprint: str) -> Path:
    key = f"{_VERSION}|{fingerprint}".encode("utf-8", "surrogateescape")
    return folder / f"{hashlib.sha256(key).hexdigest()[:40]}.json"


def _network_file(folder: Path, record: Mapping[str, Any]) -> Path:
    return folder / f"{os.path.basename(record['network'])}.onnx"


def _made_with() -> dict[str, str]:
    """Return the versions of what exports: where it failed, others may not."""
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "onnxruntime")}
