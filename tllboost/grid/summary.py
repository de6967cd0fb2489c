"""Records of cells and seeds to rows: means, intervals, gains, ties, the choice.

Everything here is arithmetic on the resamples that each record keeps: the same resample
of the same components for every cell and seed, so differences are paired.

The few lines a reader wants first: what validation chose and what it gained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.grid.cells import COSINE, Cell
from tllboost.metrics import LOWER_IS_BETTER, METRICS, interval
from tllboost.projections import NONE

__all__ = ["by_validation", "comparison", "headline", "summarise"]

Record = dict[str, Any]
Row = dict[str, Any]

_COSTS = ("vectorize_s", "project_s", "fit_s", "score_s")
_SIZES = ("n_train_pairs", "n_test_queries", "n_candidates", "n_features", "threshold")


def summarise(
    cells: Sequence[Cell],
    records: Iterable[Record],
    *,
    metric: str,
    protocol: str,
    names: Mapping[Cell, str] | None = None,
) -> list[Row]:
    """Return a row a cell, its seeds averaged.

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
    resampled = {
        cell: _resampled(found) for cell, found in of_cell.items() if _succeeded(found)
    }
    best = _best(of_cell, resampled, metric)
    rows = []
    for cell, found in of_cell.items():
        row: Row = {
            "vectorizer": cell.vectorizer,
            "projection": cell.projection,
            "merge": cell.merge,
            "head": cell.head,
            "name": (names or {}).get(cell, ""),
            "status": "ok" if cell in resampled else "failed",
        }
        if cell in resampled:
            row |= _measured(found, resampled[cell])
            baseline = of_cell[_baseline(cell, of_cell, metric)]
            row |= _compared("gain", found, baseline, metric)
            row |= _compared("to_best", found, of_cell[best], metric) if best else {}
            row["tied_with_best"] = _tie(row, cell == best)
        row |= {"metric": metric, "protocol": protocol, "n_seeds": len(found)}
        row["error"] = "; ".join(sorted({r["error"] for r in found if r.get("error")}))
        rows.append(row)
    return rows


def _baseline(cell: Cell, of_cell: dict[Cell, list[Record]], metric: str) -> Cell:
    """Return the frozen cosine of the same vectorizer, of an ensemble the best one.

    The best on validation, as everything that is chosen.
    """
    own = Cell(cell.vectorizer, NONE, NONE, COSINE)
    if own in of_cell:
        return own
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    frozen = [
        other
        for other, found in of_cell.items()
        if other.head == COSINE and other.projection == NONE and _succeeded(found)
    ]
    return max(
        frozen,
        key=lambda other: (
            sign
            * np.mean(
                [record["validation"][metric] or 0.0 for record in of_cell[other]]
            )
        ),
        default=cell,
    )


def comparison(
    found: Sequence[Record], other: Sequence[Record], metric: str
) -> tuple[float, float, float]:
    """Return the paired difference of two cells and its 95 % interval.

    A gain is positive where the first cell is better, whatever the metric's direction.
    """
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    pair = {record["seed"]: record for record in other}
    both = [(one, pair[one["seed"]]) for one in found if one["seed"] in pair]
    if not both or not _succeeded([record for couple in both for record in couple]):
        return (float("nan"),) * 3
    value = np.mean([_value(one, metric) - _value(two, metric) for one, two in both])
    spread = np.mean(
        [_draws(one, metric) - _draws(two, metric) for one, two in both], 0
    )
    low, high = interval(sign * spread)
    return sign * float(value), low, high


def by_validation(rows: Sequence[Row], metric: str) -> list[Row]:
    """Order the rows by their validation figure, best first; the test has no say."""
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    measured = [row for row in rows if row["status"] == "ok"]
    finite = [row for row in measured if np.isfinite(row["validation"])]
    return sorted(finite, key=lambda row: sign * row["validation"]) or measured


def _succeeded(found: Sequence[Record]) -> bool:
    return bool(found) and all(record["status"] == "ok" for record in found)


def _resampled(found: Sequence[Record]) -> dict[str, NDArray[np.float64]]:
    """Return each metric's resamples, averaged over seeds."""
    return {
        metric: np.mean([_draws(record, metric) for record in found], axis=0)
        for metric in METRICS
    }


def _draws(record: Record, metric: str) -> NDArray[np.float64]:
    return np.array(record["resampled"][metric], dtype=np.float64)


def _value(record: Record, metric: str) -> float:
    value = record["figures"][metric]
    return float("nan") if value is None else value


def _best(
    of_cell: dict[Cell, list[Record]], measured: Iterable[Cell], metric: str
) -> Cell | None:
    """Return the cell of the best test figure: what ties are told against."""
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    values = {
        cell: sign * float(np.mean([_value(r, metric) for r in of_cell[cell]]))
        for cell in measured
    }
    finite = {cell: value for cell, value in values.items() if np.isfinite(value)}
    return max(finite, key=finite.__getitem__) if finite else None


def _measured(
    found: Sequence[Record], resampled: dict[str, NDArray[np.float64]]
) -> Row:
    row: Row = {}
    for metric in METRICS:
        low, high = interval(resampled[metric])
        row[metric] = float(np.mean([_value(record, metric) for record in found]))
        row[f"{metric}_low"], row[f"{metric}_high"] = low, high
    for name in (*_SIZES, *_COSTS, "best_of_folds"):
        values = [record[name] for record in found if record.get(name) is not None]
        row[name] = float(np.mean(values)) if values else float("nan")
    row["peak_memory_mb"] = max(record["peak_memory_mb"] for record in found)
    return row


def _compared(
    name: str, found: Sequence[Record], other: Sequence[Record], metric: str
) -> Row:
    value, low, high = comparison(found, other, metric)
    validation = [record["validation"][metric] for record in found]
    chosen = float("nan") if None in validation else float(np.mean(validation))
    return {name: value, f"{name}_low": low, f"{name}_high": high, "validation": chosen}


def _tie(row: Row, is_best: bool) -> str:
    if is_best:
        return "best"
    low, high = row.get("to_best_low", np.nan), row.get("to_best_high", np.nan)
    return "yes" if low <= 0 <= high else "no"


def headline(
    rows: Sequence[dict[str, Any]],
    records: Sequence[dict[str, Any]],
    chosen: dict[str, Any] | None,
    metric: str,
) -> list[str]:
    """Return lines on the cell that validation chose, against the best cosine."""
    if chosen is None:
        return []
    cell = _cell(chosen)
    low, high = chosen[f"{metric}_low"], chosen[f"{metric}_high"]
    lines = [
        f"chosen on validation: {cell.name}: {metric} {chosen[metric]:.3f} "
        f"[{low:.3f}, {high:.3f}]"
    ]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    cosines = [
        row
        for row in rows
        if row["head"] == COSINE and row["projection"] == NONE and row["status"] == "ok"
    ]
    if cosines and (cell.head, cell.projection) != (COSINE, NONE):
        best = max(cosines, key=lambda row: sign * row[metric])
        gain, low, high = comparison(
            _records(records, cell), _records(records, _cell(best)), metric
        )
        lines.append(
            f"gain over the best cosine ({best['vectorizer']}, {best[metric]:.3f}): "
            f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]"
        )
    return lines


def _cell(row: dict[str, Any]) -> Cell:
    return Cell(row["vectorizer"], row["projection"], row["merge"], row["head"])


def _records(records: Sequence[dict[str, Any]], cell: Cell) -> list[dict[str, Any]]:
    return [record for record in records if Cell(**record["cell"]) == cell]
