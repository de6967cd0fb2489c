"""Golden pairs: a few vectors and the scores that they must still get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load, save

from tllboost.errors import UsageError
from tllboost.heads.fitted import head_score
from tllboost.scoring import FittedCell, combined_score
from tllboost.vectorizers.weights import first_line

__all__ = ["Block", "check_golden", "golden_member"]

# Other processors and BLAS libraries add up in another order, which moves a float32
# score by some 1e-6 of its size; a head that is not the one saved, or that a new
# library reads in another way, moves it by far more than this.
_TOLERANCE = 1e-4

Block = tuple[ArrayLike, ArrayLike]
Arrays = Mapping[str, NDArray[np.generic]]


def golden_member(
    golden: Sequence[Block], cells: Sequence[FittedCell], which: Sequence[int]
) -> bytes:
    """Return golden pairs and their scores as safetensors.

    Parameters
    ----------
    golden : sequence of two array-likes of shape (n_pairs, n_dims)
        Left and right vectors of the same few pairs, by each distinct vectorizer.
    cells : sequence of FittedCell, length n_cells
    which : sequence of int, length n_cells
        Which block of `golden` is that of the cell's vectorizer.

    Returns
    -------
    bytes
        ``left.I`` and ``right.I`` of vectorizer I, ``score.J`` of cell J, and
        ``score`` of all cells together.

    Raises
    ------
    UsageError
        If they are no such vectors, or get no finite scores.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    for index, block in enumerate(golden):
        left, right = (np.ascontiguousarray(side, dtype=np.float32) for side in block)
        if left.shape != right.shape or left.ndim != 2 or not left.size:
            msg = (
                f"golden of shapes {left.shape} and {right.shape}: give the left and "
                "the right vectors of a few pairs, each (n_pairs, n_dims)"
            )
            raise UsageError(msg)
        arrays |= {f"left.{index}": left, f"right.{index}": right}
    if len({len(one) for one in arrays.values()}) != 1:
        msg = "golden has more pairs for one cell than for another: give the same pairs"
        raise UsageError(msg)
    arrays |= _scores(arrays, cells, which)
    if not all(np.isfinite(one).all() for one in arrays.values()):  # type: ignore[call-overload]
        msg = "golden pairs hold, or score, something that is not a finite number"
        raise UsageError(msg)
    return save(arrays)


def check_golden(
    data: bytes,
    cells: Sequence[FittedCell],
    which: Sequence[int],
    *,
    n_dims: Sequence[int],
) -> None:
    """Score golden pairs again and compare.

    Parameters
    ----------
    data : bytes
        What :func:`golden_member` gave.
    cells : sequence of FittedCell, length n_cells
        As loaded.
    which : sequence of int, length n_cells
        Which vectorizer is that of the cell.
    n_dims : sequence of int, length n_vectorizers
        Width of each vectorizer's vectors.

    Raises
    ------
    ValueError
        If a score differs by more than 1e-4 of the largest one.
    """
    try:
        arrays = load(data)
    except Exception as error:
        msg = f"its golden pairs are damaged ({first_line(error)})"
        raise ValueError(msg) from error
    _check_arrays(arrays, n_dims, len(cells))
    try:
        with np.errstate(all="ignore"):
            scores = _scores(arrays, cells, which)
    except Exception as error:  # a head or projection for other vectors
        reason = f"{type(error).__name__}: {first_line(error)}"
        msg = f"its golden pairs can't be scored ({reason})"
        raise ValueError(msg) from error
    for name, score in scores.items():
        _compare(score, arrays[name])


def _check_arrays(arrays: Arrays, n_dims: Sequence[int], n_cells: int) -> None:
    """Raise unless there are finite vectors and scores, each of its shape."""
    n_pairs = len(arrays.get("score", ()))
    wanted: dict[str, tuple[tuple[int, ...], type]] = {}
    for index, width in enumerate(n_dims):
        vectors = ((n_pairs, width), np.float32)
        wanted |= {f"left.{index}": vectors, f"right.{index}": vectors}
    scores = [f"score.{index}" for index in range(n_cells)]
    wanted |= dict.fromkeys([*scores, "score"], ((n_pairs,), np.float64))
    fine = set(arrays) == set(wanted) and n_pairs > 0
    if not fine or not all(
        arrays[name].shape == shape
        and arrays[name].dtype == dtype
        and np.isfinite(arrays[name]).all()  # type: ignore[call-overload]
        for name, (shape, dtype) in wanted.items()
    ):
        widths = ", ".join(map(str, n_dims))
        msg = f"its golden pairs are not finite vectors of {widths} numbers and scores"
        raise ValueError(msg)


def _compare(score: NDArray[np.float64], wanted: NDArray[np.float64]) -> None:
    off = np.abs(score - wanted)
    limit = _TOLERANCE * np.abs(wanted).max() + 1e-9
    # Not >: a NaN is no match either.
    if not (off <= limit).all():
        worst = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
        msg = (
            f"golden pair {worst} scores {score[worst]:.6g} here and scored "
            f"{wanted[worst]:.6g} when it was saved"
        )
        raise ValueError(msg)


def _scores(
    arrays: Arrays, cells: Sequence[FittedCell], which: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """Return the scores of each cell, and of all together."""
    scores = [
        _score(cell, arrays[f"left.{index}"], arrays[f"right.{index}"])
        for cell, index in zip(cells, which, strict=True)
    ]
    named = {f"score.{index}": score for index, score in enumerate(scores)}
    return {**named, "score": combined_score(cells, scores)}


def _score(
    cell: FittedCell, left: NDArray[np.generic], right: NDArray[np.generic]
) -> NDArray[np.float64]:
    index = np.arange(len(left))
    vectors = np.vstack([left, right]).astype(np.float32, copy=False)
    features = cell.features(vectors, index, index + len(left))
    return head_score(cell.scorer.fitted, features)
