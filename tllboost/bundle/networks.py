"""Where the networks of bundles lie: given, or unpacked into the user's own cache."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from tllboost.bundle.archive import Archive
from tllboost.errors import BundleError, DataError, WeightsError
from tllboost.vectorizers.weights import local_file, sha256_of
from tllboost.whole_file import whole_file

__all__ = ["network_files"]

FilePath = str | PathLike[str]


def network_files(
    archive: Archive,
    parts: Iterable[Mapping[str, Any]],
    weights: FilePath | Iterable[FilePath] | None,
) -> list[Path | None]:
    """Return where the network of each part lies, None where that is not known.

    Parameters
    ----------
    archive : Archive
        The bundle.
    parts : iterable of mapping
        The parts of its vectorizers, as the manifest has them.
    weights : path-like or several, or None
        Files of this machine, told apart by their sha256.

    Raises
    ------
    WeightsError
        If a file of `weights` is none that the parts name.
    BundleError
        If a network should be in the bundle and is not.
    """
    files = [part["file"] for part in parts]
    wanted = {file["sha256"]: file["name"] for file in files if file is not None}
    given = {}
    for one in _several(weights):
        path = local_file(Path(one), what=archive.what)
        sha256 = sha256_of(path)
        if sha256 not in wanted:
            names = ", ".join(f"{n} ({s[:12]}…)" for s, n in wanted.items()) or "none"
            msg = (
                f"{archive.what}: {str(one)!r} (sha256 {sha256[:12]}…) is no network "
                f"of this bundle; it has: {names}"
            )
            raise WeightsError(msg)
        given[sha256] = path
    return [_network(archive, file, given) for file in files]


def _several(weights: FilePath | Iterable[FilePath] | None) -> list[FilePath]:
    if weights is None:
        return []
    return [weights] if isinstance(weights, str | PathLike) else list(weights)


def _network(
    archive: Archive, file: Mapping[str, Any] | None, given: Mapping[str, Path]
) -> Path | None:
    if file is None:
        return None
    if file["sha256"] in given or not file["embedded"]:
        return given.get(file["sha256"])
    member = f"network/{file['name']}"
    record = archive.manifest["members"].get(member)
    if record is None or record["sha256"] != file["sha256"]:
        msg = f"{archive.what}: network {file['name']!r} is not in it: not to be used"
        raise BundleError(msg)
    return _unpacked(
        lambda: archive.verified_chunks(member),
        name=file["name"],
        sha256=file["sha256"],
    )


def _unpacked(read: Callable[[], Iterable[bytes]], *, name: str, sha256: str) -> Path:
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
