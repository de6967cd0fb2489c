"""Open ONNX files: the session, what lies inside, what the file says of its pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tllboost.errors import UsageError, WeightsError
from tllboost.vectorizers.weights import first_line

__all__ = ["external_files", "last_map", "open_session", "stated_numbers"]

_POOLINGS = ("GlobalAveragePool", "ReduceMean", "GlobalMaxPool", "ReduceMax")
_LENGTHS = {"mean": (3,), "std": (3,), "size": (1, 2)}


def open_session(
    file: Path, *, device: str, n_threads: int, what: str, output: str | None = None
) -> Any:
    """Return an ``onnxruntime.InferenceSession``.

    `output` may name a tensor inside of the network: the session gives it too.

    Raises
    ------
    WeightsError
        If ONNX Runtime can't load the file.
    UsageError
        If it has no such device.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 3
    providers = _providers(device, onnxruntime.get_available_providers())
    # Where tensors in files beside it are found for a network given as bytes.
    beside = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(beside, str(file.parent.absolute()))
    try:
        network = (_with_output(file, output) if output else None) or str(file)
        return onnxruntime.InferenceSession(network, options, providers=providers)
    except Exception as error:
        msg = f"{what}: ONNX Runtime can't load it ({first_line(error)})"
        raise WeightsError(msg) from error


def last_map(file: Path) -> str | None:
    """Return the name of what a network pools last, which mostly is its last map."""
    import onnx

    nodes = onnx.load(str(file), load_external_data=False).graph.node
    pooled = (node.input[0] for node in reversed(nodes) if node.op_type in _POOLINGS)
    return next(pooled, None)


def _with_output(file: Path, output: str) -> bytes | None:
    """Return the network with a tensor inside as an output too; None if it has none."""
    import onnx

    model = onnx.load(str(file), load_external_data=False)
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
    numbers = {}
    for key in _LENGTHS.keys() & metadata.keys():
        try:
            numbers[key] = tuple(float(part) for part in metadata[key].split(","))
        except ValueError:
            numbers[key] = ()
        if len(numbers[key]) not in _LENGTHS[key]:
            msg = (
                f"{what}: metadata {key}={metadata[key]!r} of the file is not "
                f"{_LENGTHS[key][0]} numbers joined by commas"
            )
            raise WeightsError(msg)
    return numbers


def _providers(device: str, available: list[str]) -> list[Any]:
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    kind, _, index = device.partition(":")
    if kind in {"auto", "cuda"} and cuda in available:
        return [(cuda, {"device_id": int(index or 0)}), cpu]
    if kind in {"auto", "cpu", "mps"}:
        return [cpu]
    msg = f"device {device!r} is not to be had in this ONNX Runtime; choose auto or cpu"
    raise UsageError(msg)


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
