"""``onnx:FILE``: vectors from an ONNX network through ONNX Runtime.

The file may be a stranger's. What could run other code, never end, read other files or
take all memory is refused before ONNX Runtime sees it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.conventions import usable_cores
from tllboost.errors import UsageError, WeightsError
from tllboost.registry import Option, option, positive, truth
from tllboost.vectorizers.base import FileVectorizer, library, loaded
from tllboost.vectorizers.exported import CPU_BLOCK, open_session
from tllboost.vectorizers.network import NetworkVectorizer, fits
from tllboost.vectorizers.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from tllboost.vectorizers.weights import first_line, local_file, sha256_of

_DEFAULT_SIZE = 224
_three_numbers = Option(
    "three numbers joined by commas, one for each channel",
    lambda text: tuple(map(float, text.split(","))),
    lambda numbers: len(numbers) == 3,
)
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_MAX_SIDE = 8_192  # pixels of a network's input
_MAX_BATCH = 1_024
_MAX_INPUT = 2**28  # numbers of a batch of fixed size: 1 GiB
_MAX_ELEMENTS = 2**33  # of a tensor in the file, which protobuf can't hold anyway
_EXTERNAL = 1  # TensorProto.EXTERNAL
_TENSORS = ("TensorProto", "SparseTensorProto")

# What ONNX Runtime itself brings. Operators of any other domain are somebody's library.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
# Opens a compiled file of the model's choice, outside of what is checked here.
_OPENS_FILES = ("EPContext",)
# As many rounds as the model likes, over no data if it likes: nobody can tell whether
# they end. Networks of images have none.
_REPEATS = (
    *("Loop", "Scan", "SequenceMap"),
    *("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"),
)


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

    _: KW_ONLY
    size: int | None = option(None, positive)
    mean: tuple[float, ...] | None = option(None, _three_numbers)
    std: tuple[float, ...] | None = option(None, _three_numbers)
    fit: str = option("crop", fits)
    output: str | None = option(None, str)
    normalize: bool = option(False, truth)
    cells: int | None = option(None, positive)
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
        n_images = len(batch)
        if self._layout == "nhwc":
            batch = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        size = self._input.shape[0]
        if isinstance(size, int) and size > 0:  # exported for a fixed number
            missing = -len(batch) % size
            batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        elif self._session.get_providers()[0] == "CPUExecutionProvider":
            size = CPU_BLOCK
        else:
            size = len(batch)
        blocks = [batch[i : i + size] for i in range(0, len(batch), size)]
        return np.concatenate([self._run(block) for block in blocks])[:n_images]

    @loaded
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input."""
        stated = stated_numbers(self._session, what=self.name)
        return Preprocessing(
            size=self._side_lengths(int(stated.get("size", (_DEFAULT_SIZE,))[0])),
            fit=self.fit,
            mean=self.mean or stated.get("mean") or IMAGENET_MEAN,
            std=self.std or stated.get("std") or IMAGENET_STD,
        )

    def _side_lengths(self, stated: int) -> tuple[int, int]:
        """Return height and width of the input: its own, else as asked or stated.

        Raises
        ------
        WeightsError
            If no image can be as large as the network wants it.
        """
        found = self._input.shape
        shape = [one if isinstance(one, int) and one > 0 else None for one in found]
        sides = slice(2, 4) if self._layout == "nchw" else slice(1, 3)
        height, width = (one or self.size or stated for one in shape[sides])
        if self.size and (height, width) != (self.size, self.size):
            msg = (
                f"{self.name}: size={self.size}, but the network wants {height}x{width}"
            )
            raise UsageError(msg)
        shape[sides] = height, width
        batch, *numbers = (one or 1 for one in shape)
        too_large = max(numbers) > _MAX_SIDE or batch > _MAX_BATCH
        if too_large or math.prod([batch, *numbers]) > _MAX_INPUT:
            msg = (
                f"{self.name}: its input of shape {found}, here {height}x{width}, is "
                f"absurd: at most {_MAX_BATCH:,} images of {_MAX_SIDE:,} pixels a "
                f"side, and {_MAX_INPUT:,} numbers in all"
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
        network = self.output and with_output(self._file, self.output, what=self.name)
        return open_session(
            self._file,
            device=self.device,
            n_threads=usable_cores(),
            what=self.name,
            network=network or None,
        )

    @loaded
    def _input(self) -> Any:
        inputs = self._session.get_inputs()
        fits = [one for one in inputs if len(one.shape) == 4 and one.type in _FLOATS]
        if len(fits) == len(inputs) == 1:
            return fits[0]
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
            vectors = self.pooled(vectors) if self.cells else vectors.mean(axis=(2, 3))
        elif self.cells:
            inside = last_map(self._file, what=self.name) or "NAME"
            msg = (
                f"{what} of shape {shape} is not a map of four axes, which "
                f"cells={self.cells} needs: choose another output, or a tensor "
                f"inside, by ?output={inside}"
            )
            raise UsageError(msg)
        elif vectors.ndim == 3:
            vectors = vectors.mean(axis=1)
        if vectors.ndim != 2 or len(vectors) != len(batch):
            msg = (
                f"{what} of shape {shape} is not one vector per image; choose another "
                "by ?output=NAME"
            )
            raise WeightsError(msg)
        return vectors.astype(np.float32, copy=False)


def read_model(file: Path, *, what: str) -> Any:
    """Return the ``ModelProto`` in a file, without the tensors in files beside it.

    Raises
    ------
    WeightsError
        If it is no ONNX model.
    """
    import onnx

    with suppress(Exception):
        model = onnx.load(str(file), load_external_data=False)
        if model.graph.node:
            return model
    msg = f"{what}: {str(file)!r} is not an ONNX model, or one that has no operators"
    raise WeightsError(msg)


def check_network(file: Path, *, what: str) -> list[Path]:
    """Return the data files that a network refers to, sorted; mostly none.

    Parameters
    ----------
    file : Path
    what : str
        Who asks, for messages.

    Raises
    ------
    WeightsError
        If it is no ONNX model, has operators that repeat others or are of a library
        that is not ONNX Runtime's own, tensors of impossible shapes, or data files
        absent or elsewhere.
    """
    model = read_model(file, what=what)
    own = {
        (function.domain, function.name): {
            (one.domain, one.op_type)
            for one in _messages(function)
            if one.DESCRIPTOR.name == "NodeProto"
        }
        for function in model.functions
    }
    names: set[str] = set()
    wrong: list[str] = []
    try:  # ONNX Runtime up to 1.26 crashes
        TopologicalSorter(own).prepare()
    except CycleError:
        wrong.append("it has a function that calls itself")
    for message in _messages(model):
        kind = message.DESCRIPTOR.name
        if kind == "NodeProto":
            wrong += _wrong_operator(message, own)
        elif kind in _TENSORS:
            dims = list(message.dims)
            if min(dims, default=0) < 0 or math.prod(dims) > _MAX_ELEMENTS:
                name = getattr(message, "values", message).name  # sparse: of its values
                wrong.append(
                    f"its tensor {name[:100]!r} has an absurd shape {dims[:8]}"
                )
            # What lies elsewhere is named in tensors alone; a sparse one holds some.
            for one in getattr(message, "external_data", ()):
                if one.key == "location" and message.data_location == _EXTERNAL:
                    names.add(one.value)
    for name in sorted(names):
        data, inside = file.parent / name, False
        # A NUL, too long, a loop of links.
        with suppress(OSError, ValueError, RuntimeError):
            inside = data.resolve().is_relative_to(file.parent.resolve())
        if not inside:
            wrong.append(f"{str(file)!r} refers to {name!r}, outside of its own folder")
        elif not data.is_file():
            wrong.append(f"{str(file)!r} needs its data file {name!r} beside it")
    if wrong:
        msg = f"{what}: {wrong[0]}"
        raise WeightsError(msg)
    return [file.parent / name for name in sorted(names)]


def _messages(message: Any) -> Iterator[Any]:
    """Yield a message of protobuf and all inside of it, wherever they hide."""
    yield message
    if message.DESCRIPTOR.name == "TensorProto":  # the bytes of weights are many
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(inner)


def _wrong_operator(node: Any, own: Collection[tuple[str, str]]) -> Iterator[str]:
    """Say what is wrong with an operator, and what to do about it."""
    name = f"{node.domain}:{node.op_type}"[:100]
    foreign = node.domain not in _DOMAINS or node.op_type in _OPENS_FILES
    if foreign and (node.domain, node.op_type) not in own:
        yield (
            f"has the custom operator {name!r}, which is code of another library; "
            "export it with standard operators"
        )
    elif not foreign and node.op_type in _REPEATS:
        yield (
            f"has the operator {node.op_type!r}, which may run for ever; export it "
            "without loops"
        )


_POOLINGS = ("GlobalAveragePool", "ReduceMean", "GlobalMaxPool", "ReduceMax")
_LARGEST = 1e6  # of a mean, a deviation or a side: no NaN, nothing infinite
_LENGTHS = {"mean": (3,), "std": (3,), "size": (1, 2)}


def last_map(file: Path, *, what: str) -> str | None:
    """Return the name of what a network pools last, which mostly is its last map."""
    nodes = read_model(file, what=what).graph.node
    pooled = (node.input[0] for node in reversed(nodes) if node.op_type in _POOLINGS)
    return next(pooled, None)


def with_output(file: Path, output: str, *, what: str) -> bytes | None:
    """Return the network with a tensor inside as an output too; None if it has none."""
    import onnx

    model = read_model(file, what=what)
    inside = {name for node in model.graph.node for name in node.output}
    if output not in inside - {one.name for one in model.graph.output}:
        return None
    model.graph.output.append(onnx.ValueInfoProto(name=output))
    serialized: bytes = model.SerializeToString()
    return serialized


def stated_numbers(session: Any, *, what: str) -> dict[str, tuple[float, ...]]:
    """Return ``mean``, ``std`` and ``size`` as far as the file's metadata has them.

    Raises
    ------
    WeightsError
        If one of them is not as many numbers as it should be, joined by commas.
    """
    metadata = session.get_modelmeta().custom_metadata_map
    numbers: dict[str, tuple[float, ...]] = {}
    for key in _LENGTHS.keys() & metadata.keys():
        numbers[key] = ()
        with suppress(ValueError):
            numbers[key] = tuple(float(part) for part in metadata[key].split(","))
        usable = all(abs(number) < _LARGEST for number in numbers[key])
        if len(numbers[key]) not in _LENGTHS[key] or not usable:
            msg = (
                f"{what}: metadata {key}={metadata[key]!r} of the file is not "
                f"{_LENGTHS[key][0]} numbers joined by commas"
            )
            raise WeightsError(msg)
    return numbers
