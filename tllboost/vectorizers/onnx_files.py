"""The files that an ONNX network keeps its big tensors in, beside the ``.onnx``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tllboost.errors import WeightsError

__all__ = ["external_files"]


def external_files(file: Path, *, what: str) -> list[Path]:
    """Return the data files that `file` refers to, sorted; mostly none.

    Raises
    ------
    WeightsError
        If `file` is no ONNX model, or one of them is absent or elsewhere.
    """
    import onnx

    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as error:
        msg = f"{what}: {str(file)!r} is not an ONNX model"
        raise WeightsError(msg) from error
    names = sorted(
        {
            entry.value
            for tensor in _tensors(model.graph)
            if tensor.data_location == onnx.TensorProto.EXTERNAL
            for entry in tensor.external_data
            if entry.key == "location"
        }
    )
    return [_beside(file, name, what) for name in names]


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            if attribute.g.node:
                yield from _tensors(attribute.g)


def _beside(file: Path, name: str, what: str) -> Path:
    data = file.parent / name
    if not data.resolve().is_relative_to(file.parent.resolve()):
        msg = f"{what}: {str(file)!r} refers to {name!r}, outside of its own folder"
        raise WeightsError(msg)
    if not data.is_file():
        msg = f"{what}: {str(file)!r} needs its data file {name!r} beside it"
        raise WeightsError(msg)
    return data
