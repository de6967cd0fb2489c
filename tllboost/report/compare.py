"""What two runs differ in besides their figures.

Two runs cell by cell: what changed by more than its interval.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tllboost.grid.cells import Cell
from tllboost.grid.summary import comparison
from tllboost.metrics import METRICS, check_metric, interval
from tllboost.report.run import Recorded, read_recorded

__all__ = ["METHODS", "Change", "Comparison", "compare_runs"]


def differences(one: Recorded, two: Recorded, metric: str) -> list[str]:
    """Return a line for each thing that makes the figures of two runs less alike."""
    notes = []
    if not one.rows.keys() & two.rows.keys():
        notes.append(
            "no cell is in both runs; cells are told apart by their four names"
        )
    for run in (one, two):
        if run.metric != metric:
            notes.append(f"{run.out} shows {run.metric}; compared in {metric}")
    if one.data is None or two.data is None:
        notes.append("without both run.toml nobody knows whether the data is the same")
    elif one.data != two.data:
        notes.append("the data differs: other pairs or images")
    if one.protocol and two.protocol:
        notes += _listed("the protocol differs", one.protocol, two.protocol)
    else:
        notes += _listed("the protocol differs", _named(one), _named(two))
    if one.records and two.records and one.seeds != two.seeds:
        notes.append(_seeds(one.seeds, two.seeds))
    aliases = [run.run.get("alias", {}) for run in (one, two)]
    if all(isinstance(alias, dict) for alias in aliases):
        shared = aliases[0].keys() & aliases[1].keys()
        notes += _listed(
            "a short name stands for another vectorizer",
            *({name: alias[name] for name in sorted(shared)} for alias in aliases),
        )
    return notes + _listed("versions differ", one.versions, two.versions)


def _named(run: Recorded) -> dict[str, str]:
    return {"name": next(iter(run.rows.values()))["protocol"]}


def _listed(what: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Return one line on all keys under which two tables differ, or none."""
    keys = [key for key in {**one, **two} if one.get(key) != two.get(key)]
    if not keys:
        return []
    pairs = (f"{key} {one.get(key, '–')} → {two.get(key, '–')}" for key in keys)
    return [f"{what}: {', '.join(pairs)}"]


def _seeds(one: set[int], two: set[int]) -> str:
    shared = ", ".join(map(str, sorted(one & two)))
    return f"the seeds differ: {len(one)} before, {len(two)} after, " + (
        f"in both seed {shared}" if shared else "none in both"
    )


METHODS = {
    "paired": "paired: the same test pairs and seeds, differences taken resample by "
    "resample",
    "independent": "not paired: the runs differ in data, test pairs or seeds, so both "
    "intervals count in full",
    "tables": "not paired: of a run only tables are left, so both intervals of "
    "results.csv count in full",
}
_CHANCE = 0.05
# What training draws; the test pairs of a seed are the same whatever these say.
_OF_TRAINING = {"n_negatives", "n_hard"}
_NONE = (math.nan,) * 3


class Change(NamedTuple):
    """One cell in two runs.

    Attributes
    ----------
    cell : Cell
    name : str
        What a recipe calls the cell.
    before, after : float
        The figure in each run, NaN where there is none.
    difference, low, high : float
        After minus before and its 95 % interval.
    verdict : str
        "better", "worse" or "same" (the interval holds 0); "failed", "failed before",
        "failed after", "only before", "only after"; "no figure" where the metric has
        none.
    why : str
        Why it failed.
    """

    cell: Cell
    name: str
    before: float
    after: float
    difference: float
    low: float
    high: float
    verdict: str
    why: str = ""

    @property
    def changed(self) -> bool:
        """Whether both runs have the cell, and tell different things of it."""
        return self.verdict in ("better", "worse", "failed before", "failed after")


@dataclass(frozen=True)
class Comparison:
    """Two runs cell by cell.

    Attributes
    ----------
    before, after : Path
        Their folders.
    metric : str
    method : str
        "paired", "independent" or "tables": what the intervals rest on.
    changes : list of Change
        Largest difference first.
    notes : list of str
        What else differs between the runs.
    """

    before: Path
    after: Path
    metric: str
    method: str
    changes: list[Change]
    notes: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """How many cells each verdict has."""
        return dict(Counter(change.verdict for change in self.changes))

    @property
    def expected_by_chance(self) -> float:
        """How many cells would seem to change, were none other than by chance.

        A twentieth of those that were compared and are not equal to the last digit.
        """
        moved = [c for c in self.changes if c.low != c.high and math.isfinite(c.low)]
        return _CHANCE * len(moved)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON: what is not finite is None."""
        return {
            "before": str(self.before),
            "after": str(self.after),
            "metric": self.metric,
            "lower_is_better": METRICS[self.metric].lower_is_better,
            "method": self.method,
            "notes": self.notes,
            "counts": self.counts,
            "expected_by_chance": self.expected_by_chance,
            "cells": [_plain(change) for change in self.changes],
        }


def compare_runs(before: Path, after: Path, metric: str | None = None) -> Comparison:
    """Say which cells changed between two runs by more than their intervals.

    Where both runs were measured on the same test pairs, whatever they trained with,
    the difference is taken in each resample and over the seeds that both have: what is
    easy or hard for both cancels out. Else, or where a folder holds tables alone, both
    intervals count in full. The intervals are of the test queries drawn, not of a
    network trained again.

    Parameters
    ----------
    before, after : Path
        Folders of two runs.
    metric : str or None, default=None
        None takes that of the first run.

    Returns
    -------
    Comparison

    Raises
    ------
    UsageError
        If the metric is not known.
    DataError
        If a folder holds no finished run.
    """
    if metric is not None:
        check_metric(metric)
    one, two = read_recorded(before), read_recorded(after)
    metric = metric or one.metric
    method = _method(one, two)
    cells = dict.fromkeys([*one.rows, *two.rows])
    changes = [_change(cell, one, two, metric, method) for cell in cells]
    return Comparison(
        before,
        after,
        metric,
        method,
        sorted(changes, key=_order),
        differences(one, two, metric),
    )


def _method(one: Recorded, two: Recorded) -> str:
    if not one.records or not two.records:
        return "tables"
    known = one.data is not None and bool(one.protocol)
    same = one.data == two.data and _test_side(one) == _test_side(two)
    return "paired" if known and same and one.seeds & two.seeds else "independent"


def _test_side(run: Recorded) -> dict[str, Any]:
    return {k: v for k, v in run.protocol.items() if k not in _OF_TRAINING}


def _change(
    cell: Cell, one: Recorded, two: Recorded, metric: str, method: str
) -> Change:
    rows = [run.rows.get(cell) for run in (one, two)]
    succeeded = all(row is not None and row["status"] == "ok" for row in rows)
    if succeeded and method == "paired":
        before, after, difference = _paired(one, two, cell, metric)
    else:
        figures = [_figure(row, metric) for row in rows]
        before, after = figures[0][0], figures[1][0]
        difference = _NONE
        if succeeded and method == "independent":
            difference = _apart(one.records[cell], two.records[cell], metric)
        elif succeeded:
            difference = _from_tables(*figures)
    return Change(
        cell,
        next(row["name"] for row in rows if row is not None),
        before,
        after,
        *difference,
        verdict=_verdict(rows, difference, metric),
        why="; ".join({row["error"]: None for row in rows if row and row["error"]}),
    )


def _figure(row: dict[str, Any] | None, metric: str) -> tuple[float, float, float]:
    if row is None or row["status"] != "ok":
        return _NONE
    return row[metric], row[f"{metric}_low"], row[f"{metric}_high"]


def _paired(
    one: Recorded, two: Recorded, cell: Cell, metric: str
) -> tuple[float, float, tuple[float, float, float]]:
    """Return both figures over the seeds that both have, and their difference."""
    seeds = sorted(set(one.records[cell]) & set(two.records[cell]))
    found = [[run.records[cell][seed] for seed in seeds] for run in (one, two)]
    gain, low, high = comparison(found[1], found[0], metric)
    if METRICS[metric].lower_is_better:
        gain, low, high = -gain, -high, -low
    before, after = (float(np.mean(_values(records, metric))) for records in found)
    return before, after, (gain, low, high)


def _apart(
    one: dict[int, Any], two: dict[int, Any], metric: str
) -> tuple[float, float, float]:
    """Return the difference of two cells whose resamples share nothing."""
    values, draws = [], []
    for records in (one.values(), two.values()):
        values.append(float(np.mean(_values(records, metric))))
        resampled = [
            np.array(record["resampled"][metric], dtype=np.float64)
            for record in records
        ]
        draws.append(np.mean(resampled, axis=0))
    # Each resample of the one against each of the other.
    low, high = interval((draws[1][:, None] - draws[0][None, :]).ravel())
    return values[1] - values[0], low, high


def _from_tables(
    one: tuple[float, ...], two: tuple[float, ...]
) -> tuple[float, float, float]:
    """Return the difference of two figures by their intervals alone.

    The limits of both are recovered as variances (Zou & Donner, 2008).
    """
    (a, a_low, a_high), (b, b_low, b_high) = one, two
    return (
        b - a,
        b - a - math.hypot(b - b_low, a_high - a),
        b - a + math.hypot(b_high - b, a - a_low),
    )


def _values(records: Iterable[dict[str, Any]], metric: str) -> list[float]:
    found = [record["figures"][metric] for record in records]
    return [math.nan if value is None else value for value in found] or [math.nan]


def _verdict(
    rows: Sequence[dict[str, Any] | None],
    difference: tuple[float, float, float],
    metric: str,
) -> str:
    if rows[0] is None or rows[1] is None:
        return "only after" if rows[0] is None else "only before"
    failed = [row is not None and row["status"] != "ok" for row in rows]
    if any(failed):
        return "failed" if all(failed) else f"failed {('before', 'after')[failed[1]]}"
    _, low, high = difference
    if not (math.isfinite(low) and math.isfinite(high)):
        return "no figure"
    if low <= 0 <= high:
        return "same"
    return "better" if (low > 0) != METRICS[metric].lower_is_better else "worse"


def _order(change: Change) -> tuple[bool, float, str]:
    told = math.isfinite(change.difference)
    return not told, -abs(change.difference) if told else 0.0, change.verdict


def _plain(change: Change) -> dict[str, Any]:
    rest = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in change._asdict().items()
        if key != "cell"
    }
    return asdict(change.cell) | rest
