"""One JSON file a finished cell and seed, written whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tllboost.whole_file import write_text

__all__ = ["read_record", "record_path", "write_record"]


def record_path(out: Path, cell_id: str) -> Path:
    """Return where the record of a cell lies."""
    return out / "cells" / f"{cell_id}.json"


def write_record(out: Path, record: dict[str, Any]) -> None:
    """Write a record under its ``id``."""
    path = record_path(out, record["id"])
    write_text(path, json.dumps(_without_nan(record), indent=None))


def read_record(out: Path, cell_id: str) -> dict[str, Any] | None:
    """Return a record, or None where there is none, or none that can be used.

    A file that is no record of this cell (edited, half copied) counts as none: the cell
    is run again.
    """
    try:
        record = json.loads(record_path(out, cell_id).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("id") != cell_id:
        return None
    return record


def _without_nan(value: Any) -> Any:
    """Replace NaN, which JSON has not, by null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
