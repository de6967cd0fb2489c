"""The grid: every (vectorizer, projection, merge, head) on one pair table."""

from tllboost.grid.run import GridResult, run_grid

__all__ = ["GridResult", "run_grid"]
