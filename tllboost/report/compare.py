"""Two runs cell by cell: what changed by more than its interval, and what else did."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tllboost.files import finite
from tllboost.grid.cells import Cell
from tllboost.grid.summary import comparison, figure
from tllboost.metrics import METRICS, check_metric
from tllboost.report.run import Run, part, read_run

METHODS = {
    "paired": "paired: the same test pairs and seeds, differences taken resample by "
    "resample",
    "independent": "not paired: the runs differ in data, test pairs or seeds, or only "
    "the tables of one are left, so both intervals count in full",
}
_CHANCE = 0.05
# What training draws; the test pairs of a seed are the same whatever these say.
_OF_TRAINING = {"n_negatives", "n_hard"}

Row = dict[str, Any]
Ends = tuple[float, float, float]
"""A figure, or a difference, and both ends of its interval."""


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
        "paired" or "independent": what the intervals rest on.
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
        cells = [
            asdict(cell) | dict(zip(Change._fields[1:], rest, strict=True))
            for cell, *rest in self.changes
        ]
        told = vars(self) | {
            "before": str(self.before),
            "after": str(self.after),
            "lower_is_better": METRICS[self.metric].sign < 0,
            "counts": self.counts,
            "expected_by_chance": self.expected_by_chance,
            "cells": cells,
        }
        del told["changes"]
        return dict(finite(told))


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
        If a folder holds no run.
    """
    if metric is not None:
        check_metric(metric)
    runs = one, two = read_run(before), read_run(after)
    metric = metric or one.metric
    tested = [
        (run.data, {k: v for k, v in run.protocol.items() if k not in _OF_TRAINING})
        for run in runs
    ]
    same = one.data is not None and tested[0] == tested[1]
    # Of tables alone no seed is known.
    method = "paired" if same and set(one.seeds) & set(two.seeds) else "independent"
    rows = [dict(zip(run.cells, run.rows(), strict=True)) for run in runs]
    changes = [
        _change(cell, [of.get(cell) for of in rows], runs, metric, method)
        for cell in dict.fromkeys([*one.cells, *two.cells])
    ]
    notes = list(_differences(one, two, metric))
    return Comparison(before, after, metric, method, sorted(changes, key=_order), notes)


def _change(
    cell: Cell,
    rows: Sequence[Row | None],
    runs: tuple[Run, Run],
    metric: str,
    method: str,
) -> Change:
    known = [row for row in rows if row is not None]
    # By their intervals alone: both limits recovered as variances (Zou & Donner, 2008).
    (before, *ends), (after, *other) = (_figures(row, metric) for row in rows)
    low = after - before - math.hypot(after - other[0], ends[1] - before)
    high = after - before + math.hypot(other[1] - after, before - ends[0])
    if method == "paired" and [row["status"] for row in known] == ["ok", "ok"]:
        found = [run.records[cell] for run in runs]
        both = sorted(found[0].keys() & found[1].keys())
        old, new = ([of[seed] for seed in both] for of in found)
        _, *gains = comparison(new, old, metric)
        if not math.isnan(gains[0]):
            low, high = sorted(METRICS[metric].sign * end for end in gains)
            before, after = (figure(records, metric) for records in (old, new))
    return Change(
        cell,
        known[0]["name"],
        before,
        after,
        after - before,
        low,
        high,
        verdict=_verdict(rows, (after - before, low, high), metric),
        why="; ".join({row["error"]: None for row in known if row["error"]}),
    )


def _figures(row: Row | None, metric: str) -> Ends:
    if row is None or row["status"] != "ok":
        return (math.nan,) * 3
    return row[metric], row[f"{metric}_low"], row[f"{metric}_high"]


def _verdict(rows: Sequence[Row | None], difference: Ends, metric: str) -> str:
    if None in rows:
        return "only after" if rows[0] is None else "only before"
    failed = [row is not None and row["status"] != "ok" for row in rows]
    if any(failed):
        return "failed" if all(failed) else f"failed {('before', 'after')[failed[1]]}"
    _, low, high = difference
    if not all(map(math.isfinite, difference)):
        return "no figure"
    if low <= 0 <= high:
        return "same"
    return "better" if low * METRICS[metric].sign > 0 else "worse"


def _order(change: Change) -> tuple[bool, float, str]:
    told = math.isfinite(change.difference)
    return not told, -abs(change.difference) if told else 0.0, change.verdict


def _differences(one: Run, two: Run, metric: str) -> Iterator[str]:
    """Give a line for each thing that makes the figures of two runs less alike."""
    if not set(one.cells) & set(two.cells):
        yield "no cell is in both runs; cells are told apart by their four names"
    for run in (one, two):
        if run.metric != metric:
            yield f"{run.out} shows {run.metric}; compared in {metric}"
    if one.data is None or two.data is None:
        yield "a run.toml is missing, so it is unknown whether the data is the same"
    elif one.data != two.data:
        yield "the data differs: other pairs or images"
    protocols = one.protocol, two.protocol
    if min(map(len, protocols)) == 1:  # of tables alone the name is known, no more
        protocols = {"name": one.protocol["name"]}, {"name": two.protocol["name"]}
    yield from _listed("the protocol differs", *protocols)
    if one.records and two.records and one.seeds != two.seeds:
        both = ", ".join(map(str, sorted(set(one.seeds) & set(two.seeds))))
        yield (
            f"the seeds differ: {len(one.seeds)} before, {len(two.seeds)} after, "
            + (f"in both seed {both}" if both else "none in both")
        )
    short = [part(run.settings, "alias") for run in (one, two)]
    shared = sorted(short[0].keys() & short[1].keys())
    aliases = ({name: alias[name] for name in shared} for alias in short)
    yield from _listed("a short name stands for another vectorizer", *aliases)
    yield from _listed("versions differ", one.versions, two.versions)


def _listed(what: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[str]:
    """Give one line on all keys under which two tables differ, or none."""
    pairs = [
        f"{key} {one.get(key, '–')} → {two.get(key, '–')}"
        for key in {**one, **two}
        if one.get(key) != two.get(key)
    ]
    if pairs:
        yield f"{what}: {', '.join(pairs)}"
