"""The grid: every (vectorizer, projection, merge, head) on one pair table."""

from tllboost.grid.outputs import GridResult
from tllboost.grid.run import run_grid

__all__ = ["GridResult", "run_grid"]
