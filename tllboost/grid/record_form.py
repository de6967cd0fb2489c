"""What a record of a cell must look like: it is read from a file that may be edited."""

from __future__ import annotations

import math
from typing import Any

from tllboost.metrics import METRICS, N_RESAMPLES

__all__ = ["is_record"]

_PARTS = {"vectorizer", "projection", "merge", "head"}
_NUMBERS = (
    *("n_train_pairs", "n_test_queries", "n_candidates", "n_features", "threshold"),
    *("vectorize_s", "project_s", "fit_s", "score_s", "best_of_folds"),
)
_TEXTS = {"id", "status", "error"}


def is_record(found: Any) -> bool:
    """Tell whether something read from JSON is a record, of whichever cell.

    Examples
    --------
    >>> cell = {"vectorizer": "a", "projection": "none", "merge": "dot", "head": "b"}
    >>> record = {"id": "1", "cell": cell, "seed": 0, "status": "failed", "error": "x"}
    >>> is_record(record)
    True
    >>> is_record(record | {"status": "ok"})
    False
    """
    if not isinstance(found, dict) or not _is_named(found):
        return False
    if found["status"] == "failed":
        return True
    return found["status"] == "ok" and _is_measured(found)


def _is_named(found: dict[str, Any]) -> bool:
    cell, seed = found.get("cell"), found.get("seed")
    return (
        all(isinstance(found.get(name), str) for name in _TEXTS)
        and isinstance(seed, int)
        and not isinstance(seed, bool)
        and isinstance(cell, dict)
        and cell.keys() == _PARTS
        and all(isinstance(part, str) for part in cell.values())
    )


def _is_measured(found: dict[str, Any]) -> bool:
    figures, draws = found.get("figures"), found.get("resampled")
    return (
        _are_figures(figures)
        and _are_figures(found.get("validation"))
        and isinstance(draws, dict)
        and draws.keys() >= set(METRICS)
        and all(_are_draws(values) for values in draws.values())
        and isinstance(found.get("peak_memory_mb"), int | float)
        and _is_number(found["peak_memory_mb"])
        and all(_is_number(found.get(name)) for name in _NUMBERS)
    )


def _are_figures(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and found.keys() >= set(METRICS)
        and all(map(_is_number, found.values()))
    )


def _are_draws(found: Any) -> bool:
    return isinstance(found, list) and len(found) == N_RESAMPLES and _are_numbers(found)


def _are_numbers(found: list[Any]) -> bool:
    """Tell the same of thousands, without a call a number."""
    if not {*map(type, found)} <= {int, float, type(None)}:
        return False
    numbers = [number for number in found if number is not None]
    return not numbers or (
        min(numbers) > -(2**63)
        and max(numbers) < 2**63
        and all(map(math.isfinite, numbers))
    )


def _is_number(found: Any) -> bool:
    """Tell whether it is a number, or none where there was no finite one."""
    if found is None:
        return True
    if isinstance(found, bool) or not isinstance(found, int | float):
        return False
    return abs(found) < 2**63 and math.isfinite(found)
