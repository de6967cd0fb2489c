"""Explain one pair: which parts of it, and which parts of the bundle, say what."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.calibration import FLAT
from tllboost.errors import check_range, printable
from tllboost.explain.attribution import (
    MOST_PARTS,
    Member,
    Share,
    leaves_of,
    member_opinions,
    occlusion_maps,
    scores,
    shapley_shares,
    similarity_shares,
)
from tllboost.scoring import SHORT_FORM, Scorer
from tllboost.vectorizing import Progress, vectorize_many

# Patches a side. At the 224 pixels that most networks see a patch is then 28 pixels:
# about one position of their last map of 7 x 7, the finest that they tell apart.
_GRID, _MOST_GRID = 8, 32
_N_PATCHES = 3
_N_SHARES = 8


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a pair scores as it does.

    Attributes
    ----------
    left, right : str
        The images.
    probability, threshold : float
        Of a match, and at and above which a pair is called one.
    prior : float
        Share of matches that both are for.
    decision : str
        "match" or "no match".
    score : float
        What the head gave before calibration.
    log_odds : float
        The probability as log-odds; all below is in these units.
    left_map, right_map : ndarray of shape (grid, grid), float64
        Change of the log-odds when a patch is covered; below 0 where what is there
        speaks for a match.
    vectorizers : list of Share
        What each vectorizer adds; empty where there is one, or more than
        `MOST_PARTS`.
    without_vectorizers : float or None
        The log-odds with no vectorizer, to which the shares are added.
    similarities : list of Share
        What each normalised similarity adds to the log-odds of the cell that reads
        them, the most telling first; empty where none does.
    of_unrelated : float or None
        The log-odds of unrelated images, to which these shares are added.
    members : list of Member
        What each cell of an ensemble says.
    notes : list of str
        What is left out, and why.
    """

    left: str
    right: str
    probability: float
    threshold: float
    prior: float
    decision: str
    score: float
    log_odds: float
    left_map: NDArray[np.float64]
    right_map: NDArray[np.float64]
    vectorizers: list[Share]
    without_vectorizers: float | None
    similarities: list[Share]
    of_unrelated: float | None
    members: list[Member]
    notes: list[str]

    @property
    def grid(self) -> int:
        """Patches a side."""
        return len(self.left_map)

    @property
    def sides(self) -> tuple[tuple[str, str, NDArray[np.float64]], ...]:
        """Name, image and map of both."""
        return ("left", self.left, self.left_map), ("right", self.right, self.right_map)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold."""
        maps = {f"{side}_map": changes.tolist() for side, _, changes in self.sides}
        return asdict(self) | maps | {"grid": self.grid}


def telling_patches(
    changes: NDArray[np.float64], n_patches: int = _N_PATCHES
) -> list[tuple[int, int, float]]:
    """Return the patches that change the log-odds most, the most telling first.

    Row and column, counted from the upper left corner, and what covering changes.

    Examples
    --------
    >>> telling_patches(np.array([[0.0, -0.8], [0.2, 0.0]]))
    [(1, 2, -0.8), (2, 1, 0.2)]
    """
    order = np.argsort(-np.abs(changes), axis=None, kind="stable")[:n_patches]
    places = [divmod(one, len(changes)) for one in order.tolist()]
    told = [(row, column) for row, column in places if changes[row, column] != 0]
    return [(i + 1, j + 1, float(changes[i, j])) for i, j in told]


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
    lines = SHORT_FORM.format(**vars(one)).splitlines()
    lines.append(f"log-odds     {signed(one.log_odds)}")
    parts: dict[str, list[str]] = {}
    for side, name, changes in one.sides:
        told = [
            f"row {row}, column {column}: {signed(change)}"
            for row, column, change in telling_patches(changes)
        ]
        title = f"covering changes the log-odds: {side}, {name}"
        parts[title] = told or ["nothing changes"]
    for what, start, rest, shares in (
        ("vectorizers", one.without_vectorizers, "with none", one.vectorizers),
        ("similarities", one.of_unrelated, "of unrelated images", one.similarities),
    ):
        title = f"{what}, added to {signed(start or 0)} {rest}"
        some = shares[:_N_SHARES]
        parts[title] = [f"{signed(share.adds):>7}  {share.name}" for share in some]
    parts["members, log-odds of each × its weight"] = [
        f"{signed(m.log_odds):>7} × {m.weight:.3f}  {m.name}" for m in one.members
    ]
    for title, told in parts.items():
        if told:
            lines += ["", title, *(f"  {line}" for line in told)]
    lines += [f"note: {note}" for note in one.notes]
    return "".join(f"{printable(line)}\n" for line in lines)


def explain(
    classifier: Scorer,
    left: str | PathLike[str],
    right: str | PathLike[str],
    *,
    grid: int = _GRID,
    progress: Progress | None = None,
) -> Explanation:
    """Explain the score of two images.

    Parameters
    ----------
    classifier : PairClassifier or Scorer
        Fitted, or loaded from a bundle.
    left, right : path-like
        The images.
    grid : int, default=8
        Each image is cut into grid x grid patches, 2 to 32, that are covered one by
        one; 2·grid² images are vectorized.
    progress : callable or None, default=None
        Called with how many are done, how many there are, and what.

    Returns
    -------
    Explanation

    Raises
    ------
    ImageError
        If an image can't be read.
    UsageError
        If `grid` is out of range, or a vectorizer looks vectors up by id.

    Examples
    --------
    >>> import tempfile
    >>> from tllboost.classifier import PairClassifier
    >>> from tllboost.demo import make_scenes
    >>> folder = make_scenes(tempfile.mkdtemp(), n_scenes=12, n_views=2).parent
    >>> X = [[folder / f"scene_{i:04d}_{v}.jpg" for v in (0, 1)] for i in range(1, 13)]
    >>> model = PairClassifier("classic", head="cosine", validation_fraction=0.3)
    >>> found = explain(model.fit(X, [1] * 12), *X[0], grid=4)
    >>> found.left_map.shape, bool(found.left_map.any())
    ((4, 4), True)
    """
    check_range("grid", grid, 2, _MOST_GRID)
    pair = left, right
    leaves = leaves_of(classifier.cells_)
    found = vectorize_many(
        [*leaves.values()], pair, store=classifier.store, progress=progress, strict=True
    )
    blocks = dict(zip(leaves, (one.vectors for one in found), strict=True))
    left_map, right_map = occlusion_maps(
        classifier, leaves, pair, blocks, grid=grid, progress=progress
    )
    notes = []
    if len(leaves) > MOST_PARTS:
        notes.append(
            f"what each of the {len(leaves)} vectorizers adds is not computed: it "
            f"takes all 2ⁿ combinations, which is done for {MOST_PARTS} at most"
        )
    shares, empty = shapley_shares(classifier, leaves, blocks)
    similarities, of_unrelated = similarity_shares(classifier, blocks)
    score = scores(classifier, blocks, np.array([0]), np.array([1]))
    curve = classifier.calibration_
    if curve.is_flat:
        notes.append(FLAT)
    return Explanation(
        left=str(left),
        right=str(right),
        probability=float(curve.probability(score)[0]),
        threshold=classifier.limit,
        prior=curve.prior,
        decision="match" if score[0] >= classifier.threshold_ else "no match",
        score=float(score[0]),
        log_odds=float(curve.log_odds(score)[0]),
        left_map=left_map,
        right_map=right_map,
        vectorizers=shares,
        without_vectorizers=empty,
        similarities=similarities,
        of_unrelated=of_unrelated,
        members=member_opinions(classifier, blocks),
        notes=notes,
    )
