"""Score tables of new pairs; an image that fails takes no other row with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.calibration import Calibration
from tllboost.errors import ImageError
from tllboost.pairs import CandidateTable, PairTable, pairs_from_paths, read_pairs
from tllboost.pairs.tables import read_table
from tllboost.scoring import Scorer, joint_score, vectors_of_cells

__all__ = [
    "pair_rows",
    "read_pairs_to_score",
    "score_candidates",
    "score_pair",
    "score_pairs",
    "threshold_of",
]

FilePath = str | PathLike[str]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Scores:
    """What became of some pairs.

    Attributes
    ----------
    score : ndarray of float64
        Larger for a likelier match; NaN where an image failed.
    probability : ndarray of float64
        Calibrated probability of a match; NaN likewise.
    is_match : ndarray of bool
        Whether the score reaches the threshold.
    failures : dict of str to str
        Why an image failed, by its path or id.
    reasons : ndarray of object
        Of each pair that failed, one of its images and why; else empty.
    """

    score: NDArray[np.float64]
    probability: NDArray[np.float64]
    is_match: NDArray[np.bool_]
    failures: dict[str, str]
    reasons: NDArray[np.object_]


def score_pairs(
    classifier: Scorer,
    table: PairTable | CandidateTable,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    *,
    progress: Progress | None = None,
    strict: bool = False,
) -> Scores:
    """Score pairs of the images in a table.

    Parameters
    ----------
    classifier : PairClassifier or Scorer
        Fitted, or loaded from a bundle.
    table : PairTable or CandidateTable
        Knows the images.
    left, right : ndarray of shape (n_pairs,), int64
        Its images that form the pairs.
    progress, strict
        As in :func:`~tllboost.vectorizing.vectorize`.

    Returns
    -------
    Scores
        Arrays of shape (n_pairs,).

    Raises
    ------
    ImageError
        If an image fails and `strict` is set.
    """
    vectors, failed = vectors_of_cells(
        classifier.cells_,
        table.paths,
        ids=table.ids,
        store=classifier.store,
        progress=progress,
        strict=strict,
    )
    names = {index: str(table.paths[index] or table.ids[index]) for index in failed}
    told = np.full(len(table.ids), "", dtype=object)
    for index, reason in failed.items():
        told[index] = f"{names[index]}: {reason}"
    reasons = np.where(told[left] != "", told[left], told[right])
    good = reasons == ""
    score = np.full(len(left), np.nan)
    if good.any():
        score[good] = joint_score(classifier.cells_, vectors, left[good], right[good])
    return Scores(
        score=score,
        probability=classifier.calibration_.probability(score),
        is_match=score >= classifier.threshold_,
        failures={names[index]: why for index, why in failed.items()},
        reasons=reasons,
    )


def score_pair(classifier: Scorer, left: FilePath, right: FilePath) -> dict[str, Any]:
    """Score two images.

    Returns
    -------
    dict
        ``left``, ``right``, ``probability``, ``decision``, ``score``, ``threshold``
        (a probability).

    Raises
    ------
    ImageError
        If one of them can't be read.
    """
    table = pairs_from_paths([[left, right]])
    scores = score_pairs(classifier, table, table.left, table.right)
    for name, reason in scores.failures.items():
        raise ImageError(name, reason)
    threshold = np.array(classifier.threshold_)
    return {
        **score_row(scores, 0, left=str(left), right=str(right)),
        "threshold": float(classifier.calibration_.probability(threshold)),
    }


def score_candidates(
    classifier: Scorer,
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
        and a score a candidate; empty where an image failed.
    failures : dict of str to str
        Those images, and why.

    Raises
    ------
    ImageError
        If an image fails and `strict` is set.
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


def threshold_of(manifest: Mapping[str, Any]) -> float:
    """Return the probability at and above which a bundle calls a pair a match.

    Parameters
    ----------
    manifest : mapping
        As :func:`~tllboost.bundle.read_manifest` gives it.
    """
    curve = Calibration(**manifest["calibration"])
    return float(curve.probability(np.array(manifest["threshold"])))


def read_pairs_to_score(
    path: FilePath, **folders: Any
) -> tuple[PairTable, Sequence[Sequence[str]]]:
    """Read a pair table, and the ids of each row as they were written.

    A pair may stand twice, and an image may be paired with itself. The folders are
    those of :func:`~tllboost.pairs.read_pairs`.
    """
    table = read_pairs(path, allow_repeats=True, **folders)
    return table, read_table(path, required=("left", "right")).rows()


def pair_rows(scores: Scores, written: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Return a row a pair, as :func:`score_pair` does; ``error`` where one failed."""
    return [
        score_row(scores, index, left=left, right=right)
        for index, (left, right) in enumerate(written)
    ]


def score_row(scores: Scores, index: int, **named: str) -> dict[str, Any]:
    """Return what became of one pair, after what is `named`."""
    if scores.reasons[index]:
        nothing = {"probability": None, "decision": "error", "score": None}
        return {**named, **nothing, "error": str(scores.reasons[index])}
    return {
        **named,
        "probability": float(scores.probability[index]),
        "decision": "match" if scores.is_match[index] else "no match",
        "score": float(scores.score[index]),
    }
