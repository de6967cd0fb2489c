"""What report.html shows, as data."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

from tllboost import __version__
from tllboost.grid.matrix import make_matrix
from tllboost.metrics import EXPLAINED, LOWER_IS_BETTER, METRICS
from tllboost.report.curves import curves
from tllboost.report.gallery import gallery
from tllboost.report.run import Run
from tllboost.splits import PROTOCOLS

__all__ = ["payload"]

Row = dict[str, Any]
Progress = Callable[[int, int, str], None]

_COSTS = ("vectorize_s", "project_s", "fit_s", "score_s", "peak_memory_mb")
_PARTS = ("vectorizer", "projection", "merge", "head")
_SIZES = ("n_features", "n_seeds", "n_train_pairs", "n_test_queries", "n_candidates")
_DIGITS = 5
_NO_SETTINGS = {"run", "cell", "alias", "out", "metric"}


def payload(
    run: Run, *, gallery_size: int = 20, progress: Progress | None = None
) -> dict[str, Any]:
    """Return all that the page shows, ready for JSON.

    Parameters
    ----------
    run : Run
    gallery_size : int, default=20
        Queries at each end of the gallery; 0 leaves pictures out.
    progress : callable or None
        Called with (done, total, what).
    """
    rows = run.rows()
    cells = list(run.cells)
    return {
        "title": run.out.name or str(run.out),
        "version": __version__,
        "run": _about(run),
        "metrics": [
            {
                "name": name,
                "title": EXPLAINED[name][0],
                "what": EXPLAINED[name][1],
                "lower": name in LOWER_IS_BETTER,
            }
            for name in METRICS
        ],
        "metric": run.metric,
        "cells": _cells(run, rows, progress),
        "matrix": _matrix(rows),
        "chosen": cells.index(run.chosen) if run.chosen in cells else None,
        "notes": list(run.summary.get("lines", [])),
        "failures": run.failures(),
        "leaks": run.summary.get("leaks", []),
        "gallery": gallery(run, gallery_size, progress=progress),
    }


def _about(run: Run) -> dict[str, Any]:
    protocol = run.settings.get("run", {}).get("protocol", {})
    name = str(run.summary["protocol"])
    sizes = ", ".join(f"{key} {value}" for key, value in protocol.items())
    environment = run.environment
    versions = environment.get("versions", {})
    machine = [
        (key, str(environment.get(key, ""))) for key in ("python", "platform", "cores")
    ]
    return {
        "command": _command(run),
        "protocol": {"name": name, "text": PROTOCOLS.get(name, ""), "sizes": sizes},
        "seeds": run.seeds,
        "data": [
            (key, str(value)) for key, value in run.summary.get("data", {}).items()
        ],
        "environment": [*machine, *((key, str(versions[key])) for key in versions)],
        "aliases": list(run.settings.get("alias", {}).items()),
        "settings": [
            (key, _said(value))
            for key, value in run.settings.items()
            if key not in _NO_SETTINGS
        ],
    }


def _command(run: Run) -> str | None:
    """Return the command that runs it again; None for a run from Python."""
    if "pairs" not in run.settings:
        return None
    return f"tllboost grid --config {shlex.quote(str(run.out / 'run.toml'))} --resume"


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cells(run: Run, rows: Sequence[Row], progress: Progress | None) -> list[Row]:
    in_metric = {metric: run.rows(metric) for metric in METRICS}
    found = []
    for i, (row, records) in enumerate(zip(rows, run.cells.values(), strict=True)):
        of = {metric: others[i] for metric, others in in_metric.items()}
        tested = [one for record in records for one in run.tested(record)]
        measured = row["status"] == "ok"
        found.append(
            {
                **{name: row[name] for name in (*_PARTS, "name", "status", "error")},
                "figures": _figures(row) if measured else {},
                "gain": {m: _interval(of[m], "gain") for m in of} if measured else {},
                "tied": {m: of[m]["tied_with_best"] for m in of} if measured else {},
                "validation": {m: of[m]["validation"] for m in of} if measured else {},
                "costs": {name: row.get(name) for name in _COSTS},
                **{name: row.get(name) for name in _SIZES},
                "threshold": row.get("threshold"),
                "curves": curves(tested),
            }
        )
        if progress is not None:
            progress(i + 1, len(rows), "curves")
    return found


def _figures(row: Row) -> dict[str, list[float]]:
    return {
        metric: [
            _round(row[metric]),
            _round(row[f"{metric}_low"]),
            _round(row[f"{metric}_high"]),
        ]
        for metric in METRICS
    }


def _interval(row: Row, name: str) -> list[float]:
    return [_round(row[key]) for key in (name, f"{name}_low", f"{name}_high")]


def _round(value: float) -> float:
    return round(float(value), _DIGITS)


def _matrix(rows: list[Row]) -> dict[str, Any]:
    matrix = make_matrix(rows)
    place = {id(row): i for i, row in enumerate(rows)}
    return {
        "rows": [list(key) for key in matrix.keys],
        "heads": matrix.heads,
        "places": [
            [
                place[id(matrix.cells[key, head])]
                if (key, head) in matrix.cells
                else None
                for head in matrix.heads
            ]
            for key in matrix.keys
        ],
    }
