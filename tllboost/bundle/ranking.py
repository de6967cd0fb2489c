"""Rank pictures for a query, and candidates for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tllboost.bundle.scoring import FilePath, Progress, score_pairs
from tllboost.candidates import CandidateTable
from tllboost.classifier import PairClassifier
from tllboost.errors import ImageError
from tllboost.fitted import vectors_of_cells
from tllboost.pairs import pairs_from_paths
from tllboost.search import rank_rows

__all__ = ["rank_pictures", "score_candidates"]


def rank_pictures(
    classifier: PairClassifier,
    query: FilePath,
    candidates: Sequence[FilePath],
    *,
    shortlist: int | None = None,
    progress: Progress | None = None,
    strict: bool = False,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Order pictures by how much they look like the query, best first.

    Parameters
    ----------
    classifier : PairClassifier
    query : path-like
        The left picture.
    candidates : sequence of path-like, length n_candidates
    shortlist : int, optional
        How many are scored exactly where a head is not linear, the best by cosine; by
        default all.
    progress : callable, optional

    Returns
    -------
    rows : list of dict
        ``rank`` (from 1), ``picture``, ``probability``, ``decision``, ``score`` of each
        that could be read, and stands on the shortlist.
    failures : dict of str to str
        The others, and why.

    Raises
    ------
    ImageError
        If the query can't be read, or any picture can't and `strict` is set.
    """
    table = pairs_from_paths([[query, one] for one in candidates])
    cells = classifier.cells_
    vectors, failed = vectors_of_cells(
        cells,
        table.paths,
        ids=table.ids,
        store=classifier.store,
        progress=progress,
        strict=strict,
    )
    own = int(table.left[0])
    if own in failed:
        raise ImageError(query, failed[own])
    good = np.flatnonzero(~np.isin(table.right, list(failed)))
    found: list[dict[str, Any]] = []
    if len(good):
        rows, scores = rank_rows(
            cells,
            [block[[own]] for block in vectors],
            [block[table.right[good]] for block in vectors],
            shortlist=shortlist,
        )
        found = _rows(classifier, [candidates[i] for i in good[rows]], scores)
    names = {index: str(table.paths[index] or table.ids[index]) for index in failed}
    return found, {names[index]: why for index, why in failed.items()}


def _rows(
    classifier: PairClassifier, pictures: Sequence[FilePath], scores: Any
) -> list[dict[str, Any]]:
    """Return a row a picture, as it is shown."""
    probability = classifier.calibration_.probability(scores)
    is_match = scores >= classifier.threshold_
    return [
        {
            "rank": rank,
            "picture": str(picture),
            "probability": float(p),
            "decision": "match" if match else "no match",
            "score": float(score),
        }
        for rank, (picture, p, match, score) in enumerate(
            zip(pictures, probability, is_match, scores, strict=True), start=1
        )
    ]


def score_candidates(
    classifier: PairClassifier,
    table: CandidateTable,
    *,
    progress: Progress | None = None,
    strict: bool = False,
) -> tuple[list[list[str]], dict[str, str]]:
    """Score every candidate of every query, in the challenge's submission form.

    Returns
    -------
    rows : list of list of str
        The header ``left, c0, c1, …``, then a row a query: its id as it was written,
        and a score a candidate; empty where a picture failed.
    failures : dict of str to str
        Those pictures, and why.

    Raises
    ------
    ImageError
        If a picture fails and `strict` is set.
    """
    shape = table.candidates.shape
    scores = score_pairs(
        classifier,
        table,
        np.repeat(table.query, shape[1]),
        table.candidates.ravel(),
        progress=progress,
        strict=strict,
    )
    body = [
        [ids[0], *("" if np.isnan(one) else repr(float(one)) for one in row)]
        for ids, row in zip(table.rows, scores.score.reshape(shape), strict=True)
    ]
    return [list(table.header), *body], scores.failures
