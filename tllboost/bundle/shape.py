"""The shape of a manifest: what must stand in it, and of what kind."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from tllboost.bundle.limits import MANIFEST, MAX_CELLS, size_limit
from tllboost.vectorizers.spec import is_weight

__all__ = ["MANIFEST_SHAPE", "check_shape"]

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


def _is_weight(value: Any) -> bool:
    return _is_number(value) and is_weight(value)


def _is_count(most: int) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return type(value) is int and 0 <= value <= most

    return check


def _is_size_or_none(value: Any) -> bool:
    return value is None or (type(value) is int and 1 <= value <= 8_192)


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
    if not isinstance(value, dict) or len(value) > _MAX_MEMBERS:
        return False
    for name, one in value.items():
        if name == MANIFEST or not size_limit(name):
            return False
        if not isinstance(one, dict) or set(one) != {"sha256", "size"}:
            return False
        if not (_is_sha256(one["sha256"]) and _is_count(size_limit(name))(one["size"])):
            return False
    return True


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
    "input_size": _is_size_or_none,
    "needs_images": _is_bool,
    "file": (None, _FILE),
}
_VECTORIZER = {
    "spec": _is_text,
    "label": _is_text,
    "fingerprint": _is_text,
    "n_dims": _is_count(1_000_000),
    "parts": (_MAX_PARTS, _PART),
    "weights?": (_MAX_PARTS, _is_weight),
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
