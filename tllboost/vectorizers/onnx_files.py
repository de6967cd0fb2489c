"""Open ONNX files: looked over first, for a file may be a stranger's.

What could run other code, never end, read other files or take all memory is refused
before ONNX Runtime sees it. Beside that: what a file says of its pixels and its maps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tllboost.errors import UsageError, WeightsError
from tllboost.vectorizers.weights import first_line

__all__ = [
    "CPU_BLOCK",
    "MAX_SIDE",
    "check_input",
    "check_network",
    "last_map",
    "open_session",
    "stated_numbers",
]

MAX_SIDE = 8_192
"""Pixels a side of a network's input, at most."""

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
    for message in _messages(model):
        kind = message.DESCRIPTOR.name
        if kind == "NodeProto":
            _check_operator(message, own, what)
        elif kind in _TENSORS:
            _check_shape(message, what)
            # What lies elsewhere is named in tensors alone; a sparse one holds some.
            for one in getattr(message, "external_data", ()):
                if one.key == "location" and message.data_location == _EXTERNAL:
                    names.add(one.value)
    return [_beside(file, name, what) for name in sorted(names)]


def _messages(message: Any) -> Iterator[Any]:
    """Yield a message of protobuf and all inside of it, wherever they hide."""
    yield message
    if message.DESCRIPTOR.name == "TensorProto":  # the bytes of weights are many
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(inner)


def check_input(shape: list[Any], *, what: str) -> None:
    """Raise WeightsError where no image can be as large as a network wants it.

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
            f"images of {MAX_SIDE:,} pixels a side, and {_MAX_INPUT:,} numbers in all"
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
        name = getattr(tensor, "values", tensor).name  # of a sparse one, that of these
        msg = f"{what}: its tensor {name[:100]!r} has an absurd shape {dims[:8]}"
        raise WeightsError(msg)


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


CPU_BLOCK = 4
"""Images that a CPU runs at once: of more, the numbers between two layers leave its
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
    network = (output and _with_output(file, output, what)) or str(file)
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
