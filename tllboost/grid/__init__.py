"""The grid: every (vectorizer, projection, merge, head) on one pair table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tllboost.grid.outputs import GridResult
    from tllboost.grid.run import run_grid

__all__ = ["GridResult", "run_grid"]


def __getattr__(name: str) -> Any:
    # Whoever reads a run, or lists formats, needs none of what fits the cells.
    if name in __all__:
        from tllboost.grid import run

        return getattr(run, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
