"""Why two images score as they do: parts of images, of a fusion, of an ensemble."""

from __future__ import annotations

from tllboost.explain.page import write_page
from tllboost.explain.pair import Explanation, explain, short_form
from tllboost.explain.training import run_beside

__all__ = ["Explanation", "explain", "run_beside", "short_form", "write_page"]
