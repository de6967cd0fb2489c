"""Where the networks of bundles are unpacked: by content, in the user's own cache."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from tllboost.errors import DataError
from tllboost.vectorizers.weights import sha256_of
from tllboost.whole_file import whole_file

__all__ = ["unpacked"]


def unpacked(read: Callable[[], Iterable[bytes]], *, name: str, sha256: str) -> Path:
    """Return a file that holds a network, written unless it is there already.

    Parameters
    ----------
    read : callable
        Gives the network piece by piece, and raises at its end if it is not what it
        should be.
    name : str
        A plain file name.
    sha256 : str
        Of the whole; the file is trusted only if it has it.

    Raises
    ------
    DataError
        If it can be written nowhere.
    """
    for folder in (_cache, _temporary):
        try:
            target = folder() / sha256 / name
            if target.is_file() and sha256_of(target) == sha256:
                return target
            with whole_file(target) as file:
                file.writelines(read())
        except (OSError, DataError) as error:
            reason = str(error)
        else:
            return target
    msg = f"can't unpack the network {name!r} of the bundle ({reason})"
    raise DataError(msg)


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("tllboost") / "networks"


@functools.cache
def _temporary() -> Path:
    """Return a folder that ends with this process, for homes that can't be written."""
    folder = tempfile.mkdtemp(prefix="tllboost-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
