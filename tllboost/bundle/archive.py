"""The zip file of a bundle, read with suspicion.

Nothing is believed before it is checked: names, number and sizes of the members, then
the manifest, then the sha256 of each member. No name in the file ever becomes a path.

The zip file of a bundle, written whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from tllboost.bundle.manifest import (
    MANIFEST,
    manifest_bytes,
    parse_manifest,
    size_limit,
)
from tllboost.errors import BundleError, DataError
from tllboost.files import whole_file
from tllboost.vectorizers.weights import first_line, sha256_of

__all__ = ["Archive", "write_archive"]

_CHUNK = 1 << 20
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,  # of zipfile, where an entry disagrees with the directory
)


class Archive:
    """A bundle's file, open for reading; use it in a ``with`` block.

    Parameters
    ----------
    path : path-like
        The bundle.

    Attributes
    ----------
    manifest : dict
        Checked, see :func:`~tllboost.bundle.manifest.parse_manifest`.

    Raises
    ------
    DataError
        If there is no such file, or it can't be read.
    BundleError
        If it is no bundle, or not one to be used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.what = str(path)
        file = _open_regular(path)
        try:
            self._file = file
            self._zip = self._opened(file)
            entries = self._checked_entries()
            data = b"".join(self._chunks(entries[MANIFEST]))
            self.manifest = parse_manifest(data, what=self.what)
            self._match(entries)
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

    def read(self, name: str) -> bytes:
        """Return the bytes of a member, which are those that the manifest names."""
        return b"".join(self.verified_chunks(name))

    def verified_chunks(self, name: str) -> Iterator[bytes]:
        """Yield a member piece by piece; raise at its end if it is not as recorded."""
        wanted = self.manifest["members"][name]["sha256"]
        digest = hashlib.sha256()
        for chunk in self._chunks(self._zip.getinfo(name)):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != wanted:
            raise self._refused(name, "was changed: its sha256 is another")

    def verify(self) -> None:
        """Read every member once and compare its sha256 with the manifest's."""
        for name in self.manifest["members"]:
            for _ in self.verified_chunks(name):
                pass

    def _opened(self, file: BinaryIO) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(file)
        except Exception as error:  # a hostile directory fails in many ways
            msg = (
                f"{self.what}: is not a bundle, or a damaged one ({first_line(error)})"
            )
            raise BundleError(msg) from error

    def _checked_entries(self) -> dict[str, zipfile.ZipInfo]:
        """Return the members by name once each is one that a bundle may have."""
        entries: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            problem = _problem(info)
            if info.filename in entries:
                problem = "stands twice"
            if problem:
                raise self._refused(info.orig_filename, problem)
            entries[info.filename] = info
        if MANIFEST not in entries:
            raise self._refused(MANIFEST, "is missing")
        # Members that lie over each other unpack to any multiple of the file.
        packed = sum(info.compress_size for info in entries.values())
        if packed > os.fstat(self._file.fileno()).st_size:
            msg = f"{self.what}: its members lie over each other: not to be used"
            raise BundleError(msg)
        return entries

    def _match(self, entries: Mapping[str, zipfile.ZipInfo]) -> None:
        """Raise unless the members are exactly those that the manifest lists."""
        listed = self.manifest["members"]
        for name in sorted(set(listed) - set(entries)):
            raise self._refused(name, "is missing")
        for name in sorted(set(entries) - set(listed) - {MANIFEST}):
            raise self._refused(name, "is not in the manifest")
        for name, record in listed.items():
            if entries[name].file_size != record["size"]:
                raise self._refused(name, "was changed: its size is another")

    def _chunks(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        """Yield what a member holds, never more than it declares."""
        try:
            with self._zip.open(info) as member:
                while chunk := member.read(_CHUNK):
                    yield chunk
        except _DAMAGE as error:
            reason = f"is damaged ({first_line(error)})"
            raise self._refused(info.filename, reason) from error

    def _refused(self, member: str, reason: str) -> BundleError:
        name = repr(member[:100])
        return BundleError(f"{self.what}: member {name} {reason}: not to be used")


def _problem(info: zipfile.ZipInfo) -> str | None:
    """Return why a bundle can't have such a member."""
    # The name as it stands in the file: zipfile cuts it at a NUL.
    if info.orig_filename != info.filename or not size_limit(info.filename):
        return "has no place in a bundle"
    if info.file_size > (limit := size_limit(info.filename)):
        return f"has {info.file_size:,} bytes, at most {limit:,} are allowed"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in a way that bundles don't use"
    # Networks are large and many, and unpacked to files: they take no more room there.
    if info.filename.startswith("network/") and info.compress_type:
        return "is compressed, which networks in bundles are not"
    return None


def _open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file, never waiting on a FIFO or a device."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            msg = f"{path}: is not a regular file; a bundle is one"
            raise DataError(msg)
        return open(path, "rb")
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = getattr(error, "strerror", None) or error
        msg = f"{path}: the bundle can't be read ({reason})"
        raise DataError(msg) from error


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
    records: dict[str, Any] = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in members.items()
    }
    for name, file in files.items():
        records[name] = {"sha256": sha256_of(file), "size": file.stat().st_size}
    blob = manifest_bytes({**manifest, "members": records})
    with whole_file(path) as opened, zipfile.ZipFile(opened, "w") as archive:
        for name, data in {MANIFEST: blob, **members}.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
        for name, source in files.items():
            digest = hashlib.sha256()
            info = zipfile.ZipInfo(name, _EPOCH)
            with source.open("rb") as original, archive.open(info, "w") as member:
                while chunk := original.read(_CHUNK):
                    digest.update(chunk)
                    member.write(chunk)
            if digest.hexdigest() != records[name]["sha256"]:
                msg = f"{str(source)!r} changed while it was written to the bundle"
                raise DataError(msg)
