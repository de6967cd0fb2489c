"""A finished cell and seed: a JSON record and its scores, written whole or not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tllboost.grid.record_form import is_record
from tllboost.grid.scored import ScoredSide
from tllboost.whole_file import whole_file, write_text

__all__ = [
    "read_record",
    "read_scores",
    "record_path",
    "scores_path",
    "write_record",
    "write_scores",
]

Scores = dict[str, list[NDArray[np.float64]]]


def record_path(out: Path, cell_id: str) -> Path:
    """Return where the record of a cell lies."""
    return out / "cells" / f"{cell_id}.json"


def scores_path(out: Path, cell_id: str) -> Path:
    """Return where the scores of a cell lie."""
    return out / "scores" / f"{cell_id}.npz"


def write_scores(
    out: Path, cell_id: str, test: ScoredSide, validation: ScoredSide
) -> None:
    """Write the calibrated log-odds of the pairs of each fold, float32."""
    arrays = {
        f"{name}{fold}": log_odds.astype(np.float32)
        for name, side in (("test", test), ("validation", validation))
        for fold, log_odds in enumerate(side.log_odds)
    }
    with whole_file(scores_path(out, cell_id)) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_scores(out: Path, cell_id: str) -> Scores | None:
    """Return log-odds of "test" and "validation", an array a fold.

    None where there is no file, or none that can be read: the cell is run again.
    """
    try:
        # Opened here: np.load leaves a file open that is no archive.
        with (
            scores_path(out, cell_id).open("rb") as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            found = {name: arrays[name].astype(np.float64) for name in arrays.files}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return {
        side: [found[f"{side}{i}"] for i in range(len(found)) if f"{side}{i}" in found]
        for side in ("test", "validation")
    }


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
    if not is_record(record) or record["id"] != cell_id:
        return None
    return dict(record)


def _without_nan(value: Any) -> Any:
    """Replace NaN, which JSON has not, by null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
