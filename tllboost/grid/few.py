"""Say where so few groups are tested that the figures tell little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tllboost.splits import Protocol, Split

__all__ = ["few_notes"]

_FEW_TESTED = 10
_FEW_CHOOSING = 5


def few_notes(splits: Sequence[Split], protocol: Protocol) -> list[str]:
    """Return a note where the test or the validation side has few components.

    Every figure may then be 1.000, with an interval of no width, and a threshold that
    two groups chose calls anything a match.

    Parameters
    ----------
    splits : sequence of Split
        The folds of one seed.
    protocol : Protocol
    """
    tested = len(_distinct([split.test.component for split in splits]))
    choosing = min(len(_distinct([one.validation.component])) for one in splits)
    if tested >= _FEW_TESTED and choosing >= _FEW_CHOOSING:
        return []
    query = np.concatenate([split.test.query for split in splits])
    n_lists = sum(
        len(_distinct([one.test.query[one.test.query >= 0]])) for one in splits
    )
    met = (
        f", a query meets {np.sum(query >= 0) / n_lists:.1f} candidates"
        if n_lists
        else ""
    )
    remedy = ", or --protocol kfold" if protocol.name == "holdout" else ""
    return [
        f"few groups: {tested} components are tested, {choosing} choose threshold and "
        f"cell{met}: the figures tell little; give more groups{remedy}"
    ]


def _distinct(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate(list(parts)))
