"""A finished run, read back from its folder."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.csv_cells import plain_cell
from tllboost.errors import DataError, UsageError
from tllboost.grid.plan import Cell
from tllboost.grid.records import read_record, read_scores
from tllboost.grid.sides import Pictures, Sides, read_pictures, read_sides
from tllboost.grid.summary import summarise
from tllboost.metrics import METRICS
from tllboost.splits import PairSet

__all__ = ["Run", "read_run"]

_PARTS = ("vectorizer", "projection", "merge", "head")

Record = dict[str, Any]
Row = dict[str, Any]


@dataclass(eq=False)
class Run:
    """What lies in the folder of a finished grid.

    Attributes
    ----------
    out : Path
    records : list of dict
        One a cell and seed.
    summary, settings, environment : dict
        ``summary.json``, ``run.toml`` and ``environment.json``.
    """

    out: Path
    records: list[Record]
    summary: dict[str, Any]
    settings: dict[str, Any]
    environment: dict[str, Any]

    @property
    def metric(self) -> str:
        """What the run chose by."""
        return str(self.summary["metric"])

    @cached_property
    def cells(self) -> dict[Cell, list[Record]]:
        """Records of each cell, in the order of the run."""
        found: dict[Cell, list[Record]] = {}
        for record in self.records:
            found.setdefault(Cell(**record["cell"]), []).append(record)
        return found

    @cached_property
    def seeds(self) -> list[int]:
        """All seeds of the run."""
        return sorted({int(record["seed"]) for record in self.records})

    @cached_property
    def chosen(self) -> Cell | None:
        """The cell that validation chose."""
        row = self.summary.get("chosen_on_validation")
        return Cell(*(row[part] for part in _PARTS)) if row else None

    @cached_property
    def pictures(self) -> Pictures | None:
        """Names and places of the pictures, where the run tells them."""
        return read_pictures(self.out)

    @cached_property
    def sides(self) -> dict[int, Sides]:
        """What each seed tested, where the run tells it."""
        found = {seed: read_sides(self.out, seed) for seed in self.seeds}
        return {seed: one for seed, one in found.items() if one is not None}

    def rows(self, metric: str | None = None) -> list[Row]:
        """Return a row a cell, gains and ties told in a metric (None: the run's).

        Raises
        ------
        UsageError
            If the metric is not known.
        """
        if metric is not None and metric not in METRICS:
            msg = f"unknown metric {metric!r}: known: {', '.join(METRICS)}"
            raise UsageError(msg)
        return summarise(
            list(self.cells),
            self.records,
            metric=metric or self.metric,
            protocol=str(self.summary["protocol"]),
            names=self._names,
        )

    def failures(self) -> list[dict[str, str]]:
        """Return the rows of ``failures.csv``: what, where and why."""
        return _csv(self.out / "failures.csv")

    def tested(self, record: Record) -> Iterator[tuple[PairSet, NDArray[np.float64]]]:
        """Give the test pairs of a cell and seed and their log-odds, fold by fold."""
        sides = self.sides.get(int(record["seed"]))
        scores = read_scores(self.out, record["id"])
        if record["status"] != "ok" or sides is None or scores is None:
            return
        for pairs, log_odds in zip(sides.test, scores["test"], strict=False):
            if len(pairs) == len(log_odds):
                yield pairs, log_odds

    @cached_property
    def _names(self) -> dict[Cell, str]:
        """What the run's recipe calls some of its cells."""
        return {
            Cell(*(row[part] for part in _PARTS)): row["name"]
            for row in _csv(self.out / "results.csv")
            if row.get("name")
        }


def read_run(out: Path) -> Run:
    """Read the folder of a finished run.

    Raises
    ------
    DataError
        If the folder holds none.
    """
    try:
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        settings = tomllib.loads((out / "run.toml").read_text(encoding="utf-8"))
        environment = dict(json.loads((out / "environment.json").read_text("utf-8")))
        ids = [str(cell_id) for cell_id in summary["cells"]]
        _check(summary, settings, environment)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        msg = f"{out}: no finished run lies here; run tllboost grid … --out {out}"
        raise DataError(msg) from error
    records = [
        _with_arrays(record)
        for cell_id in ids
        if (record := read_record(out, cell_id)) is not None
    ]
    if not records:
        msg = (
            f"{out}: the tables of a run lie here, but not its cells/: run it again "
            f"with tllboost grid --config {out / 'run.toml'} --overwrite"
        )
        raise DataError(msg)
    return Run(out, records, summary, settings, environment)


def _check(
    summary: dict[str, Any], settings: dict[str, Any], environment: dict[str, Any]
) -> None:
    """Raise ValueError where a part of what was read is not of its kind."""
    recorded = settings.get("run", {})
    chosen = summary.get("chosen_on_validation") or {}
    kinds: tuple[tuple[Any, type], ...] = (
        (summary.get("protocol"), str),
        (summary.get("data", {}), dict),
        (summary.get("lines", []), list),
        (summary.get("leaks", []), list),
        (recorded.get("protocol", {}), dict),
        (environment.get("versions", {}), dict),
        *((chosen[part], str) for part in _PARTS if chosen),
    )
    right = all(isinstance(value, kind) for value, kind in kinds)
    if not right or summary.get("metric") not in METRICS:
        msg = "edited by hand"
        raise ValueError(msg)


def _with_arrays(record: Record) -> Record:
    """Turn the resamples to arrays, once for all metrics."""
    resampled = {
        name: np.array(values, dtype=np.float64)
        for name, values in record.get("resampled", {}).items()
    }
    return {**record, "resampled": resampled}


def _csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table that a grid wrote; none where it can't be read."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return [
                {name: plain_cell(text or "") for name, text in row.items() if name}
                for row in csv.DictReader(file)
            ]
    except (OSError, csv.Error):
        return []
