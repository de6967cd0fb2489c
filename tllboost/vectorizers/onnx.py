"""``onnx:FILE``: vectors from an ONNX network through ONNX Runtime."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.errors import UsageError, WeightsError
from tllboost.vectorizers.base import FileVectorizer, library, loaded, usable_cores
from tllboost.vectorizers.looks import LOOK_OPTIONS
from tllboost.vectorizers.network import NetworkVectorizer, options
from tllboost.vectorizers.onnx_files import (
    CPU_BLOCK,
    MAX_SIDE,
    check_input,
    check_network,
    last_map,
    open_session,
    stated_numbers,
)
from tllboost.vectorizers.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
)
from tllboost.vectorizers.weights import first_line, local_file, sha256_of

__all__ = ["OnnxVectorizer"]

_DEFAULT_SIZE = 224
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass(eq=False, repr=False)
class OnnxVectorizer(FileVectorizer, NetworkVectorizer):
    """Vectors of an ONNX file with one image input, its channels first or last.

    Parameters
    ----------
    file : path-like
        The network.
    size : int, optional
        Side of the input; by default what the file says, else 224.
    mean, std : tuple of 3 floats, optional
        Normalisation of channels in [0, 1]; by default what the file's metadata says
        (``mean``, ``std``: three numbers joined by commas), else ImageNet's.
    fit : {"crop", "squash", "pad"}, default="crop"
        See `Preprocessing`.
    output : str, optional
        Name of the output, or of any tensor inside; by default the first output. Maps
        and token sequences are averaged.
    normalize : bool, default=False
        Whether vectors are scaled to length 1.
    cells : int, optional
        Of an output that is a map take cells x cells grid positions, instead of its
        mean: the mean around each, at length 1, concatenated.
    device : str, default="auto"
        ``cuda`` and ``auto`` use the CUDA provider where ONNX Runtime has it.
    trim, flip, views : bool, bool, sequence of str
        See `Looks`; by default the image as it is.

    Examples
    --------
    >>> OnnxVectorizer("weights/net.onnx", size=160).label
    'onnx:net?size=160'
    """

    KIND = "onnx"
    OPTIONS = options(
        *("size", "mean", "std", "fit", "output", "normalize", "cells", *LOOK_OPTIONS)
    )

    file: str | Path
    _: KW_ONLY
    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    fit: str = "crop"
    output: str | None = None
    normalize: bool = False
    cells: int | None = None
    device: str = "auto"

    @loaded
    def fingerprint(self) -> str:
        """Tell what the vectors depend on."""
        weights = "+".join(map(sha256_of, [self._file, *self._data_files]))
        cells = f"|cells={self.cells}" if self.cells else ""
        return (
            f"onnx|sha256:{weights}|{self.preprocessing}|{self._layout}"
            f"|output={self._output}|unit={self.normalize}|float32"
            f"|{library('onnxruntime')}{cells}{self.looks}"
        )

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return what the network makes of prepared images, as it is."""
        if self._layout == "nhwc":
            batch = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        rows = [self._run(block) for block in self._blocks(batch)]
        return np.concatenate(rows)[: len(batch)]

    @loaded
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input."""
        stated = stated_numbers(self._session, what=self.name)
        return Preprocessing(
            size=self._input_size(stated.get("size")),
            fit=self.fit,
            mean=self.mean or stated.get("mean") or IMAGENET_MEAN,
            std=self.std or stated.get("std") or IMAGENET_STD,
        )

    def _input_size(self, stated: tuple[float, ...] | None) -> tuple[int, int]:
        first = 2 if self._layout == "nchw" else 1
        side = self.size or (int(stated[0]) if stated else _DEFAULT_SIZE)
        height, width = (
            one if isinstance(one, int) and one > 0 else side
            for one in self._input.shape[first : first + 2]
        )
        if self.size and (height, width) != (self.size, self.size):
            msg = (
                f"{self.name}: size={self.size}, but the network wants {height}x{width}"
            )
            raise UsageError(msg)
        if max(height, width) > MAX_SIDE:
            msg = (
                f"{self.name}: an input of {max(height, width):,} pixels a side; at "
                f"most {MAX_SIDE:,} are allowed"
            )
            raise WeightsError(msg)
        return height, width

    @property
    def _file(self) -> Path:
        return local_file(self.file, what=self.name)

    @loaded
    def _data_files(self) -> list[Path]:
        """Files beside it that hold tensors, once the network has been looked over."""
        return check_network(self._file, what=self.name)

    @loaded
    def _session(self) -> Any:
        self._data_files  # noqa: B018
        return open_session(
            self._file,
            device=self.device,
            n_threads=usable_cores(),
            what=self.name,
            output=self.output,
        )

    @loaded
    def _input(self) -> Any:
        inputs = self._session.get_inputs()
        if len(inputs) == 1:
            (one,) = inputs
            if len(one.shape) == 4 and one.type in _FLOATS:
                check_input(one.shape, what=self.name)
                return one
        found = "; ".join(f"{x.name}: {x.type} {x.shape}" for x in inputs)
        msg = f"{self.name}: needs one float input of four axes, has {found or None}"
        raise WeightsError(msg)

    @loaded
    def _output(self) -> str:
        """Name of the output, or of the tensor inside, that is taken."""
        names = [one.name for one in self._session.get_outputs()]
        if self.output is not None and self.output not in names:
            known = ", ".join(names)
            msg = f"{self.name}: no output {self.output!r}; it has: {known}"
            raise UsageError(msg)
        return self.output or names[0]

    @loaded
    def _layout(self) -> str:
        shape = self._input.shape
        return "nhwc" if shape[3] == 3 and shape[1] != 3 else "nchw"

    def _blocks(self, batch: np.ndarray) -> list[np.ndarray]:
        """Cut `batch` as the network wants it: some are exported for a fixed number."""
        size = self._input.shape[0]
        if isinstance(size, int) and size > 0:
            missing = -len(batch) % size
            batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        elif self._session.get_providers()[0] == "CPUExecutionProvider":
            size = CPU_BLOCK
        else:
            size = len(batch)
        return [batch[i : i + size] for i in range(0, len(batch), size)]

    def _run(self, batch: np.ndarray) -> np.ndarray:
        session, output = self._session, self._output
        feed = {self._input.name: batch.astype(_FLOATS[self._input.type], copy=False)}
        try:
            (vectors,) = session.run([output], feed)
        except Exception as error:
            raise RuntimeError(first_line(error)) from error
        what, shape = f"{self.name}: output {output!r}", vectors.shape
        if vectors.ndim == 4:
            if self._layout == "nhwc":
                vectors = vectors.transpose(0, 3, 1, 2)
            pooled = vectors.mean(axis=(2, 3)) if self.cells is None else vectors
            vectors = self.pooled(pooled)
        elif self.cells is not None:
            inside = last_map(self._file, what=self.name) or "NAME"
            msg = (
                f"{what} of shape {shape} is no map of four axes, which "
                f"cells={self.cells} needs: choose another output, or a tensor "
                f"inside, by ?output={inside}"
            )
            raise UsageError(msg)
        elif vectors.ndim == 3:
            vectors = vectors.mean(axis=1)
        if vectors.ndim != 2 or len(vectors) != len(batch):
            msg = (
                f"{what} of shape {shape} is not one vector an image; choose another "
                "by ?output=NAME"
            )
            raise WeightsError(msg)
        return vectors.astype(np.float32, copy=False)
