"""A finished run, read back from its folder.

What a run's folder says of its cells, with their resamples or without.
"""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterator
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
from tllboost.grid.records import (
    RunImages,
    Sides,
    read_images,
    read_record,
    read_scores,
    read_sides,
)
from tllboost.grid.summary import summarise
from tllboost.metrics import METRICS, check_metric
from tllboost.splits import PairSet

__all__ = ["Recorded", "Run", "read_recorded", "read_run"]

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
    def images(self) -> RunImages | None:
        """Names and places of the images, where the run tells them."""
        return read_images(self.out)

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
        if metric is not None:
            check_metric(metric)
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


_TEXTS = ("status", "metric", "protocol", "tied_with_best")
# What tables of earlier versions may lack.
_LATER = ("name", "error")
_NUMBERS = tuple(
    name for name in RESULT_COLUMNS if name not in {*_TEXTS, *_LATER, *_PARTS}
)


@dataclass(frozen=True)
class Recorded:
    """The cells of one run.

    Attributes
    ----------
    out : Path
        Folder of the run.
    rows : dict of Cell to dict
        Its ``results.csv``.
    records : dict of Cell to dict of int to dict
        What each cell came to, by seed; empty where the folder holds tables alone.
    run, summary : dict
        Its ``run.toml`` and ``summary.json``; empty where there is none.
    versions : dict of str to str
        The libraries that it was made with.
    """

    out: Path
    rows: dict[Cell, dict[str, Any]]
    records: dict[Cell, dict[int, Record]]
    run: dict[str, Any]
    summary: dict[str, Any]
    versions: dict[str, str]

    def as_rows(self) -> list[dict[str, Any]]:
        """Return the rows as a grid has them, ties told in its own metric."""
        return [asdict(cell) | row for cell, row in self.rows.items()]

    @property
    def metric(self) -> str:
        """The metric that the run was told to show."""
        return next(iter(self.rows.values()))["metric"]

    @property
    def data(self) -> str | None:
        """A hash of the pairs and the images; None where nobody knows it."""
        return _table(self.run, "run").get("data")

    @property
    def protocol(self) -> dict[str, Any]:
        """The settings of the protocol; empty where nobody knows them."""
        return _table(_table(self.run, "run"), "protocol")

    @property
    def seeds(self) -> set[int]:
        """The seeds of the records."""
        return {seed for found in self.records.values() for seed in found}


def read_recorded(out: Path) -> Recorded:
    """Read a run, or the tables that are left of it.

    Raises
    ------
    DataError
        If the folder holds no ``results.csv`` that can be read.
    """
    rows = _read_rows(out / "results.csv")
    summary = _read(out / "summary.json", json.loads)
    return Recorded(
        out,
        rows,
        _read_records(out, rows, summary),
        _read(out / "run.toml", tomllib.loads),
        summary,
        _table(_read(out / "environment.json", json.loads), "versions"),
    )


def _read_rows(path: Path) -> dict[Cell, dict[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = {_cell_of(row): _typed(row) for row in csv.DictReader(file)}
    except FileNotFoundError as error:
        msg = (
            f"{path.parent}: no finished run lies here; run tllboost grid … --out "
            f"{path.parent}"
        )
        raise DataError(msg) from error
    except OSError as error:
        msg = f"{path}: can't be read ({error.strerror})"
        raise DataError(msg) from error
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        msg = f"{path}: not the results of a grid ({error}); run the grid anew"
        raise DataError(msg) from error
    if not rows:
        msg = f"{path}: holds no cell; run the grid anew"
        raise DataError(msg)
    return rows


def _cell_of(row: dict[str, str]) -> Cell:
    return Cell(*(plain_cell(row[part]) for part in _PARTS))


def _typed(row: dict[str, str]) -> dict[str, Any]:
    texts = {name: plain_cell(row[name]) for name in _TEXTS}
    texts |= {name: plain_cell(row.get(name) or "") for name in _LATER}
    return texts | {name: float(row.get(name) or "nan") for name in _NUMBERS}


def _read_records(
    out: Path, rows: dict[Cell, Any], summary: dict[str, Any]
) -> dict[Cell, dict[int, Record]]:
    """Return the records of all cells, or of none: half of a run is no run."""
    found: dict[Cell, dict[int, Record]] = {}
    try:
        for cell_id in summary["cells"]:
            record = read_record(out, str(cell_id))
            if record is None or not _is_measured(record):
                return {}
            found.setdefault(Cell(**record["cell"]), {})[record["seed"]] = record
    except (KeyError, TypeError):
        return {}
    return found if set(found) == set(rows) else {}


def _is_measured(record: Record) -> bool:
    """Tell whether a record holds every metric, or failed."""
    if record["status"] == "failed":
        return True
    tables = record["figures"], record["resampled"]
    return record["status"] == "ok" and all(set(METRICS) <= set(t) for t in tables)


def _read(path: Path, parse: Any) -> dict[str, Any]:
    """Return what a file holds, nothing where it can't be read."""
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _table(values: dict[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key)
    return found if isinstance(found, dict) else {}
