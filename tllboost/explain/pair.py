"""Explain one pair: which parts of it, and which parts of the bundle, say what."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.errors import ImageError, UsageError
from tllboost.explain.explanation import Explanation
from tllboost.explain.leaves import (
    MOST_PARTS,
    Share,
    leaf_blocks,
    leaves_of,
    member_opinions,
    scores,
    shapley_shares,
)
from tllboost.explain.occlusion import occlusion_maps
from tllboost.explain.training import (
    Neighbour,
    TrainingMatches,
    nearest_matches,
    stored_matches,
    training_matches,
)
from tllboost.scoring import Scorer
from tllboost.vectorizing import Progress

__all__ = ["explain"]

# Patches a side. At the 224 pixels that most networks see a patch is then 28 pixels:
# about one position of their last map of 7 x 7, the finest that they tell apart.
_GRID, _MOST_GRID = 8, 32


def explain(
    classifier: Scorer,
    left: str | PathLike[str],
    right: str | PathLike[str],
    *,
    grid: int = _GRID,
    run: str | PathLike[str] | None = None,
    vectorize_run: bool = True,
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
    run : path-like or None, default=None
        Folder of the grid that the bundle comes from, for the nearest training
        matches.
    vectorize_run : bool, default=True
        Whether training images whose vectors are not in the store are vectorized;
        else their matches are left out, and a note says so.
    progress : callable or None, default=None
        Called with how many are done, how many there are, and what.

    Returns
    -------
    Explanation

    Raises
    ------
    ImageError
        If an image can't be read.
    DataError
        If `run` does not tell its training matches.
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
    if not hasattr(classifier, "cells_"):
        from sklearn.exceptions import NotFittedError

        msg = f"{classifier!r} is not fitted: fit it, or load a bundle"
        raise NotFittedError(msg)
    if not 2 <= grid <= _MOST_GRID:
        msg = f"grid={grid!r} is out of range; it must be 2 to {_MOST_GRID}"
        raise UsageError(msg)
    pair = left, right
    leaves = leaves_of(classifier.cells_)
    notes: list[str] = []
    blocks, failures = leaf_blocks(
        leaves, pair, store=classifier.store, progress=progress
    )
    for index, reason in failures.items():
        raise ImageError(pair[index], reason)
    neighbours: list[Neighbour] = []
    trained_on: list[str] = []
    if run is not None:
        matches = training_matches(run)
        known = {path.resolve() for path in matches.paths}
        sides = zip(("left", "right"), pair, strict=True)
        trained_on = [side for side, path in sides if Path(path).resolve() in known]
        if not vectorize_run:
            stored = stored_matches(matches, leaves, classifier.store)
            notes += _left_out(
                matches,
                len(matches.pairs) - len(stored.pairs),
                "vectors of theirs are not in the store; --run DIR computes them",
            )
            matches = stored
        if len(matches.pairs):
            how: Any = {"store": classifier.store, "progress": progress}
            neighbours, n_lost = nearest_matches(matches, pair, leaves, blocks, **how)
            why = "an image of theirs can't be read any more"
            notes += _left_out(matches, n_lost, why)
    left_map, right_map = occlusion_maps(
        classifier, leaves, pair, blocks, grid=grid, progress=progress
    )
    shares: list[Share] = []
    empty = None
    if len(leaves) > MOST_PARTS:
        notes.append(
            f"what each of the {len(leaves)} vectorizers adds is not computed: it "
            f"takes all 2ⁿ combinations, done for {MOST_PARTS} at most"
        )
    elif len(leaves) > 1:
        shares, empty = shapley_shares(classifier, leaves, blocks)
    score = scores(classifier, blocks, np.array([0]), np.array([1]))
    curve, threshold = classifier.calibration_, classifier.threshold_
    if curve.slope == 0:
        notes.append(
            "the bundle gives every pair the same probability: on validation its "
            "score told no match from a non-match"
        )
    return Explanation(
        left=str(left),
        right=str(right),
        probability=float(curve.probability(score)[0]),
        threshold=float(curve.probability(np.array(threshold))),
        is_match=bool(score[0] >= threshold),
        score=float(score[0]),
        log_odds=float(curve.log_odds(score)[0]),
        left_map=left_map,
        right_map=right_map,
        shares=shares,
        empty=empty,
        members=member_opinions(classifier, blocks),
        neighbours=neighbours,
        trained_on=trained_on,
        notes=notes,
    )


def _left_out(matches: TrainingMatches, n_lost: int, why: str) -> list[str]:
    n_all = len(matches.pairs)
    told = f"{n_lost:,} of {n_all:,} training matches are left out: {why}"
    return [told] if n_lost else []
