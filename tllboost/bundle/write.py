"""The zip file of a bundle, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tllboost.bundle.limits import MANIFEST
from tllboost.bundle.manifest import manifest_bytes
from tllboost.errors import DataError
from tllboost.vectorizers.weights import sha256_of
from tllboost.whole_file import whole_file

__all__ = ["write_archive"]

_CHUNK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_archive(
    path: str | os.PathLike[str],
    manifest: dict[str, Any],
    members: Mapping[str, bytes],
    files: Mapping[str, Path],
) -> None:
    """Write a bundle under a temporary name and rename it, whole, into place.

    Parameters
    ----------
    path : path-like
        Where to; what is there is replaced.
    manifest : dict
        Without ``members``, which is filled in.
    members : mapping of str to bytes
        Members from memory, deflated.
    files : mapping of str to Path
        Members from files, stored as they are.

    Raises
    ------
    DataError
        If it can't be written.
    """
    target = Path(path)
    records = {name: _record(data) for name, data in members.items()}
    for name, file in files.items():
        records[name] = {"sha256": sha256_of(file), "size": file.stat().st_size}
    blob = manifest_bytes({**manifest, "members": records})
    with whole_file(target) as opened:
        _write(opened, {MANIFEST: blob, **members}, files, records)


def _write(
    file: BinaryIO,
    members: Mapping[str, bytes],
    files: Mapping[str, Path],
    records: Mapping[str, Any],
) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
        for name, source in files.items():
            digest = hashlib.sha256()
            info = zipfile.ZipInfo(name, _EPOCH)
            with source.open("rb") as opened, archive.open(info, "w") as member:
                while chunk := opened.read(_CHUNK):
                    digest.update(chunk)
                    member.write(chunk)
            if digest.hexdigest() != records[name]["sha256"]:
                msg = f"{str(source)!r} changed while it was written to the bundle"
                raise DataError(msg)


def _record(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
