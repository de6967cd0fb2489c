"""A run, read back from its folder: the one reader that all others use.

The folder may hold a whole run, or only the tables that are left of it; it may have
been written by another version, or edited. What can't be read is missing, and shows as
missing.
"""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError
from tllboost.files import plain_cell
from tllboost.grid.cells import Cell
from tllboost.grid.outputs import RESULT_COLUMNS
from tllboost.grid.records import RunSplits, read_record, read_scores, read_splits
from tllboost.grid.summary import draws, standings, summarise
from tllboost.metrics import METRICS, check_metric
from tllboost.splits import PairSet

__all__ = ["Run", "part", "read_run", "read_table"]

_PARTS = ("vectorizer", "projection", "merge", "head")
_TEXTS = ("name", "status", "metric", "protocol", "tied_with_best", "error")
_NUMBERS = tuple(name for name in RESULT_COLUMNS if name not in {*_PARTS, *_TEXTS})

Record = dict[str, Any]
Row = dict[str, Any]


@dataclass(eq=False)
class Run:
    """What lies in the folder of a run.

    Attributes
    ----------
    out : Path
    table : dict of Cell to dict
        Its ``results.csv``; empty where that can't be read.
    records : dict of Cell to dict of int to dict
        What each cell came to, by seed, its resamples as arrays; empty where the folder
        holds tables alone, or not every record can be read.
    summary, settings, environment : dict
        ``summary.json``, ``run.toml`` and ``environment.json``; empty where there is
        none.
    """

    out: Path
    table: dict[Cell, Row]
    records: dict[Cell, dict[int, Record]]
    summary: dict[str, Any]
    settings: dict[str, Any]
    environment: dict[str, Any]

    @cached_property
    def cells(self) -> list[Cell]:
        """Its cells, in their order."""
        return list(self.records or self.table)

    @cached_property
    def metric(self) -> str:
        """What the run chose by."""
        told = str(self.summary.get("metric") or self._first("metric"))
        return told if told in METRICS else next(iter(METRICS))

    @property
    def data(self) -> str | None:
        """A hash of the pairs and the images; None where nobody knows it."""
        return part(self.settings, "run").get("data")

    @property
    def protocol(self) -> dict[str, Any]:
        """The settings of the protocol, its name first; the name alone may be known."""
        known = part(part(self.settings, "run"), "protocol")
        told = self.summary.get("protocol") or self._first("protocol")
        return {"name": str(told), **known}

    @property
    def versions(self) -> dict[str, str]:
        """The libraries that it was made with."""
        return part(self.environment, "versions")

    @cached_property
    def seeds(self) -> list[int]:
        """All seeds of the records."""
        return sorted({seed for found in self.records.values() for seed in found})

    @cached_property
    def chosen(self) -> Cell | None:
        """The cell that validation chose."""
        row = part(self.summary, "chosen_on_validation")
        cell = Cell(*(str(row.get(part)) for part in _PARTS))
        return cell if cell in self.cells else None

    @cached_property
    def splits(self) -> dict[int, RunSplits]:
        """What each seed tested, where the run tells it."""
        found = {seed: read_splits(self.out, seed) for seed in self.seeds}
        return {seed: one for seed, one in found.items() if one is not None}

    def rows(self, metric: str | None = None) -> list[Row]:
        """Return a row a cell, gains and ties told in a metric (None: the run's).

        Where tables alone are left, they are told in the run's metric only.

        Raises
        ------
        UsageError
            If the metric is not known.
        """
        if metric is not None:
            check_metric(metric)
        if metric in (None, self.metric):
            return self._rows
        told = standings(self._found, metric)
        return [
            {**row, "tied_with_best": "", "metric": metric, **told.get(cell, {})}
            for cell, row in zip(self.cells, self._rows, strict=True)
        ]

    @cached_property
    def _found(self) -> dict[Cell, list[Record]]:
        return {cell: list(found.values()) for cell, found in self.records.items()}

    @cached_property
    def _rows(self) -> list[Row]:
        """The rows in the run's metric: its one summary."""
        if not self.records:
            return [asdict(cell) | row for cell, row in self.table.items()]
        return summarise(
            self.cells,
            [record for found in self._found.values() for record in found],
            metric=self.metric,
            protocol=self.protocol["name"],
            names={cell: row["name"] for cell, row in self.table.items()},
        )

    def tested(self, cell: Cell) -> Iterator[tuple[int, PairSet, NDArray[np.float64]]]:
        """Give a cell's seeds, test pairs and their log-odds, fold by fold."""
        for seed, record in self.records.get(cell, {}).items():
            split = self.splits.get(seed)
            scores = read_scores(self.out, record["id"])
            if record["status"] != "ok" or split is None or scores is None:
                continue
            for pairs, log_odds in zip(split.test, scores["test"], strict=False):
                if len(pairs) == len(log_odds):
                    yield seed, pairs, log_odds

    def _first(self, column: str) -> str:
        return str(next(iter(self.table.values()), {}).get(column, ""))


def read_run(out: Path) -> Run:
    """Read the folder of a run, or the tables that are left of it.

    Raises
    ------
    DataError
        If the folder holds neither.
    """
    summary = _read(out / "summary.json", json.loads)
    records = _read_records(out, summary.get("cells"))
    table: dict[Cell, Row] = {}
    reason = "there is none, or it holds no cell"
    try:
        for row in read_table(out / "results.csv"):
            numbers = {name: float(row.get(name) or "nan") for name in _NUMBERS}
            texts = {name: row.get(name, "") for name in _TEXTS}
            table[Cell(*(row[part] for part in _PARTS))] = texts | numbers
    except (ValueError, KeyError) as error:
        table, reason = {}, f"not the results of a grid: {error}"
    if not table and not records:
        msg = (
            f"{out}: no finished run lies here (results.csv: {reason}); run tllboost "
            f"grid … --out {out}"
        )
        raise DataError(msg)
    return Run(
        out,
        table,
        records,
        summary,
        _read(out / "run.toml", tomllib.loads),
        _read(out / "environment.json", json.loads),
    )


def _read_records(out: Path, ids: Any) -> dict[Cell, dict[int, Record]]:
    """Return the records of all cells, or of none: half of a run is no run."""
    found: dict[Cell, dict[int, Record]] = {}
    for cell_id in ids if isinstance(ids, list) else ():
        record = read_record(out, str(cell_id))
        if record is None:
            return {}
        resampled = record.get("resampled", {})
        # Arrays once, for all metrics.
        record["resampled"] = {name: draws(record, name) for name in resampled}
        found.setdefault(Cell(**record["cell"]), {})[record["seed"]] = record
    return found


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table that a grid wrote; none where it can't be read."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return [
                {name: plain_cell(text or "") for name, text in row.items() if name}
                for row in csv.DictReader(file)
            ]
    except (OSError, csv.Error):
        return []


def _read(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """Return what a file holds, nothing where it can't be read."""
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def part(values: dict[str, Any], key: str, kind: type = dict) -> Any:
    """Return a value of a kind, an empty one where there is none or another.

    Examples
    --------
    >>> part({"lines": 3}, "lines", list), part({"data": {"pairs": 3}}, "data")
    ([], {'pairs': 3})
    """
    found = values.get(key)
    return found if isinstance(found, kind) else kind()
