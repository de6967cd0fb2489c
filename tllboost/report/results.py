"""The results of a finished run, read back in any metric."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tllboost.errors import DataError, UsageError
from tllboost.grid.plan import Cell
from tllboost.grid.records import read_record
from tllboost.grid.summary import summarise
from tllboost.metrics import METRICS

__all__ = ["read_results"]


def read_results(
    out: Path, metric: str | None = None
) -> tuple[list[dict[str, Any]], str]:
    """Return the rows of a run and the metric that gains and ties are told in.

    Parameters
    ----------
    out : Path
        Folder of the run.
    metric : str or None, default=None
        None takes the run's own.

    Raises
    ------
    DataError
        If the folder holds no finished run.
    UsageError
        If the metric is not known.
    """
    if metric is not None and metric not in METRICS:
        msg = f"unknown metric {metric!r}: known: {', '.join(METRICS)}"
        raise UsageError(msg)
    try:
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        records = [read_record(out, cell_id) for cell_id in summary["cells"]]
        metric, protocol = metric or summary["metric"], summary["protocol"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{out}: no finished run lies here; run tllboost grid … --out {out}"
        raise DataError(msg) from error
    found = [record for record in records if record is not None]
    cells = list(dict.fromkeys(Cell(**record["cell"]) for record in found))
    return summarise(cells, found, metric=metric, protocol=protocol), metric
