"""An explanation in words: for the terminal, and for who can't see the colours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import printable
from tllboost.explain.explanation import Explanation

__all__ = ["Patch", "short_form", "signed", "telling_patches"]

_N_PATCHES = 3


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
    places = zip(*np.unravel_index(order, changes.shape), strict=True)
    return [
        Patch(int(row) + 1, int(column) + 1, float(changes[row, column]))
        for row, column in places
        if changes[row, column] != 0
    ]


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
    for side, name, changes in (
        ("left", one.left, one.left_map),
        ("right", one.right, one.right_map),
    ):
        lines += ["", f"covering changes the log-odds: {side}, {printable(name)}"]
        patches = telling_patches(changes)
        lines += [f"  {patch.words}" for patch in patches] or ["  nothing changes"]
    if one.shares and one.empty is not None:
        lines += ["", f"vectorizers, added to {signed(one.empty)} with none"]
        lines += [
            f"  {signed(adds):>7}  {printable(name)}" for name, adds in one.shares
        ]
    if one.members:
        lines += ["", "members, log-odds of each, weighed alike"]
        lines += [
            f"  {signed(odds):>7}  {printable(name)}"
            for name, odds, _, _ in one.members
        ]
    if one.neighbours:
        lines += ["", "nearest training matches, by mean cosine"]
        lines += [
            f"  {near.likeness:>7.3f}  {printable(' | '.join(near.ids))}"
            + (", these very files" if near.is_same else "")
            for near in one.neighbours
        ]
    notes = [one.warning] if one.warning else []
    lines += [f"note: {printable(note)}" for note in [*notes, *one.notes]]
    return "".join(f"{line}\n" for line in lines)
