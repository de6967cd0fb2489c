"""A run, read back from its folder: the one reader that all others use.

The folder may hold a whole run, or only the tables that are left of it; it may have
been written by another version, or edited. What can't be read is missing, and shows as
missing.
"""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
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
from tllboost.grid.records import read_record, read_scores, read_splits
from tllboost.grid.summary import draws, standings, summarise
from tllboost.metrics import METRICS, check_metric
from tllboost.splits import PairSet

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
    cells : list of Cell
        In their order.
    records : dict of Cell to dict of int to dict
        What each cell came to, by seed, its resamples as arrays; empty where the folder
        holds tables alone, or not every record can be read.
    seeds : list of int
        Of all records.
    metric : str
        What its figures are told in.
    chosen : Cell or None
        The cell that validation chose.
    data : str or None
        A hash of the pairs and the images; None where nobody knows it.
    protocol : dict
        Its settings, its name first; the name alone may be known.
    summary, settings, environment, versions : dict
        ``summary.json``, ``run.toml`` and ``environment.json``, and the libraries that
        the last of them names; empty where there is none.
    own_rows : list of dict
        One row for each cell, gains and ties told in the run's own metric.
    """

    out: Path
    cells: list[Cell]
    records: dict[Cell, dict[int, Record]]
    seeds: list[int]
    metric: str
    chosen: Cell | None
    data: str | None
    protocol: dict[str, Any]
    summary: dict[str, Any]
    settings: dict[str, Any]
    environment: dict[str, Any]
    versions: dict[str, str]
    own_rows: list[Row]

    @cached_property
    def splits(self) -> dict[int, list[PairSet]]:
        """What each seed tested, where the run tells it."""
        out = self.out
        return {n: one for n in self.seeds if (one := read_splits(out, n)) is not None}

    def rows(self, metric: str | None = None) -> list[Row]:
        """Return one row for each cell, gains told in a metric (None: the run's own).

        Where tables alone are left, they are told in the run's metric only.

        Raises
        ------
        UsageError
            If the metric is not known.
        """
        if metric is not None:
            check_metric(metric)
        if metric in (None, self.metric):
            return self.own_rows
        told = standings({c: [*of.values()] for c, of in self.records.items()}, metric)
        return [
            {**row, "tied_with_best": "", "metric": metric, **told.get(cell, {})}
            for cell, row in zip(self.cells, self.own_rows, strict=True)
        ]

    def tested(self, cell: Cell) -> Iterator[tuple[int, PairSet, NDArray[np.float64]]]:
        """Give a cell's seeds, test pairs and their log-odds, fold by fold."""
        for seed, record in self.records.get(cell, {}).items():
            tested = self.splits.get(seed)
            scores = read_scores(self.out, record["id"])
            if record["status"] != "ok" or tested is None or scores is None:
                continue
            for pairs, log_odds in zip(tested, scores["test"], strict=False):
                if len(pairs) == len(log_odds):
                    yield seed, pairs, log_odds


def read_run(out: Path) -> Run:
    """Read the folder of a run, or the tables that are left of it.

    Raises
    ------
    DataError
        If the folder holds neither.
    """
    summary = _read(out / "summary.json", json.loads)
    settings = _read(out / "run.toml", tomllib.loads)
    environment = _read(out / "environment.json", json.loads)
    records: dict[Cell, dict[int, Record]] = {}
    for cell_id in part(summary, "cells", list):
        record = read_record(out, str(cell_id))
        if record is None:  # half of a run is no run
            records = {}
            break
        resampled = record.get("resampled", {})
        # Arrays once, for all metrics.
        record["resampled"] = {name: draws(record, name) for name in resampled}
        records.setdefault(Cell(**record["cell"]), {})[record["seed"]] = record
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
            f"{out}: no finished run is here (results.csv: {reason}); run tllboost "
            f"grid … --out {out}"
        )
        raise DataError(msg)
    first, cells = next(iter(table.values()), {}), [*(records or table)]
    metric = str(summary.get("metric") or first.get("metric", ""))
    metric = metric if metric in METRICS else next(iter(METRICS))
    protocol = str(summary.get("protocol") or first.get("protocol", ""))
    row = part(summary, "chosen_on_validation")
    chosen = Cell(*(str(row.get(part)) for part in _PARTS))
    if records:
        rows = summarise(
            cells,
            [record for found in records.values() for record in found.values()],
            metric=metric,
            protocol=protocol,
            names={cell: row["name"] for cell, row in table.items()},
        )
    else:
        rows = [asdict(cell) | row for cell, row in table.items()]
    own = part(settings, "run")
    return Run(
        out,
        cells,
        records,
        sorted({seed for found in records.values() for seed in found}),
        metric,
        chosen if chosen in cells else None,
        own.get("data"),
        {"name": protocol, **part(own, "protocol")},
        summary,
        settings,
        environment,
        part(environment, "versions"),
        rows,
    )


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
        found = parse(path.read_text("utf-8-sig", "surrogateescape"))
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


def texts_of(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return values as text, those of a list joined by commas."""
    return [
        (key, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for key, value in values.items()
    ]
