"""Networks that ONNX Runtime runs: opened, and those of torch kept once exported.

On a CPU it runs them at two to six times the speed, and imports in a tenth of the time.
A folder keeps a network under the sha256 of its bytes, and one small record for each
fingerprint: which network, how images become its input, how wide its vectors are. So
whoever knows a fingerprint can run a kept network, without weights and without torch.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.conventions import usable_cores
from tllboost.errors import WHY, UsageError, WeightsError, retold
from tllboost.files import write_bytes, write_json
from tllboost.vectorizers.weights import sha256_of

CPU_BLOCK = 4
"""Images that a CPU runs at once: of more, the numbers between two layers leave its
caches (MobileNetV2 takes a fifth longer at 16)."""


def open_session(
    file: Path, *, device: str, n_threads: int, what: str, network: bytes | None = None
) -> Any:
    """Return an ``onnxruntime.InferenceSession`` of a file, or of `network` from it.

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
    given = network or str(file)
    with retold(f"{what}: ONNX Runtime can't load it ({WHY})", WeightsError):
        return onnxruntime.InferenceSession(given, options, providers=providers)


def runner(file: Path, **how: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Return what runs a network on the CPU: images in, its first output out.

    The arguments are those of :func:`open_session`.
    """
    session = open_session(file, device="cpu", **how)
    pixels = session.get_inputs()[0].name
    return lambda block: session.run(None, {pixels: block})[0]


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


def _providers(device: str, available: list[str]) -> list[Any]:
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    kind, _, index = device.partition(":")
    if kind in {"auto", "cuda"} and cuda in available:
        return [(cuda, {"device_id": int(index or 0)}), cpu]
    if kind in {"auto", "cpu", "mps"}:
        return [cpu]
    msg = f"device {device!r} is not available in this ONNX Runtime; choose auto or cpu"
    raise UsageError(msg)


def in_blocks(
    run: Callable[[np.ndarray], np.ndarray], batch: np.ndarray, n_threads: int
) -> np.ndarray:
    """Return what `run`, of one thread, makes of images: blocks of them side by side.

    Parameters
    ----------
    run : callable
    batch : ndarray of shape (n_images, 3, height, width), float32
    n_threads : int
        Blocks at a time.
    """
    size = min(CPU_BLOCK, -(-len(batch) // n_threads))
    blocks = [batch[i : i + size] for i in range(0, len(batch), size)]
    with ThreadPoolExecutor(n_threads) as threads:
        return np.concatenate(list(threads.map(run, blocks)))


def on_cores(file: Path, *, what: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return what runs a network on all cores: images in, its vectors or maps out.

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
    opened: dict[int, Callable[[np.ndarray], np.ndarray]] = {}

    def run(batch: np.ndarray) -> np.ndarray:
        n_cores = usable_cores()
        n_threads = n_cores if len(batch) < n_cores and 1 not in opened else 1
        if n_threads not in opened:
            opened[n_threads] = runner(file, n_threads=n_threads, what=what)
        if n_threads > 1:
            return opened[n_threads](batch)
        return in_blocks(opened[1], batch, n_cores)

    return run


_VERSION = 3  # raise it when a network exported before must not be used any more
_AT_WORK = 3600.0  # seconds in which a network has long been written


def read_record(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return the record of a fingerprint; None unless it and its network are whole.

    Only what was made and checked with the libraries that are here counts. A record
    whose ``network``, the file, is None says in ``why`` that it can't be exported.
    """
    found = (one for one in read_records(folder) if one["fingerprint"] == fingerprint)
    for record in found:
        with suppress(OSError, KeyError, TypeError):
            if (sha256 := record["network"]) is not None:
                record["network"] = folder / f"{os.path.basename(sha256)}.onnx"
                return record if sha256_of(record["network"]) == sha256 else None
            return record
    return None


def read_records(folder: Path | None) -> Iterator[dict[str, Any]]:
    """Yield the records that the libraries here made, whether they are whole or not."""
    made_with = _made_with()
    for file in folder.glob("*.json") if folder else ():
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(file.read_text(encoding="utf-8"))
            own = file == _record_file(file.parent, record["fingerprint"])
            if own and record["made_with"] == made_with:
                yield record


def keep_network(
    folder: Path, fingerprint: str, network: bytes | None, **record: Any
) -> Path | None:
    """Write a network and its record to the folder that keeps them; return its file.

    Parameters
    ----------
    folder : Path
        Where networks are kept.
    fingerprint : str
        Of the vectorizer.
    network : bytes or None
        What makes its vectors; None where it can't be exported.
    **record
        Whatever else must be known of it.

    Raises
    ------
    DataError
        If one of them can't be written.
    """
    # What a killed process left half written goes once nobody can be at it.
    for partial in folder.glob(".*.part"):
        with suppress(OSError):
            if time.time() - partial.stat().st_mtime > _AT_WORK:
                partial.unlink()
    record |= {"fingerprint": fingerprint, "network": None, "made_with": _made_with()}
    target = None
    if network is not None:
        sha256 = record["network"] = hashlib.sha256(network).hexdigest()
        target = folder / f"{sha256}.onnx"
        if not target.is_file() or sha256_of(target) != sha256:
            write_bytes(target, network)
    write_json(_record_file(folder, fingerprint), record, indent=1)
    return target


def _record_file(folder: Path, fingerprint: str) -> Path:
    key = f"{_VERSION}|{fingerprint}".encode("utf-8", "surrogateescape")
    return folder / f"{hashlib.sha256(key).hexdigest()[:40]}.json"


def _made_with() -> dict[str, str]:
    """Return the versions of what exports: where it failed, others may not."""
    from importlib.metadata import distributions

    names = ("torch", "onnxruntime", "timm", "open_clip_torch")
    return {name: o.version for name in names for o in distributions(name=name)}
