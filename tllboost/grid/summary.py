"""Records of cells and seeds to rows: means, intervals, gains, ties, headlines.

Everything here is arithmetic on the resamples that each record keeps: the same resample
of the same components for every cell and seed, so differences are paired. A record of
an earlier version may lack a metric, or hold another number of resamples: a figure that
needs what is not there is NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.grid.cells import COSINE, Cell
from tllboost.metrics import METRICS
from tllboost.projections import NONE

Floats = NDArray[np.float64]
Record = dict[str, Any]
Row = dict[str, Any]

FROZEN = COSINE, NONE
"""Head and projection of the cosine of the vectors as they are."""
COSTS = (
    *("n_train_pairs", "n_test_queries", "n_candidates", "n_features", "threshold"),
    *("vectorize_s", "project_s", "fit_s", "score_s", "best_of_folds"),
    "peak_memory_mb",
)


def figure(found: Sequence[Record], metric: str, of: str = "figures") -> float:
    """Return the mean of a figure over records, NaN where one has none.

    Parameters
    ----------
    found : sequence of dict
        Of the seeds of a cell that succeeded.
    metric : str
    of : {"figures", "validation"}, default="figures"
        Of the test set or of the validation set.

    Examples
    --------
    >>> figure([{"figures": {"top1": 0.5, "mrr": None}}], "top1")
    0.5
    >>> figure([{"figures": {"top1": 0.5, "mrr": None}}], "mrr")
    nan
    """
    values = [record[of].get(metric) for record in found]
    return float(np.mean(np.array(values, dtype=np.float64)))


def draws(record: Mapping[str, Any], metric: str) -> Floats:
    """Return a metric's value in each resample of the test set, empty where unknown.

    Resamples of two records are paired, one with one, where there are as many of them;
    otherwise they are of different draws and have nothing in common.

    Examples
    --------
    >>> draws({"resampled": {"top1": [0.5, None]}}, "top1")
    array([0.5, nan])
    >>> draws({"resampled": {}}, "top1")
    array([], dtype=float64)
    """
    return np.asarray(record["resampled"].get(metric, ()), dtype=np.float64)


def summarise(
    cells: Sequence[Cell],
    records: Iterable[Record],
    *,
    metric: str,
    protocol: str,
    names: Mapping[Cell, str] | None = None,
) -> list[Row]:
    """Return one row for each cell, its seeds averaged.

    Parameters
    ----------
    cells : sequence of Cell
        In the order of the rows.
    records : iterable of dict
        What each cell and seed came to; a cell with a failed seed has failed.
    metric : str
        What gains and ties are told in.
    protocol : str
        Name of the protocol, a column.
    names : dict of Cell to str, or None
        What a recipe calls some of the cells, a column.

    Returns
    -------
    list of dict
        Each with the columns of ``results.csv``.
    """
    of_cell: dict[Cell, list[Record]] = {cell: [] for cell in cells}
    for record in records:
        cell = Cell(**record["cell"])
        if cell in of_cell:
            of_cell[cell].append(record)
    told = standings(of_cell, metric)
    rows = []
    for cell, found in of_cell.items():
        row: Row = asdict(cell)
        row |= {"name": (names or {}).get(cell, ""), "status": "failed"}
        if cell in told:
            row["status"] = "ok"
            for name in METRICS:
                row[name] = figure(found, name)
                of_seed = [draws(record, name) for record in found]
                alike = len({len(one) for one in of_seed}) == 1
                spread = np.mean(of_seed, axis=0) if alike else np.empty(0)
                row[f"{name}_low"], row[f"{name}_high"] = interval(spread)
            for name in COSTS:
                known = [r[name] for r in found if r.get(name) is not None]
                join = max if name == "peak_memory_mb" else np.mean
                row[name] = float(join(known)) if known else float("nan")
            row |= told[cell]
        row |= {"metric": metric, "protocol": protocol, "n_seeds": len(found)}
        row["error"] = "; ".join(sorted({r["error"] for r in found if r.get("error")}))
        rows.append(row)
    return rows


def interval(resampled: Floats) -> tuple[float, float]:
    """Return the central 95 % of resampled values, NaN where there are none."""
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def standings(of_cell: Mapping[Cell, Sequence[Record]], metric: str) -> dict[Cell, Row]:
    """Return what a metric says of each cell that succeeded, beside its figures.

    Parameters
    ----------
    of_cell : dict of Cell to sequence of dict
        The records of each cell.
    metric : str

    Returns
    -------
    dict of Cell to dict
        Its gain over the cosine, its distance to the best, whether that is a tie, and
        its figure on the validation set.
    """
    measured = {
        cell: found
        for cell, found in of_cell.items()
        if found and all(record["status"] == "ok" for record in found)
    }
    best = _best(measured, metric, "figures")
    frozen = {c: r for c, r in measured.items() if (c.head, c.projection) == FROZEN}
    best_frozen = _best(frozen, metric, "validation")
    told = {}
    for cell, found in measured.items():
        row: Row = {"validation": figure(found, metric, "validation")}
        # Of an ensemble the best one: on validation, as everything that is chosen.
        cosine = Cell(cell.vectorizer, NONE, NONE, COSINE)
        baseline = cosine if cosine in of_cell else best_frozen or cell
        for name, other in (("gain", baseline), ("to_best", best)):
            if other is not None:
                gain, low, high = comparison(found, of_cell[other], metric)
                row |= {name: gain, f"{name}_low": low, f"{name}_high": high}
        low, high = (row.get(f"to_best_{end}", np.nan) for end in ("low", "high"))
        tied = "yes" if low <= 0 <= high else "no"
        row["tied_with_best"] = "best" if cell == best else tied
        told[cell] = row
    return told


def comparison(
    found: Sequence[Record], other: Sequence[Record], metric: str
) -> tuple[float, float, float]:
    """Return the paired difference of two cells and its 95 % interval.

    A gain is positive where the first cell is better, whatever the metric's direction.
    """
    pair = {record["seed"]: record for record in other}
    both = [(one, pair[one["seed"]]) for one in found if one["seed"] in pair]
    if not both or any(r["status"] != "ok" for couple in both for r in couple):
        return (float("nan"),) * 3
    sign = METRICS[metric].sign
    ours, theirs = (figure(some, metric) for some in zip(*both, strict=True))
    couples = [(draws(a, metric), draws(b, metric)) for a, b in both]
    alike = len({len(one) for couple in couples for one in couple}) == 1
    spread = np.mean([a - b for a, b in couples], axis=0) if alike else np.empty(0)
    return sign * (ours - theirs), *interval(sign * spread)


def headline(
    rows: Sequence[Row],
    records: Sequence[Record],
    chosen: Row | None,
    gave: Row | None,
    metric: str,
) -> list[str]:
    """Return lines on what validation chose and gave, against the best cosine."""
    if chosen is None or gave is None:
        return []
    told = []
    for of in (gave, chosen):
        ends = f"[{of[f'{metric}_low']:.3f}, {of[f'{metric}_high']:.3f}]"
        told.append(f"{metric} {of[metric]:.3f} {ends}")
    name = " × ".join(chosen[part] for part in Cell.__annotations__)
    n, k = gave["n_choices"], len(gave["cells"])
    how = f"{n} choices, {k} cell{'s' * (k > 1)}" if n > 1 else "1 choice"
    lines = [
        f"what choosing on validation gave: {told[0]} ({how})",
        f"chosen on validation: {name}: {told[1]}",
    ]
    measured = [row for row in rows if row["status"] == "ok"]
    cosines = [row for row in measured if (row["head"], row["projection"]) == FROZEN]
    if cosines and (chosen["head"], chosen["projection"]) != FROZEN:
        best = max(cosines, key=lambda row: METRICS[metric].sign * row[metric])
        ours, theirs = (
            [record for record in records if record["cell"].items() <= row.items()]
            for row in (chosen, best)
        )
        gain, low, high = comparison(ours, theirs, metric)
        lines.append(
            f"gain over the best cosine ({best['vectorizer']}, {best[metric]:.3f}): "
            f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]"
        )
    return lines


def _best(found: Mapping[Cell, Sequence[Record]], metric: str, of: str) -> Cell | None:
    """Return the cell of the best figure: what ties are told against."""
    sign = METRICS[metric].sign
    values = {cell: sign * figure(its, metric, of) for cell, its in found.items()}
    finite = {cell: value for cell, value in values.items() if np.isfinite(value)}
    return max(finite, key=finite.__getitem__) if finite else None
