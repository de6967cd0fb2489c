"""``onnx:FILE``: vectors from an ONNX network through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from tllboost.errors import UsageError, WeightsError
from tllboost.vectorizers.base import loaded, usable_cores
from tllboost.vectorizers.looks import LOOK_OPTIONS, WHOLE
from tllboost.vectorizers.network import NetworkVectorizer, pooled
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
    FITS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
)
from tllboost.vectorizers.spec import Spec, one_of, positive, three_numbers, truth
from tllboost.vectorizers.weights import first_line, local_file, sha256_of

__all__ = ["OnnxVectorizer"]

_DEFAULT_SIZE = 224
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxVectorizer(NetworkVectorizer):
    """Vectors of an ONNX file with one image input.

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
    layout : {"nchw", "nhwc"}, optional
        Order of the input's axes; by default read from its shape.
    normalize : bool, default=False
        Whether vectors are scaled to length 1.
    cells : int, optional
        Take cells x cells squares of an output that is a map, instead of its mean:
        the mean of each, at length 1, concatenated.
    trim, flip, views : bool, bool, sequence of str
        See `Looks`; by default the image as it is.
    n_threads : int, optional
        Threads of one forward pass; by default all cores that this process may use.
    device : str, default="auto"
        ``cuda`` and ``auto`` use the CUDA provider where ONNX Runtime has it.

    Examples
    --------
    >>> OnnxVectorizer("weights/net.onnx", size=160).label
    'onnx:net?size=160'
    """

    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        "size": positive,
        "mean": three_numbers,
        "std": three_numbers,
        "fit": one_of(*FITS),
        "output": str,
        "layout": one_of("nchw", "nhwc"),
        "normalize": truth,
        "cells": positive,
        **LOOK_OPTIONS,
        "n_threads": positive,
    }

    def __init__(
        self,
        file: str | Path,
        *,
        size: int | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        fit: str = "crop",
        output: str | None = None,
        layout: str | None = None,
        normalize: bool = False,
        cells: int | None = None,
        trim: bool = False,
        flip: bool = False,
        views: tuple[str, ...] = WHOLE,
        n_threads: int | None = None,
        device: str = "auto",
    ) -> None:
        self.file = file
        self.size = size
        self.mean = mean
        self.std = std
        self.fit = fit
        self.output = output
        self.layout = layout
        self.normalize = normalize
        self.cells = cells
        self.trim = trim
        self.flip = flip
        self.views = views
        self.n_threads = n_threads
        self.device = device

    @classmethod
    def from_spec(cls, spec: Spec, *, device: str, offline: bool) -> Self:
        """Build one from ``onnx:FILE``."""
        if not spec.rest:
            msg = f"{spec.text!r} names no file: write onnx:FILE"
            raise UsageError(msg)
        return cls(spec.rest, **spec.typed_options(cls.OPTIONS), device=device)

    @property
    def name(self) -> str:
        """The spelling without options."""
        return f"onnx:{self.file}"

    @property
    def short_name(self) -> str:
        """The name for tables: the file's stem."""
        return f"onnx:{Path(self.file).stem}"

    @loaded
    def fingerprint(self) -> str:  # type: ignore[override]
        """Tell what the vectors depend on."""
        from importlib.metadata import version

        cells = f"|cells={self.cells}" if self.cells else ""
        return (
            f"onnx|{self._weights_id}|{self.preprocessing}|{self._layout}"
            f"|output={self._output.name}|unit={self.normalize}|float32"
            f"|onnxruntime {version('onnxruntime').split('.')[0]}{cells}{self.looks}"
        )

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return what the network makes of prepared images, as it is."""
        if self._layout == "nhwc":
            batch = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        rows = [self._run(block) for block in self._blocks(batch)]
        return np.concatenate(rows)[: len(batch)]

    @loaded
    def preprocessing(self) -> Preprocessing:  # type: ignore[override]
        """How an image becomes the network's input."""
        stated = stated_numbers(self._session, what=self.name)
        return Preprocessing(
            size=self._input_size(stated.get("size")),
            fit=self.fit,
            mean=self.mean or stated.get("mean") or IMAGENET_MEAN,
            std=self.std or stated.get("std") or IMAGENET_STD,
        )

    def _input_size(self, stated: tuple[float, ...] | None) -> tuple[int, int]:
        shape = self._input.shape
        fixed = shape[2:4] if self._layout == "nchw" else shape[1:3]
        fixed = tuple(
            side if isinstance(side, int) and side > 0 else None for side in fixed
        )
        side = self.size or (int(stated[0]) if stated else None)
        size = tuple(known or side or _DEFAULT_SIZE for known in fixed)
        if self.size and size != (self.size, self.size):
            height, width = size
            msg = (
                f"{self.name}: size={self.size}, but the network wants {height}x{width}"
            )
            raise UsageError(msg)
        if max(size) > MAX_SIDE:
            msg = (
                f"{self.name}: an input of {max(size):,} pixels a side; at most "
                f"{MAX_SIDE:,} are allowed"
            )
            raise WeightsError(msg)
        return size[0], size[1]

    @loaded
    def _weights_id(self) -> str:
        file = local_file(self.file, what=self.name)
        return "sha256:" + "+".join(map(sha256_of, [file, *self._data_files]))

    @loaded
    def _data_files(self) -> list[Path]:
        """Files beside it that hold tensors, once the network has been looked over."""
        return check_network(local_file(self.file, what=self.name), what=self.name)

    @loaded
    def _session(self) -> Any:
        self._data_files  # noqa: B018
        return open_session(
            local_file(self.file, what=self.name),
            device=self.device,
            n_threads=self.n_threads or usable_cores(),
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
    def _output(self) -> Any:
        outputs = {one.name: one for one in self._session.get_outputs()}
        if self.output is None:
            return next(iter(outputs.values()))
        if self.output not in outputs:
            known = ", ".join(outputs)
            msg = f"{self.name}: no output {self.output!r}; it has: {known}"
            raise UsageError(msg)
        return outputs[self.output]

    @loaded
    def _layout(self) -> str:
        if self.layout:
            return self.layout
        shape = self._input.shape
        return "nhwc" if shape[3] == 3 and shape[1] != 3 else "nchw"

    def _blocks(self, batch: np.ndarray) -> list[np.ndarray]:
        """Cut `batch` as the network wants it: some are exported for a fixed number."""
        n_fixed = self._input.shape[0]
        if not isinstance(n_fixed, int) or n_fixed < 1:
            on_cpu = self._session.get_providers()[0] == "CPUExecutionProvider"
            size = CPU_BLOCK if on_cpu else len(batch)
            return [batch[i : i + size] for i in range(0, len(batch), size)]
        blocks = [batch[i : i + n_fixed] for i in range(0, len(batch), n_fixed)]
        missing = n_fixed - len(blocks[-1])
        blocks[-1] = np.concatenate(
            [blocks[-1], np.repeat(blocks[-1][-1:], missing, axis=0)]
        )
        return blocks

    def _run(self, batch: np.ndarray) -> np.ndarray:
        feed = {self._input.name: batch.astype(_FLOATS[self._input.type], copy=False)}
        session, output = self._session, self._output.name
        try:
            (vectors,) = session.run([output], feed)
        except Exception as error:
            raise RuntimeError(first_line(error)) from error
        if self.cells is not None and vectors.ndim != 4:
            raise self._no_map(vectors.shape)
        vectors = pooled(
            vectors,
            self.cells,
            channels_last=self._layout == "nhwc",
            what=f"{self.name}: output {self._output.name!r}",
        )
        if vectors.ndim != 2 or len(vectors) != len(batch):
            msg = (
                f"{self.name}: output {self._output.name!r} of shape {vectors.shape} "
                "is not one vector an image; choose another by ?output=NAME"
            )
            raise WeightsError(msg)
        return vectors.astype(np.float32, copy=False)

    @property
    def _last_map(self) -> str | None:
        return last_map(local_file(self.file, what=self.name), what=self.name)

    def _no_map(self, shape: tuple[int, ...]) -> UsageError:
        inside = self._last_map or "NAME"
        return UsageError(
            f"{self.name}: cells={self.cells} needs a map of four axes, and output "
            f"{self._output.name!r} has shape {shape}: choose another output, or a "
            f"tensor inside, by ?output={inside}"
        )
