"""The zip file of a bundle and its manifest: read with suspicion, written whole.

Nothing is believed before it is checked: names, number and sizes of the members, then
the manifest, then the sha256 of each member. No name in the file ever becomes a path.

A manifest is a stranger's word: each value is checked to be of its kind and size before
anything is done with it. What follows from other values is not in it: a fusion is told
by its parts, and the members by what the cells and vectorizers need.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from tllboost.errors import WHY, BundleError, DataError, retold
from tllboost.files import finite, whole_file
from tllboost.merges import SIMILARITY, merge_names
from tllboost.projections import NONE
from tllboost.vectorizers import is_weight

_CHUNK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)

FORMAT = "tllboost bundle"
VERSION = 9

MANIFEST = "manifest.json"
GOLDEN = "golden.safetensors"
PROJECTION, HEAD, SKOPS = "projection.safetensors", "head.safetensors", "head.skops"
REFERENCES = "references.safetensors"

MAX_NETWORK_BYTES = 100_000_000
"""A larger network is named in the bundle and stays beside it."""

MAX_CELLS = 64
MAX_LEARNED_BYTES = 1_000_000_000
"""All heads and projections together: they are read into memory."""

_LIMITS = {
    r"manifest\.json": 1_000_000,
    r"golden\.safetensors": 64_000_000,
    r"([1-5]?\d|6[0-3])/(projection\.safetensors|head\.(safetensors|skops))": 5 * 10**8,
    r"([1-5]?\d|6[0-3])/references\.safetensors": 10**7,
    # No pickle: a network in a .pt or .pth file is named, never carried.
    r"network/\w[\w.-]*\.(onnx|safetensors|npz)": MAX_NETWORK_BYTES,
}


def size_limit(name: str) -> int:
    """Return how many bytes a member may have; 0 where a bundle has no such member.

    Examples
    --------
    >>> size_limit("network/net.onnx"), size_limit("../../.bashrc")
    (100000000, 0)
    """
    known = (size for form, size in _LIMITS.items() if re.fullmatch(form, name, re.A))
    return next(known, 0)


def members_of(cell: Mapping[str, Any]) -> list[str]:
    """Return the members of a cell, by their names in the folder of its number."""
    members = [SKOPS if cell["head"]["format"] == "skops" else HEAD]
    members += [PROJECTION] if cell["projection"] != NONE else []
    return members + ([REFERENCES] if SIMILARITY in merge_names(cell["merge"]) else [])


def _is_text(value: Any) -> bool:
    """Tell text that is safe to show: no control characters, no novel."""
    return isinstance(value, str) and len(value) <= 4_000 and value.isprintable()


def _is_number(value: Any) -> bool:
    # Not below: bool is an int, and an int may be too long for a float.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= 1e300 and math.isfinite(value)


def _is_count(most: int, least: int = 0) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_plain(value: Any) -> bool:
    return value is None or _is_bool(value) or _is_text(value) or _is_number(value)


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


_SIZE = _is_count(10**13)
_FILE = {"name": _is_text, "sha256": _is_sha256, "size": _SIZE, "embedded": _is_bool}
_VECTORIZER = {
    "spec": _is_text,
    "label": _is_text,
    "fingerprint": _is_text,
    "n_dims": _is_count(1_000_000),
    "input_size": (None, _is_count(8_192, least=1)),
    "needs_images": _is_bool,
    "file": (None, _FILE),
}


def _is_weight(value: Any) -> bool:
    return _is_number(value) and is_weight(value)


_PART = {"index": _is_count(511), "weight": _is_weight}
_CALIBRATION = dict.fromkeys(("slope", "intercept", "low", "high"), _is_number) | {
    "prior": lambda value: _is_number(value) and 0 < value < 1
}
_CELL = {
    "vectorizer": (32, _PART),
    "projection": _is_text,
    "merge": _is_text,
    "head": {"name": _is_text, "format": _is_text},
    "calibration": _CALIBRATION,
    "threshold": _is_number,
    "weight": _is_weight,
}
_SHAPE = {
    "format": _is_text,
    "version": _is_count(1_000),
    "created": _is_text,
    "cell": {...: _is_plain},
    "metrics": {...: _is_plain},
    "vectorizers": (512, _VECTORIZER),
    "cells": (MAX_CELLS, _CELL),
    "calibration": _CALIBRATION,
    "threshold": _is_number,
    "refitted": (None, _is_count(10**12)),
    "versions": {...: _is_plain},
    "members": {...: {"sha256": _is_sha256, "size": _SIZE}},
}


def check_shape(value: Any, shape: Any = _SHAPE, where: str = "") -> None:
    """Raise ValueError, naming the place, where `value` is not of a shape.

    A shape is a test, a dict of shapes, of which one under ``...`` is that of every
    value, or a pair: (None, shape) may be None too, and (n, shape) is a list of 1 to n.
    """
    if isinstance(shape, dict):
        if not isinstance(value, dict) or (... not in shape and set(value) != {*shape}):
            found = sorted(value) if isinstance(value, dict) else value
            wanted = "named values" if ... in shape else sorted(shape)
            msg = f"{where or 'it'} must hold {wanted}, holds {str(found)[:200]!r}"
            raise ValueError(msg)
        for key, one in value.items():
            check_shape(key, _is_text, f"a key of {where}")
            check_shape(
                one, shape.get(key, shape.get(...)), f"{where}.{key}".lstrip(".")
            )
    elif isinstance(shape, tuple) and shape[0] is None:
        if value is not None:
            check_shape(value, shape[1], where)
    elif isinstance(shape, tuple):
        if not isinstance(value, list) or not 1 <= len(value) <= shape[0]:
            msg = f"{where} must be a list of 1 to {shape[0]}"
            raise ValueError(msg)
        for index, one in enumerate(value):
            check_shape(one, shape[1], f"{where}[{index}]")
    elif not shape(value):
        msg = f"{where} is not legal: {str(value)[:200]!r}"
        raise ValueError(msg)


def parse_manifest(data: bytes, *, what: str) -> dict[str, Any]:
    """Return the manifest in `data` once every value in it is of its kind.

    Parameters
    ----------
    data : bytes
        JSON.
    what : str
        Name of the bundle, for messages.

    Raises
    ------
    BundleError
        If it is no JSON, of another format version, or a value is not what it must be.

    Examples
    --------
    >>> parse_manifest(b'{"format": "tllboost bundle", "version": 10}', what="a.tllb")
    Traceback (most recent call last):
      ...
    tllboost.errors.BundleError: a.tllb: format version 10, this tllboost reads 9: ...
    """
    text = f"{what}: {MANIFEST} can't be read ({WHY})"
    with retold(text, BundleError, (ValueError, RecursionError)):
        manifest = json.loads(data)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        msg = f"{what}: {MANIFEST} is not that of a tllboost bundle"
        raise BundleError(msg)
    if manifest.get("version") != VERSION:
        msg = (
            f"{what}: format version {manifest.get('version')!r}, this tllboost reads "
            f"{VERSION}: use the tllboost that wrote it, or save it again"
        )
        raise BundleError(msg)
    try:
        check_shape(manifest)
        _check_references(manifest)
    except ValueError as error:
        msg = f"{what}: {MANIFEST}: {error}"
        raise BundleError(msg) from error
    return manifest


def _check_references(manifest: Mapping[str, Any]) -> None:
    """Raise ValueError unless cells, vectorizers and members belong together."""
    vectorizers, members = manifest["vectorizers"], manifest["members"]
    wanted: dict[str, str | None] = {GOLDEN: None}
    for vectorizer in vectorizers:
        file = vectorizer["file"]
        if file is not None and file["embedded"]:
            wanted[f"network/{file['name']}"] = file["sha256"]
    for index, cell in enumerate(manifest["cells"]):
        if any(part["index"] >= len(vectorizers) for part in cell["vectorizer"]):
            msg = f"cells[{index}].vectorizer is not one of its {len(vectorizers)}"
            raise ValueError(msg)
        wanted |= dict.fromkeys(f"{index}/{name}" for name in members_of(cell))
    n_bytes = sum(m["size"] for name, m in members.items() if "network/" not in name)
    if n_bytes > MAX_LEARNED_BYTES:
        msg = (
            f"heads and projections of {n_bytes:,} bytes; {MAX_LEARNED_BYTES:,} are "
            "allowed"
        )
        raise ValueError(msg)
    for name in sorted(set(wanted) ^ set(members)):
        problem = "is missing" if name in wanted else "is not used by anything in it"
        msg = f"member {name!r} {problem}"
        raise ValueError(msg)
    for name, sha256 in wanted.items():
        if members[name]["size"] > size_limit(name):
            msg = f"member {name!r} is too large: {members[name]['size']:,} bytes"
            raise ValueError(msg)
        if sha256 not in (None, members[name]["sha256"]):
            msg = f"member {name!r} is not the network that a vectorizer names"
            raise ValueError(msg)


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
    text = f"{path}: the bundle can't be read ({WHY})"
    with retold(text, DataError, (OSError, ValueError)):
        # Not opened before: it would wait on a FIFO.
        if not stat.S_ISREG(os.stat(path).st_mode):
            msg = "not a regular file"
            raise ValueError(msg)
        file = open(path, "rb")  # noqa: SIM115 - closed below
    with file:
        yield Archive(file, str(path))


class Archive:
    """A bundle's open file.

    Attributes
    ----------
    what : str
        Its name, for messages.
    manifest : dict
        Checked, see :func:`parse_manifest`.
    """

    def __init__(self, file: BinaryIO, what: str) -> None:
        self.what = what
        # A hostile directory fails in many ways.
        with retold(f"{what}: is not a bundle, or a damaged one ({WHY})", BundleError):
            self._zip = zipfile.ZipFile(file)
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
        refused = partial(self._refused, info.filename)
        # An entry at odds with the directory fails in many ways, too.
        with retold(f"is damaged ({WHY})", refused), self._zip.open(info) as member:
            while chunk := member.read(_CHUNK):
                yield chunk

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
        whole = finite({**manifest, "members": records})
        blob = json.dumps(whole, indent=1, allow_nan=False).encode()
        parse_manifest(blob, what="the new bundle")
        info = zipfile.ZipInfo(MANIFEST, _EPOCH)
        archive.writestr(info, blob, zipfile.ZIP_DEFLATED)
