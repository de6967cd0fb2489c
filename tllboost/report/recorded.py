"""What a run's folder says of its cells, with their resamples or without."""

from __future__ import annotations

import csv
import json
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tllboost.csv_cells import plain_cell
from tllboost.errors import DataError
from tllboost.grid.outputs import RESULT_COLUMNS
from tllboost.grid.plan import Cell
from tllboost.grid.records import read_record
from tllboost.metrics import METRICS

__all__ = ["Recorded", "read_recorded"]

Record = dict[str, Any]
_TEXTS = ("status", "metric", "protocol", "tied_with_best")
# What tables of earlier versions may lack.
_LATER = ("name", "error")
_PARTS = ("vectorizer", "projection", "merge", "head")
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
        """A hash of the pairs and the pictures; None where nobody knows it."""
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
