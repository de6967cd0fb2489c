"""The pairs of one side, and the three sides of one split."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Integers", "PairSet", "Split", "SplitTable"]

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PairSet:
    """The pairs of one side, matches and non-matches.

    Parameters
    ----------
    left, right : ndarray of shape (n_pairs,), int64
        Image indices.
    label : ndarray of shape (n_pairs,), int8
        1 for a match.
    query : ndarray of shape (n_pairs,), int64
        Rows of one ranking list share a code; -1 is in no list.
    weight : ndarray of shape (n_pairs,), float64
        Weight in the binary metrics; drawn non-matches of a query weigh one together,
        so that both classes weigh the same. 0 is in the ranking alone.
    component : ndarray of shape (n_pairs,), int64
        Component of the left image: the unit that intervals resample.
    """

    left: Integers
    right: Integers
    label: NDArray[np.int8]
    query: Integers
    weight: NDArray[np.float64]
    component: Integers

    def __len__(self) -> int:
        return len(self.left)

    def take(self, rows: NDArray[np.generic]) -> PairSet:
        """Return some of the pairs."""
        return PairSet(*(getattr(self, name)[rows] for name in _COLUMNS))

    def __add__(self, other: PairSet) -> PairSet:
        """Put another side's pairs behind, its queries renumbered."""
        shift = self.query.max(initial=-1) + 1
        query = np.where(other.query >= 0, other.query + shift, -1)
        other = replace(other, query=query)
        return PairSet(
            *(np.append(getattr(self, name), getattr(other, name)) for name in _COLUMNS)
        )


_COLUMNS = ("left", "right", "label", "query", "weight", "component")


@dataclass(frozen=True, eq=False)
class Split:
    """One way to train, validate and test.

    ``side`` says where each pair of the table went: "train", "validation", "test", or
    "" for a non-match whose two images lie on different sides, which is left out.
    """

    train: PairSet
    validation: PairSet
    test: PairSet
    side: NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class SplitTable:
    """The pairs to split, and the component of each image."""

    left: Integers
    right: Integers
    label: NDArray[np.int8]
    query: Integers | None
    component: Integers

    @property
    def has_non_matches(self) -> bool:
        """Whether the table brings non-matches of its own."""
        return bool((self.label == 0).any())
