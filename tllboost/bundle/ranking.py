"""Rank pictures for a query, and candidates for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tllboost.bundle.scoring import FilePath, Progress, score_pairs, score_row
from tllboost.candidates import CandidateTable
from tllboost.classifier import PairClassifier
from tllboost.errors import ImageError
from tllboost.pairs import pairs_from_paths

__all__ = ["rank_pictures", "score_candidates"]


def rank_pictures(
    classifier: PairClassifier,
    query: FilePath,
    candidates: Sequence[FilePath],
    *,
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
    progress : callable, optional

    Returns
    -------
    rows : list of dict
        ``rank`` (from 1), ``picture``, ``probability``, ``decision``, ``score`` of each
        that could be read.
    failures : dict of str to str
        The others, and why.

    Raises
    ------
    ImageError
        If the query can't be read, or any picture can't and `strict` is set.
    """
    table = pairs_from_paths([[query, one] for one in candidates])
    scores = score_pairs(
        classifier, table, table.left, table.right, progress=progress, strict=strict
    )
    if str(query) in scores.failures:
        raise ImageError(query, scores.failures[str(query)])
    order = np.argsort(-scores.score, kind="stable")  # NaN comes last
    good = [index for index in order.tolist() if not scores.reasons[index]]
    rows = [
        {"rank": rank, **score_row(scores, index, picture=str(candidates[index]))}
        for rank, index in enumerate(good, start=1)
    ]
    return rows, scores.failures


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
