"""Golden pairs: a few vectors and the scores that they must still get."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load, save

from tllboost.errors import UsageError
from tllboost.heads.base import head_score
from tllboost.merges import MergeFunction, PairFeatures

__all__ = ["check_golden", "golden_member"]

# Other processors and BLAS libraries add up in another order, which moves a float32
# score by some 1e-6 of its size; a head that is not the one saved, or that a new
# library reads in another way, moves it by far more than this.
_TOLERANCE = 1e-4


def golden_member(
    golden: tuple[ArrayLike, ArrayLike], merge: str | MergeFunction, head: Any
) -> bytes:
    """Return golden pairs and their scores as safetensors.

    Parameters
    ----------
    golden : tuple of two array-likes of shape (n_pairs, n_dims)
        Left and right vectors.
    merge : str or callable
    head : estimator
        Fitted.

    Raises
    ------
    UsageError
        If they are no such vectors, or get no finite scores.
    """
    left, right = (np.ascontiguousarray(side, dtype=np.float32) for side in golden)
    if left.shape != right.shape or left.ndim != 2 or not left.size:
        msg = (
            f"golden of shapes {left.shape} and {right.shape}: give the left and the "
            "right vectors of a few pairs, each (n_pairs, n_dims)"
        )
        raise UsageError(msg)
    score = _score(left, right, merge, head)
    if not all(np.isfinite(one).all() for one in (left, right, score)):
        msg = "golden pairs hold, or score, something that is not a finite number"
        raise UsageError(msg)
    return save({"left": left, "right": right, "score": score})


def check_golden(
    data: bytes, merge: str | MergeFunction, head: Any, *, n_dims: int
) -> None:
    """Score golden pairs again and compare.

    Parameters
    ----------
    data : bytes
        What :func:`golden_member` gave.
    merge : str or callable
    head : estimator
        As loaded.
    n_dims : int
        Width of a vector.

    Raises
    ------
    ValueError
        If a score differs by more than 1e-4 of the largest one.
    """
    try:
        arrays = load(data)
        left, right, wanted = arrays["left"], arrays["right"], arrays["score"]
    except Exception as error:
        msg = f"its golden pairs are damaged ({error})"
        raise ValueError(msg) from error
    fine = (
        left.dtype == right.dtype == np.float32
        and wanted.dtype == np.float64
        and left.shape == right.shape == (len(wanted), n_dims)
        and wanted.shape == (len(left),)
        and len(wanted) > 0
        and all(np.isfinite(one).all() for one in (left, right, wanted))
    )
    if not fine:
        msg = f"its golden pairs are not finite vectors of {n_dims} numbers and scores"
        raise ValueError(msg)
    try:
        with np.errstate(all="ignore"):
            score = _score(left, right, merge, head)
    except Exception as error:  # a head for other features
        msg = f"its golden pairs can't be scored ({type(error).__name__}: {error})"
        raise ValueError(msg) from error
    # Not <=: a NaN is no match either.
    off = np.abs(score - wanted)
    limit = _TOLERANCE * np.abs(wanted).max() + 1e-9
    if not (off <= limit).all():
        worst = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
        msg = (
            f"golden pair {worst} scores {score[worst]:.6g} here and scored "
            f"{wanted[worst]:.6g} when it was saved"
        )
        raise ValueError(msg)


def _score(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    merge: str | MergeFunction,
    head: Any,
) -> NDArray[np.float64]:
    n_pairs = len(left)
    index = np.arange(n_pairs)
    features = PairFeatures(np.vstack([left, right]), index, index + n_pairs, merge)
    n_features = getattr(head, "n_features_in_", features.shape[1])
    if n_features != features.shape[1]:
        msg = f"the head wants {n_features} features, pairs have {features.shape[1]}"
        raise UsageError(msg)
    return head_score(head, features)
