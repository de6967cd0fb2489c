"""What is found out about one pair, and the short form of it in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import printable
from tllboost.explain.leaves import Member, Share
from tllboost.explain.training import Neighbour

__all__ = ["Explanation", "Patch", "short_form", "signed", "telling_patches"]

_N_PATCHES = 3


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
    def sides(self) -> tuple[tuple[str, str, NDArray[np.float64]], ...]:
        """Name, image and map of both."""
        return ("left", self.left, self.left_map), ("right", self.right, self.right_map)

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
        alike = (
            *("left", "right", "probability", "decision", "threshold", "score"),
            *("log_odds", "grid", "trained_on", "notes"),
        )
        return {name: getattr(self, name) for name in alike} | {
            "left_map": self.left_map.tolist(),
            "right_map": self.right_map.tolist(),
            "vectorizers": [one._asdict() for one in self.shares],
            "without_vectorizers": self.empty,
            "members": [one._asdict() for one in self.members],
            "nearest": [
                {
                    "left": one.ids[0],
                    "right": one.ids[1],
                    "cosines": one.cosines,
                    "same_files": one.is_same,
                }
                for one in self.neighbours
            ],
        }


class Patch(NamedTuple):
    """One patch, counted from the upper left corner, and what covering it changes."""

    row: int
    column: int
    change: float

    @property
    def words(self) -> str:
        """Where it is, and the change."""
        return f"row {self.row}, column {self.column}: {signed(self.change)}"


def telling_patches(
    changes: NDArray[np.float64], n_patches: int = _N_PATCHES
) -> list[Patch]:
    """Return the patches that change the log-odds most, the most telling first.

    Examples
    --------
    >>> telling_patches(np.array([[0.0, -0.8], [0.2, 0.0]]))[0].words
    'row 1, column 2: -0.80'
    """
    order = np.argsort(-np.abs(changes), axis=None, kind="stable")[:n_patches]
    places = [divmod(one, len(changes)) for one in order.tolist()]
    told = [(row, column) for row, column in places if changes[row, column] != 0]
    return [Patch(i + 1, j + 1, float(changes[i, j])) for i, j in told]


def signed(value: float, minus: str = "-") -> str:
    """Return a number with its sign and two digits; nothing is called minus zero.

    Examples
    --------
    >>> signed(0.8), signed(-0.001), signed(-2.5, "−")
    ('+0.80', '0.00', '−2.50')
    """
    text = f"{value:+.2f}"
    return "0.00" if text[1:] == "0.00" else text.replace("-", minus)


def short_form(explanation: Explanation) -> str:
    """Return the short form, a line a finding.

    Parameters
    ----------
    explanation : Explanation

    Returns
    -------
    str
        Score and decision, the most telling patches of both images, what each
        vectorizer adds and what each member of an ensemble says.
    """
    one = explanation
    lines = [
        f"probability  {one.probability:.4f}",
        f"decision     {one.decision}",
        f"threshold    {one.threshold:.4f}",
        f"score        {one.score:.6g}",
        f"log-odds     {signed(one.log_odds)}",
    ]
    parts: list[tuple[str, list[str]]] = []
    for side, name, changes in one.sides:
        told = [patch.words for patch in telling_patches(changes)]
        title = f"covering changes the log-odds: {side}, {name}"
        parts.append((title, told or ["nothing changes"]))
    if one.shares and one.empty is not None:
        told = [f"{signed(share.adds):>7}  {share.name}" for share in one.shares]
        parts.append((f"vectorizers, added to {signed(one.empty)} with none", told))
    told = [f"{signed(member.log_odds):>7}  {member.name}" for member in one.members]
    parts.append(("members, log-odds of each, weighed alike", told))
    told = [
        f"{near.likeness:>7.3f}  {' | '.join(near.ids)}"
        + (", these very files" if near.is_same else "")
        for near in one.neighbours
    ]
    parts.append(("nearest training matches, by mean cosine", told))
    for title, told in parts:
        if told:
            lines += ["", title, *(f"  {line}" for line in told)]
    lines += [f"note: {note}" for note in [one.warning, *one.notes] if note]
    return "".join(f"{printable(line)}\n" for line in lines)
