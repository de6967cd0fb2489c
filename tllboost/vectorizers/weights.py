"""Files of weights: find them, read them without running code, name them by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tllboost.errors import WeightsError

__all__ = [
    "fetch",
    "first_line",
    "is_offline",
    "load_strictly",
    "local_file",
    "read_weights",
    "sha256_of",
]

_PROBE_SECONDS = 5


def sha256_of(path: str | Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local_file(path: str | Path, *, what: str) -> Path:
    """Return `path` if it is a readable regular file.

    Raises
    ------
    WeightsError
        If it is not; `what` says who asked for it.
    """
    file = Path(path).expanduser()
    if file.is_file():
        if os.access(file, os.R_OK):
            return file
        msg = f"{what}: no permission to read {str(path)!r}"
    elif file.exists():
        msg = f"{what}: {str(path)!r} is not a file"
    elif not str(path):
        msg = f"{what}: no file given"
    else:
        msg = f"{what}: there is no file {str(path)!r}"
        if "+" in str(path):
            msg += " (a '+' joins vectorizers only where the name of a kind follows it)"
    raise WeightsError(msg)


def is_offline(offline: bool) -> bool:
    """Return whether the network must not be asked, by argument or environment."""
    spelled = os.environ.get("TLLBOOST_OFFLINE", "").strip().lower()
    return offline or spelled not in {"", "0", "false", "no"}


def read_weights(path: Path, *, what: str) -> dict[str, Any]:
    """Return the tensors of a ``.safetensors`` or PyTorch file, on the CPU.

    Nothing in the file is executed: PyTorch files are read with ``weights_only``.

    Raises
    ------
    WeightsError
        If the file is damaged, or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        import torch

        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        msg = (
            f"{what}: {str(path)!r} can't be read as weights ({first_line(error)}); "
            "give a .safetensors file or a PyTorch file of tensors only"
        )
        raise WeightsError(msg) from error
    return _tensors_of(state, path, what)


def _tensors_of(state: Any, path: Path, what: str) -> dict[str, Any]:
    """Unwrap what training scripts put around the tensors."""
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(
        hasattr(v, "shape") for v in state.values()
    ):
        msg = f"{what}: {str(path)!r} is not a dictionary of names and tensors"
        raise WeightsError(msg)
    return {name.removeprefix("module."): value for name, value in state.items()}


def load_strictly(
    network: Any, state: dict[str, Any], *, what: str, source: str
) -> None:
    """Put `state` into `network`; every tensor must be there and fit.

    Raises
    ------
    WeightsError
        If one is missing, left over or of another shape.
    """
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in state]
    extra = [name for name in state if name not in wanted]
    other = [
        name
        for name in wanted
        if name in state and tuple(state[name].shape) != tuple(wanted[name].shape)
    ]
    if missing or extra or other:
        kinds = (
            ("missing", missing),
            ("left over", extra),
            ("of another shape", other),
        )
        told = ", ".join(
            f"{len(names)} {kind} (first: {names[0]})" for kind, names in kinds if names
        )
        msg = (
            f"{what}: the weights in {source!r} are not of this network: tensors {told}"
        )
        raise WeightsError(msg)
    network.load_state_dict(state, strict=True, assign=True)


def fetch(
    download: Callable[[bool], str | Path],
    *,
    url: str,
    what: str,
    offline: bool,
    remedy: str,
) -> Path:
    """Return a published file: from the local cache, else over the network.

    Parameters
    ----------
    download : callable
        Takes ``cached_only`` and returns the file's path or raises.
    url : str
        An address of the same host, asked once beforehand, because downloaders try an
        unreachable host for half a minute.
    what, remedy : str
        Start and end of the message.
    offline : bool
        Whether the network must not be asked.

    Raises
    ------
    WeightsError
        If it is not to be had.
    """
    try:
        return Path(download(True))
    except Exception as error:
        if is_offline(offline):
            msg = f"{what}: weights are not in the local cache, and offline; {remedy}"
            raise WeightsError(msg) from error
    try:
        _probe(url)
        return Path(download(False))
    except Exception as error:
        msg = f"{what}: weights can't be downloaded ({first_line(error)}); {remedy}"
        raise WeightsError(msg) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its name if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _probe(url: str) -> None:
    """Ask a host once, through whatever proxy the downloader would use."""
    from huggingface_hub.utils import get_session

    get_session().head(url, timeout=_PROBE_SECONDS)
