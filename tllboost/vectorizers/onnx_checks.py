"""Look an ONNX file over before ONNX Runtime does: it may be a stranger's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tllboost.errors import WeightsError

__all__ = ["MAX_SIDE", "check_input", "check_network", "read_model"]

MAX_SIDE = 8_192
"""Pixels a side of a network's input, at most."""

_MAX_BATCH = 1_024
_MAX_INPUT = 2**28  # numbers of a batch of fixed size: 1 GiB
_MAX_ELEMENTS = 2**33  # of a tensor in the file, which protobuf can't hold anyway
_EXTERNAL = 1  # TensorProto.EXTERNAL

# What ONNX Runtime itself brings. Operators of any other domain are somebody's library.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
# Opens a compiled file of the model's choice, outside of what is checked here.
_OPENS_FILES = ("EPContext",)
# As many rounds as the model likes, over no data if it likes: nobody can tell whether
# they end. Networks of pictures have none.
_REPEATS = (
    *("Loop", "Scan", "SequenceMap"),
    *("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"),
)


def read_model(file: Path, *, what: str) -> Any:
    """Return the ``ModelProto`` in a file, without the tensors in files beside it.

    Raises
    ------
    WeightsError
        If it is no ONNX model.
    """
    import onnx

    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as error:
        msg = f"{what}: {str(file)!r} is not an ONNX model"
        raise WeightsError(msg) from error
    if not model.graph.node:
        msg = f"{what}: {str(file)!r} is not an ONNX model: it has no operators"
        raise WeightsError(msg)
    return model


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
    own = {(one.domain, one.name) for one in model.functions}
    names = set()
    for graph in (model.graph, *model.functions):
        for node in _nodes(graph):
            _check_operator(node, own, what)
        for tensor in _tensors(graph):
            _check_shape(tensor, what)
            if tensor.data_location == _EXTERNAL:
                names |= {
                    one.value for one in tensor.external_data if one.key == "location"
                }
    return [_beside(file, name, what) for name in sorted(names)]


def check_input(shape: list[Any], *, what: str) -> None:
    """Raise WeightsError where no picture can be as large as a network wants it.

    Examples
    --------
    >>> check_input(["n", 3, 224, 224], what="onnx:net")
    >>> check_input(["n", 3, 10**6, 10**6], what="onnx:net")
    Traceback (most recent call last):
      ...
    tllboost.errors.WeightsError: onnx:net: its input of shape ['n', 3, 1000000, ...
    """
    batch, *sides = (one if isinstance(one, int) and one > 0 else 1 for one in shape)
    too_large = max(sides) > MAX_SIDE or batch > _MAX_BATCH
    if too_large or math.prod([batch, *sides]) > _MAX_INPUT:
        msg = (
            f"{what}: its input of shape {shape} is absurd: at most {_MAX_BATCH:,} "
            f"pictures of {MAX_SIDE:,} pixels a side, and {_MAX_INPUT:,} numbers in all"
        )
        raise WeightsError(msg)


def _check_operator(node: Any, own: set[tuple[str, str]], what: str) -> None:
    known = node.domain in _DOMAINS and node.op_type not in _OPENS_FILES
    if not known and (node.domain, node.op_type) not in own:
        name = f"{node.domain}:{node.op_type}"[:100]
        msg = (
            f"{what}: has the custom operator {name!r}, which is code of another "
            "library: not to be used; export it with standard operators"
        )
        raise WeightsError(msg)
    if known and node.op_type in _REPEATS:
        msg = (
            f"{what}: has the operator {node.op_type!r}, which may run for ever: not "
            "to be used; export it without loops"
        )
        raise WeightsError(msg)


def _check_shape(tensor: Any, what: str) -> None:
    dims = list(tensor.dims)
    if min(dims, default=0) < 0 or math.prod(dims) > _MAX_ELEMENTS:
        msg = f"{what}: its tensor {tensor.name[:100]!r} has an absurd shape {dims[:8]}"
        raise WeightsError(msg)


def _nodes(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph or function, those inside of others too."""
    for node in graph.node:
        yield node
        for inner in _inner_graphs(node):
            yield from _nodes(inner)


def _inner_graphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield the tensors that lie in a graph or function, wherever they hide."""
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from _parts(sparse)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from _parts(sparse)
        for inner in _inner_graphs(node):
            yield from _tensors(inner)


def _parts(sparse: Any) -> Iterator[Any]:
    """Yield a sparse tensor as it will be when it is dense, and what it is made of."""
    yield _Dense(sparse)
    yield sparse.values
    yield sparse.indices


class _Dense:
    """The shape that a sparse tensor says it has; it holds nothing itself."""

    data_location = 0

    def __init__(self, sparse: Any) -> None:
        self.dims = sparse.dims
        self.name = sparse.values.name


def _beside(file: Path, name: str, what: str) -> Path:
    data = file.parent / name
    try:
        inside = data.resolve().is_relative_to(file.parent.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL, too long, a loop of links
        inside = False
    if not inside:
        msg = f"{what}: {str(file)!r} refers to {name!r}, outside of its own folder"
        raise WeightsError(msg)
    if not data.is_file():
        msg = f"{what}: {str(file)!r} needs its data file {name!r} beside it"
        raise WeightsError(msg)
    return data
