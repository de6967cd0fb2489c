"""The few lines a reader wants first: what validation chose and what it gained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tllboost.grid.plan import COSINE, Cell
from tllboost.grid.summary import comparison
from tllboost.metrics import LOWER_IS_BETTER
from tllboost.projections import NONE

__all__ = ["headline"]


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
