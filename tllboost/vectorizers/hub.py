"""Published weights: from the local cache, else the network, without long waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tllboost.errors import HubError
from tllboost.vectorizers.switches import is_on
from tllboost.vectorizers.weights import first_line

__all__ = ["fetch", "fetch_from_hub", "is_offline"]

_PROBE_SECONDS = 5


def is_offline(offline: bool) -> bool:
    """Return whether the network must not be asked, by argument or environment."""
    return offline or is_on("TLLBOOST_OFFLINE")


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
    HubError
        If it is not to be had.
    """
    try:
        return Path(download(True))
    except Exception as error:
        if is_offline(offline):
            msg = f"{what}: weights are not in the local cache, and offline; {remedy}"
            raise HubError(msg) from error
    try:
        _probe(url)
        return Path(download(False))
    except Exception as error:
        msg = f"{what}: weights can't be downloaded ({first_line(error)}); {remedy}"
        raise HubError(msg) from error


def fetch_from_hub(
    repository: str, names: Sequence[str], *, what: str, offline: bool, remedy: str
) -> Path:
    """Return the first of these files that a repository of the Hugging Face hub has.

    Raises
    ------
    HubError
        If none is to be had.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    def download(cached_only: bool) -> str:
        failure: Exception = FileNotFoundError(repository)
        for name in names:
            # Not by local_files_only: that asks the hub about other things.
            cached = try_to_load_from_cache(repository, name)
            if isinstance(cached, str):
                return cached
            if cached_only:
                continue
            try:
                return hf_hub_download(repository, name)
            except Exception as error:
                failure = error
        raise failure

    return fetch(
        download, url=constants.ENDPOINT, what=what, offline=offline, remedy=remedy
    )


def _probe(url: str) -> None:
    """Ask a host once, through whatever proxy the downloader would use."""
    from huggingface_hub.utils import get_session

    get_session().head(url, timeout=_PROBE_SECONDS)
