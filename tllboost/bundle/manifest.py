"""The manifest of a bundle: which members there may be, and what must stand in it.

A manifest is a stranger's word: each value is checked to be of its kind and size before
anything is done with it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from tllboost.errors import BundleError
from tllboost.vectorizers.spec import is_weight
from tllboost.vectorizers.weights import first_line

__all__ = [
    "FORMAT",
    "GOLDEN",
    "MANIFEST",
    "MAX_CELLS",
    "MAX_NETWORK_BYTES",
    "VERSION",
    "manifest_bytes",
    "parse_manifest",
    "size_limit",
]

MANIFEST = "manifest.json"
GOLDEN = "golden.safetensors"
MAX_NETWORK_BYTES = 100_000_000
"""A larger network is named in the bundle and stays beside it."""

MAX_CELLS = 64
_MAX_MANIFEST_BYTES = 1_000_000
MAX_LEARNED_BYTES = 1_000_000_000
"""All heads and projections together: they are read into memory."""

_CELL_FOLDER = r"(?:[1-5]?[0-9]|6[0-3])/"
_LIMITS = (
    (re.compile(r"golden\.safetensors"), 64_000_000),
    (re.compile(rf"{_CELL_FOLDER}head\.(safetensors|skops)"), 500_000_000),
    (re.compile(rf"{_CELL_FOLDER}projection\.safetensors"), 500_000_000),
    # No pickle: a network in a .pt or .pth file is named, never carried.
    (re.compile(r"network/\w[\w.-]*\.(onnx|safetensors|npz)", re.A), MAX_NETWORK_BYTES),
)


def size_limit(name: str) -> int:
    """Return how many bytes a member may have; 0 where a bundle has no such member.

    Examples
    --------
    >>> size_limit("network/net.onnx"), size_limit("../../.bashrc")
    (100000000, 0)
    """
    if name == MANIFEST:
        return _MAX_MANIFEST_BYTES
    return next((size for known, size in _LIMITS if known.fullmatch(name)), 0)


_MAX_PARTS = 32
_MAX_MEMBERS = 512


def _is_text(value: Any) -> bool:
    """Tell text that is safe to show: no control characters, no novel."""
    return isinstance(value, str) and len(value) <= 4_000 and value.isprintable()


def _is_number(value: Any) -> bool:
    # Not below: bool is an int, and an int may be too long for a float.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= 1e300 and math.isfinite(value)


def _is_count(most: int) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return type(value) is int and 0 <= value <= most

    return check


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_record(value: Any) -> bool:
    """Tell a flat mapping of names to text, numbers, truth values and nothing."""
    return isinstance(value, dict) and all(
        _is_text(key)
        and (one is None or _is_bool(one) or _is_text(one) or _is_number(one))
        for key, one in value.items()
    )


def _is_members(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= _MAX_MEMBERS
        and all(
            name != MANIFEST
            and size_limit(name) > 0
            and isinstance(one, dict)
            and set(one) == {"sha256", "size"}
            and _is_sha256(one["sha256"])
            and _is_count(size_limit(name))(one["size"])
            for name, one in value.items()
        )
    )


_FILE = {
    "name": _is_text,
    "sha256": _is_sha256,
    "size": _is_count(10**13),
    "embedded": _is_bool,
}
_PART = {
    "spec": _is_text,
    "label": _is_text,
    "fingerprint": _is_text,
    "n_dims": _is_count(1_000_000),
    "input_size": (None, lambda size: type(size) is int and 1 <= size <= 8_192),
    "needs_images": _is_bool,
    "file": (None, _FILE),
}
_VECTORIZER = {
    "spec": _is_text,
    "label": _is_text,
    "fingerprint": _is_text,
    "n_dims": _is_count(1_000_000),
    "parts": (_MAX_PARTS, _PART),
    "weights?": (_MAX_PARTS, lambda value: _is_number(value) and is_weight(value)),
}
_CALIBRATION = {"slope": _is_number, "intercept": _is_number}
_CELL = {
    "vectorizer": _is_count(MAX_CELLS),
    "projection": _is_text,
    "merge": _is_text,
    "head": {"name": _is_text, "format": _is_text},
    "calibration": _CALIBRATION,
    "threshold": _is_number,
}
MANIFEST_SHAPE = {
    "format": _is_text,
    "version": _is_count(1_000),
    "created": _is_text,
    "cell": _is_record,
    "metrics": _is_record,
    "vectorizers": (MAX_CELLS, _VECTORIZER),
    "cells": (MAX_CELLS, _CELL),
    "calibration": _CALIBRATION,
    "threshold": _is_number,
    "versions": _is_record,
    "members": _is_members,
}


def check_shape(value: Any, shape: Any = MANIFEST_SHAPE, where: str = "") -> None:
    """Raise ValueError, naming the place, where `value` is not of a shape.

    A shape is a test, a dict of shapes, or a pair: (None, shape) may be None too, and
    (n, shape) is a list of 1 to n. A key with a question mark need not be there.
    """
    if isinstance(shape, tuple):
        most, inner = shape
        if most is None:
            if value is not None:
                check_shape(value, inner, where)
            return
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            msg = f"{where} must be a list of 1 to {most}"
            raise ValueError(msg)
        for index, one in enumerate(value):
            check_shape(one, inner, f"{where}[{index}]")
    elif isinstance(shape, dict):
        known = {key.rstrip("?"): inner for key, inner in shape.items()}
        needed = {key for key in shape if not key.endswith("?")}
        if not isinstance(value, dict) or not needed <= set(value) <= set(known):
            found = sorted(value) if isinstance(value, dict) else value
            msg = (
                f"{where or 'it'} must hold {sorted(shape)}, holds {str(found)[:200]!r}"
            )
            raise ValueError(msg)
        for key, inner in known.items():
            if key in value:
                check_shape(value[key], inner, f"{where}.{key}".lstrip("."))
    elif not shape(value):
        msg = f"{where} is not legal: {str(value)[:200]!r}"
        raise ValueError(msg)


FORMAT = "tllboost bundle"
VERSION = 3


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Return a manifest as JSON that :func:`parse_manifest` takes back."""
    text = json.dumps(manifest, indent=1, allow_nan=False)
    parse_manifest(text.encode(), what="the new bundle")
    return text.encode()


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
    >>> parse_manifest(b'{"format": "tllboost bundle", "version": 7}', what="a.tllb")
    Traceback (most recent call last):
      ...
    tllboost.errors.BundleError: a.tllb: format version 7, this tllboost reads 3: ...
    """
    try:
        manifest = json.loads(
            data, object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        msg = f"{what}: {MANIFEST} can't be read ({first_line(error)})"
        raise BundleError(msg) from error
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
        _check_cells(manifest)
    except ValueError as error:
        msg = f"{what}: {MANIFEST}: {error}"
        raise BundleError(msg) from error
    return manifest


def _check_cells(manifest: Mapping[str, Any]) -> None:
    """Raise ValueError unless cells, vectorizers and members belong together."""
    n_cells, n_vectorizers = len(manifest["cells"]), len(manifest["vectorizers"])
    for index, cell in enumerate(manifest["cells"]):
        if cell["vectorizer"] >= n_vectorizers:
            msg = f"cells[{index}].vectorizer is none of its {n_vectorizers}"
            raise ValueError(msg)
    for name in manifest["members"]:
        folder, slash, _ = name.partition("/")
        if slash and folder.isdecimal() and int(folder) >= n_cells:
            msg = f"member {name!r} is of none of its {n_cells} cells"
            raise ValueError(msg)
    sizes = {name: one["size"] for name, one in manifest["members"].items()}
    n_bytes = sum(size for name, size in sizes.items() if "network/" not in name)
    if n_bytes > MAX_LEARNED_BYTES:
        msg = (
            f"heads and projections of {n_bytes:,} bytes; {MAX_LEARNED_BYTES:,} are "
            "allowed"
        )
        raise ValueError(msg)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        msg = "a key stands twice"
        raise ValueError(msg)
    return found


def _refuse_constant(text: str) -> Any:
    msg = f"{text} is not a number"
    raise ValueError(msg)
