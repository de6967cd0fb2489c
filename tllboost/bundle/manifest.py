"""The manifest of a bundle: what must stand in it, and the check that it does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tllboost.bundle.limits import MANIFEST, MAX_LEARNED_BYTES
from tllboost.bundle.shape import check_shape
from tllboost.errors import BundleError

__all__ = ["FORMAT", "VERSION", "manifest_bytes", "parse_manifest"]

FORMAT = "tllboost bundle"
VERSION = 2


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
    tllboost.errors.BundleError: a.tllb: format version 7, this tllboost reads 2: ...
    """
    try:
        manifest = json.loads(
            data, object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        msg = f"{what}: {MANIFEST} can't be read ({_brief(error)})"
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


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
