"""What is found out about one pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.explain.leaves import Member, Share
from tllboost.explain.training import Neighbour

__all__ = ["Explanation"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a pair scores as it does.

    Attributes
    ----------
    left, right : str
        The images.
    probability, threshold : float
        Of a match, and at and above which a pair is called one.
    is_match : bool
    score : float
        What the head gave before calibration.
    log_odds : float
        The probability as log-odds; all below is in these units.
    left_map, right_map : ndarray of shape (grid, grid), float64
        Change of the log-odds when a patch is covered; below 0 where what is there
        speaks for a match.
    shares : list of Share
        What each vectorizer adds; empty where there is one, or more than
        `MOST_PARTS`.
    empty : float or None
        The log-odds with no vectorizer, to which the shares are added.
    members : list of Member
        What each cell of an ensemble says.
    neighbours : list of Neighbour
        The training matches most like the pair.
    trained_on : list of str
        Which of "left" and "right" stood among the training matches.
    notes : list of str
        What is left out, and why.
    """

    left: str
    right: str
    probability: float
    threshold: float
    is_match: bool
    score: float
    log_odds: float
    left_map: NDArray[np.float64]
    right_map: NDArray[np.float64]
    shares: list[Share] = field(default_factory=list)
    empty: float | None = None
    members: list[Member] = field(default_factory=list)
    neighbours: list[Neighbour] = field(default_factory=list)
    trained_on: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def grid(self) -> int:
        """Patches a side."""
        return len(self.left_map)

    @property
    def warning(self) -> str:
        """A line on what the bundle was trained on, or nothing."""
        if not self.trained_on:
            return ""
        which = " and the ".join(self.trained_on)
        return (
            f"the bundle was trained on the {which} image: this score says little "
            "about new images"
        )

    @property
    def decision(self) -> str:
        """The decision in words."""
        return "match" if self.is_match else "no match"

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold."""
        return {
            "left": self.left,
            "right": self.right,
            "probability": self.probability,
            "decision": self.decision,
            "threshold": self.threshold,
            "score": self.score,
            "log_odds": self.log_odds,
            "grid": self.grid,
            "left_map": self.left_map.tolist(),
            "right_map": self.right_map.tolist(),
            "vectorizers": [one._asdict() for one in self.shares],
            "without_vectorizers": self.empty,
            "members": [one._asdict() for one in self.members],
            "nearest": [
                {
                    "left": one.ids[0],
                    "right": one.ids[1],
                    "cosines": list(one.cosines),
                    "same_files": one.is_same,
                }
                for one in self.neighbours
            ],
            "trained_on": self.trained_on,
            "notes": self.notes,
        }
