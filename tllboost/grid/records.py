"""One JSON file a finished cell and seed, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["read_record", "record_path", "write_record", "write_text"]


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


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """Return the umask: mkstemp ignores it, and results are for other readers too."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _without_nan(value: Any) -> Any:
    """Replace NaN, which JSON has not, by null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
