"""What ``--json`` prints: one document, any program can read it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["json_text"]


def json_text(value: Any) -> str:
    r"""Return a value as JSON; numbers that are not finite are null.

    Examples
    --------
    >>> print(json_text({"top2": 0.5, "mrr": float("nan"), "name": "d\udcffg"}))
    {
     "top2": 0.5,
     "mrr": null,
     "name": "d\udcffg"
    }
    """
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
