"""Open ONNX files: the session, its maps, what the file says of its pixels."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from tllboost.errors import UsageError, WeightsError
from tllboost.vectorizers.onnx_checks import read_model
from tllboost.vectorizers.weights import first_line

__all__ = ["CPU_BLOCK", "last_map", "open_session", "stated_numbers"]

CPU_BLOCK = 4
"""Pictures that a CPU runs at once: of more, the numbers between two layers leave its
caches (MobileNetV2 takes a fifth longer at 16)."""

_POOLINGS = ("GlobalAveragePool", "ReduceMean", "GlobalMaxPool", "ReduceMax")
_LARGEST = 1e6  # of a mean, a deviation or a side: no NaN, nothing infinite
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
    options.log_severity_level = 4  # what it says is in the exception too
    # Threads that wait by spinning take the cores from those that decode: a quarter.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(device, onnxruntime.get_available_providers())
    # Where tensors in files beside it are found for a network given as bytes.
    beside = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(beside, str(file.parent.absolute()))
    # Whatever its name: the other format is not the one that was looked over.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if _limit_memory():
        options.add_session_config_entry("session.use_env_allocators", "1")
    network = (_with_output(file, output, what) if output else None) or str(file)
    try:
        return onnxruntime.InferenceSession(network, options, providers=providers)
    except Exception as error:
        msg = f"{what}: ONNX Runtime can't load it ({first_line(error)})"
        raise WeightsError(msg) from error


@functools.cache
def _limit_memory() -> bool:
    """Keep all networks of this process below the memory that is there.

    A few bytes of ONNX can ask for any amount; the system would rather kill somebody
    than say no.
    """
    import onnxruntime as ort
    import psutil

    limit = psutil.virtual_memory().available * 3 // 4
    arena = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    info = ort.OrtMemoryInfo("Cpu", arena, 0, ort.OrtMemType.DEFAULT)
    try:
        config = ort.OrtArenaCfg({"max_mem": limit, "arena_extend_strategy": 0})
        ort.create_and_register_allocator(info, config)
    except Exception:  # somebody else's limit is there already, or none can be
        return False
    return True


def last_map(file: Path, *, what: str) -> str | None:
    """Return the name of what a network pools last, which mostly is its last map."""
    nodes = read_model(file, what=what).graph.node
    pooled = (node.input[0] for node in reversed(nodes) if node.op_type in _POOLINGS)
    return next(pooled, None)


def _with_output(file: Path, output: str, what: str) -> bytes | None:
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
    numbers = {}
    for key in _LENGTHS.keys() & metadata.keys():
        try:
            numbers[key] = tuple(float(part) for part in metadata[key].split(","))
        except ValueError:
            numbers[key] = ()
        usable = all(abs(number) < _LARGEST for number in numbers[key])
        if len(numbers[key]) not in _LENGTHS[key] or not usable:
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
