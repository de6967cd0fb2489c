"""The files of a run, beside its cells: what was run, split, found and lost."""

from __future__ import annotations

import functools
import json
import math
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tllboost import __version__
from tllboost.csv_cells import csv_text as inert_csv
from tllboost.metrics import METRICS
from tllboost.whole_file import write_text

__all__ = [
    "RESULT_COLUMNS",
    "csv_text",
    "environment",
    "write_csv",
    "write_json",
    "write_results",
]

_LIBRARIES = (
    "numpy",
    "scikit-learn",
    "xgboost",
    "torch",
    "timm",
    "open_clip_torch",
    "onnxruntime",
    "scikit-image",
    "pillow",
)

RESULT_COLUMNS = (
    *("vectorizer", "projection", "merge", "head", "name", "status"),
    *METRICS,
    *(f"{metric}_{end}" for metric in METRICS for end in ("low", "high")),
    *("metric", "gain", "gain_low", "gain_high"),
    *("to_best", "to_best_low", "to_best_high", "tied_with_best", "validation"),
    *("protocol", "n_seeds", "n_train_pairs", "n_test_queries", "n_candidates"),
    *("n_features", "threshold", "best_of_folds"),
    *("vectorize_s", "project_s", "fit_s", "score_s", "peak_memory_mb", "error"),
)


def write_results(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a row a cell, columns in their fixed order."""
    write_csv(
        path,
        RESULT_COLUMNS,
        ([row.get(name) for name in RESULT_COLUMNS] for row in rows),
    )


def write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a CSV file whole or not at all."""
    write_text(path, csv_text(header, rows))


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""Return rows as CSV; numbers that are not finite are empty.

    Examples
    --------
    >>> csv_text(["a", "b"], [[0.5, float("nan")], ["=1", -2]])
    "a,b\n0.5,\n'=1,-2\n"
    """
    return inert_csv(header, ([_field(value) for value in row] for row in rows))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def environment() -> dict[str, Any]:
    """Return the versions and the machine that figures were made with."""
    return {
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": {**_versions()},
    }


@functools.cache
def _versions() -> dict[str, str]:
    """Look the versions up once: that takes longer than all else about a cell's id."""
    versions = {"tllboost": __version__}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _field(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return value
