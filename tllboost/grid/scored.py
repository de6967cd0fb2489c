"""Scores of the pairs of one side, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tllboost.metrics import Figure, binary_figures, match_ranks, ranking_figures
from tllboost.splits import PairSet

__all__ = ["ScoredSide"]

Floats = NDArray[np.float64]


@dataclass(eq=False)
class ScoredSide:
    """Scores of one side, folds one behind the other.

    Attributes
    ----------
    pairs : list of PairSet
    score, log_odds : list of ndarray of shape (n_pairs,), float64
        As the head gave them, and calibrated on validation.
    decision : list of ndarray of shape (n_pairs,), bool
    """

    pairs: list[PairSet] = field(default_factory=list)
    score: list[Floats] = field(default_factory=list)
    log_odds: list[Floats] = field(default_factory=list)
    decision: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(
        self, pairs: PairSet, score: Floats, log_odds: Floats, threshold: float
    ) -> None:
        """Add a fold."""
        self.pairs.append(pairs)
        self.score.append(score)
        self.log_odds.append(log_odds)
        self.decision.append(score >= threshold)

    def figures(self, *, resample: bool = True) -> tuple[dict[str, Figure], list[int]]:
        """Return all metrics, and the list size of each query."""
        from scipy.special import expit

        ranks, components, sizes = [], [], []
        for pairs, score in zip(self.pairs, self.score, strict=True):
            queries, rank, size = match_ranks(score, pairs.label, pairs.query)
            first = np.searchsorted(np.sort(pairs.query), queries)
            order = np.argsort(pairs.query, kind="stable")
            components.append(pairs.component[order[first]])
            ranks.append(rank)
            sizes.append(size)
        ranking = ranking_figures(
            np.concatenate(ranks), np.concatenate(components), resample=resample
        )
        binary = binary_figures(
            expit(np.concatenate(self.log_odds)),
            np.concatenate(self.decision),
            np.concatenate([pairs.label for pairs in self.pairs]),
            np.concatenate([pairs.weight for pairs in self.pairs]),
            np.concatenate([pairs.component for pairs in self.pairs]),
            resample=resample,
        )
        return ranking | binary, np.concatenate(sizes).tolist()
