"""The zip file of a bundle: read with suspicion, written whole or not at all.

Nothing is believed before it is checked: names, number and sizes of the members, then
the manifest, then the sha256 of each member. No name in the file ever becomes a path.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tllboost.bundle.manifest import (
    MANIFEST,
    manifest_bytes,
    parse_manifest,
    size_limit,
)
from tllboost.errors import BundleError, DataError
from tllboost.files import whole_file
from tllboost.vectorizers.weights import first_line

__all__ = ["Archive", "open_archive", "write_archive"]

_CHUNK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


@contextmanager
def open_archive(path: str | os.PathLike[str]) -> Iterator[Archive]:
    """Open a bundle for reading.

    Raises
    ------
    DataError
        If there is no such file, or it can't be read.
    BundleError
        If it is no bundle, or not one to be used.
    """
    try:
        # Not opened before: it would wait on a FIFO.
        if not stat.S_ISREG(os.stat(path).st_mode):
            msg = "not a regular file"
            raise ValueError(msg)
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"{path}: the bundle can't be read ({reason})"
        raise DataError(msg) from error
    with file:
        yield Archive(file, str(path))


class Archive:
    """A bundle's open file.

    Attributes
    ----------
    what : str
        Its name, for messages.
    manifest : dict
        Checked, see :func:`~tllboost.bundle.manifest.parse_manifest`.
    """

    def __init__(self, file: BinaryIO, what: str) -> None:
        self.what = what
        try:
            self._zip = zipfile.ZipFile(file)
        except Exception as error:  # a hostile directory fails in many ways
            msg = f"{what}: is not a bundle, or a damaged one ({first_line(error)})"
            raise BundleError(msg) from error
        entries = self._checked_entries(os.fstat(file.fileno()).st_size)
        data = b"".join(self._chunks(entries[MANIFEST]))
        self.manifest = parse_manifest(data, what=what)
        self._match(entries)

    def read(self, name: str) -> bytes:
        """Return the bytes of a member, which are those that the manifest names."""
        return b"".join(self.verified_chunks(name))

    def verified_chunks(self, name: str) -> Iterator[bytes]:
        """Yield a member piece by piece; raise at its end if it is not as recorded."""
        digest = hashlib.sha256()
        for chunk in self._chunks(self._zip.getinfo(name)):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != self.manifest["members"][name]["sha256"]:
            raise self._refused(name, "was changed: its sha256 differs")

    def verify(self) -> None:
        """Read every member once and compare its sha256 with the manifest's."""
        for name in self.manifest["members"]:
            for _ in self.verified_chunks(name):
                pass

    def _checked_entries(self, n_bytes: int) -> dict[str, zipfile.ZipInfo]:
        """Return the members by name once each is one that a bundle may have."""
        entries: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            problem = _problem(info)
            if info.filename in entries:
                problem = "is there twice"
            if problem:
                raise self._refused(info.orig_filename, problem)
            entries[info.filename] = info
        if MANIFEST not in entries:
            raise self._refused(MANIFEST, "is missing")
        # Members that lie over each other unpack to any multiple of the file.
        if sum(info.compress_size for info in entries.values()) > n_bytes:
            msg = f"{self.what}: its members overlap: do not use it"
            raise BundleError(msg)
        return entries

    def _match(self, entries: Mapping[str, zipfile.ZipInfo]) -> None:
        """Raise unless the members are exactly those that the manifest lists."""
        listed = self.manifest["members"]
        for name in sorted(set(listed) ^ (set(entries) - {MANIFEST})):
            problem = "is missing" if name in listed else "is not in the manifest"
            raise self._refused(name, problem)
        for name, record in listed.items():
            if entries[name].file_size != record["size"]:
                raise self._refused(name, "was changed: its size differs")

    def _chunks(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        """Yield what a member holds, never more than it declares."""
        try:
            with self._zip.open(info) as member:
                while chunk := member.read(_CHUNK):
                    yield chunk
        except Exception as error:  # an entry at odds with the directory, too
            reason = f"is damaged ({first_line(error)})"
            raise self._refused(info.filename, reason) from error

    def _refused(self, member: str, reason: str) -> BundleError:
        name = repr(member[:100])
        return BundleError(f"{self.what}: member {name} {reason}: do not use it")


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


def write_archive(
    path: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    members: Mapping[str, bytes | Path],
) -> None:
    """Write a bundle under a temporary name and rename it, whole, into place.

    Parameters
    ----------
    path : path-like
        Where to; what is there is replaced.
    manifest : mapping
        Without ``members``, which is filled in.
    members : mapping of str to (bytes or Path)
        Bytes are deflated, files are stored as they are.

    Raises
    ------
    DataError
        If it can't be written.
    BundleError
        If it would be refused when it is read.
    """
    records: dict[str, Any] = {}
    with whole_file(path) as opened, zipfile.ZipFile(opened, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            source: Any
            if isinstance(content, Path):
                source = content.open("rb")
            else:
                source, info.compress_type = io.BytesIO(content), zipfile.ZIP_DEFLATED
            digest = hashlib.sha256()
            with source, archive.open(info, "w") as member:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    member.write(chunk)
            records[name] = {"sha256": digest.hexdigest(), "size": info.file_size}
        blob = manifest_bytes({**manifest, "members": records})
        info = zipfile.ZipInfo(MANIFEST, _EPOCH)
        archive.writestr(info, blob, zipfile.ZIP_DEFLATED)
