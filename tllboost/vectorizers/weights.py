"""Files of weights: find or fetch them, read them without running code.

A file is named by the sha256 of its bytes. Published ones come from the local cache,
else over the network, without long waits.
"""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from tllboost.errors import WHY, HubError, WeightsError, first_line, retold
from tllboost.vectorizers.base import is_on

__all__ = ["first_line", "local_file", "read_weights", "sha256_of"]


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
    file = Path(os.path.expanduser(path))
    if file.is_file():
        if os.access(file, os.R_OK):
            return file
        msg = f"{what}: no permission to read {str(path)!r}"
    elif file.exists():
        msg = f"{what}: {str(path)!r} is not a file"
    else:
        msg = f"{what}: there is no file {str(path)!r}"
        if "+" in str(path):
            msg += " (a '+' joins vectorizers only where the name of a kind follows it)"
    raise WeightsError(msg)


def read_weights(path: Path, *, what: str) -> dict[str, Any]:
    """Return the tensors of a ``.safetensors`` or PyTorch file, on the CPU.

    Nothing in the file is executed: PyTorch files are read with ``weights_only``, and
    of TorchScript files those are refused that run code when they are loaded.

    Raises
    ------
    WeightsError
        If the file is damaged, or holds anything but tensors.
    """
    remedy = "give a .safetensors file or a PyTorch file of tensors only"
    text = f"{what}: {str(path)!r} can't be read as weights ({WHY}); {remedy}"
    with retold(text, WeightsError):
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = _read_torch(path)
    return _tensors_of(state, path, what)


def _read_torch(path: Path) -> Any:
    import torch

    names = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else ()
    if not any(name.endswith("/constants.pkl") for name in names):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            if "weights_only" not in str(error):
                raise
            msg = "not tensors alone"  # torch's own text is a page on how to trust it
            raise ValueError(msg) from error
    # How OpenAI published CLIP. Its tensors are read; its code is not run: loading
    # calls `__setstate__` of a module that has one, which may write files. Looked for
    # through torch's own reader, so that both see the same archive.
    reader = torch._C.PyTorchFileReader(str(path))
    if any(b"__setstate__" in reader.get_record(n) for n in reader.get_all_records()):
        msg = "it would run code of its own"
        raise ValueError(msg)
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.load(path, map_location="cpu").state_dict()


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


def loading_into(what: str, source: Path) -> AbstractContextManager[None]:
    """Turn whatever goes wrong while a network is built of tensors into one line.

    Raises
    ------
    WeightsError
        If tensors are missing, left over or of another shape, or a library is absent.
    """
    text = f"{what}: {str(source)!r} can't be loaded into this network: {WHY}"
    return retold(text, WeightsError)


_PROBE_SECONDS = 5


def fetch(
    cached: object, download: Callable[[], str], *, url: str, what: str, offline: bool
) -> Path:
    """Return a published file: from the local cache, else over the network.

    Parameters
    ----------
    cached : object
        Its path, if the cache has it; anything else but a string if it has not.
    download : callable
        Returns its path, or raises.
    url : str
        Where the file can be downloaded by hand. Asked once beforehand, because
        downloaders try an unreachable host for half a minute.
    what : str
        Who asks, for messages.
    offline : bool
        Whether the network must not be asked.

    Raises
    ------
    HubError
        If it can't be had.
    """
    if isinstance(cached, str):
        return Path(cached)
    remedy = (
        f"download {url} on another machine, put it into any folder here, and give "
        f"the file: {what}@FILE"
    )
    if offline or is_on("TLLBOOST_OFFLINE"):
        msg = f"{what}: weights are not in the local cache, and offline; {remedy}"
        raise HubError(msg)
    from huggingface_hub.utils import get_session

    with retold(f"{what}: weights can't be downloaded ({WHY}); {remedy}", HubError):
        # Asked once, through whatever proxy the downloader would use.
        get_session().head(url, timeout=_PROBE_SECONDS)
        return Path(download())


def fetch_from_hub(repository: str, names: Sequence[str], **how: Any) -> Path:
    """Return the first of these files that a repository of the Hugging Face hub has.

    `what` and `offline` are as in :func:`fetch`.

    Raises
    ------
    HubError
        If there is none.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    def download() -> str:
        failure: Exception = FileNotFoundError(repository)
        for name in names:
            try:
                return hf_hub_download(repository, name)
            except Exception as error:
                failure = error
        raise failure

    cached = None
    with suppress(ValueError):  # no name that a repository can have
        # Not by local_files_only: that asks the hub about other things.
        found = (try_to_load_from_cache(repository, name) for name in names)
        cached = next((one for one in found if isinstance(one, str)), None)
    url = f"{constants.ENDPOINT}/{repository}/resolve/main/{names[0]}"
    return fetch(cached, download, url=url, **how)
