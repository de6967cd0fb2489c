"""Where a projection starts: centred, on the principal axes, half-way to whitened.

Few pictures and many columns make a free linear map learn the noise. On its first few
hundred principal axes the same map has a tenth of the weights, and an orthogonal start
keeps all angles: before the first step it is the cosine of centred vectors, which on
Totally-Looks-Like already beats the plain one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError
from tllboost.vectorizers.base import unit_rows

__all__ = ["Axes", "need_finite", "principal_axes"]

_MAX_ROWS = 20_000

Floats = NDArray[np.float32]


class Axes(NamedTuple):
    """A linear map z = unit(x) @ weight + bias onto principal axes.

    ``weight`` is (n_dims, n_axes), ``bias`` (n_axes,), both float32.
    """

    weight: Floats
    bias: Floats

    def transform(self, vectors: Floats) -> Floats:
        """Return coordinates on the axes: (n_images, n_axes) float32."""
        return unit_rows(vectors).astype(np.float32) @ self.weight + self.bias


def need_finite(vectors: Floats) -> None:
    """Refuse vectors that hold something else than finite numbers.

    Raises
    ------
    DataError
        It says how many.
    """
    n_bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if n_bad:
        msg = (
            f"{n_bad} of {len(vectors)} vectors hold numbers that are not finite: a "
            "projection can't learn from them"
        )
        raise DataError(msg)


def principal_axes(vectors: Floats, n_axes: int, whiten: float, seed: int) -> Axes:
    """Return the axes of largest variance of unit vectors.

    Parameters
    ----------
    vectors : ndarray of shape (n_images, n_dims), float32
        Of the training pictures.
    n_axes : int
        At most; no more than the vectors span.
    whiten : float
        Each coordinate is divided by its spread to this power: 0 keeps distances, 1
        gives every axis the same weight (Jégou & Chum, "Negative evidences and
        co-occurences in image retrieval: the benefit of PCA and whitening", 2012).
    seed : int
        Of the sample of 20,000 pictures that stands for more.

    Returns
    -------
    Axes
        Scaled so that the mean squared length of a row is 1.

    Raises
    ------
    DataError
        If all vectors are alike.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> vectors = rng.normal(size=(50, 8)).astype(np.float32)
    >>> principal_axes(vectors, 4, 0.25, 0).transform(vectors).shape
    (50, 4)
    """
    if len(vectors) > _MAX_ROWS:
        rows = np.random.default_rng(seed).choice(len(vectors), _MAX_ROWS, False)
        vectors = vectors[np.sort(rows)]
    unit = unit_rows(vectors).astype(np.float64)
    mean = unit.mean(axis=0)
    axes, spread = _spectrum(unit - mean, n_axes)
    factor = (spread / spread[0]) ** -whiten
    weight = axes * factor / np.linalg.norm(spread * factor)
    return Axes(weight.astype(np.float32), (-mean @ weight).astype(np.float32))


def _spectrum(
    centred: NDArray[np.float64], n_axes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return axes (n_dims, n_axes) and spreads, largest first, by the smaller Gram."""
    from scipy.linalg import eigh

    wide = centred.shape[0] < centred.shape[1]
    gram = centred @ centred.T if wide else centred.T @ centred
    first = max(0, len(gram) - n_axes)
    values, vectors = eigh(gram, subset_by_index=[first, len(gram) - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    # A mean square of 1e-12 is what float32 rounds off vectors of length 1.
    real = values > max(1e-9 * values[0], 1e-12 * len(centred))
    if not real.any():
        msg = (
            f"the {len(centred)} training pictures have one and the same vector: a "
            "projection can't learn to tell them apart"
        )
        raise DataError(msg)
    values, vectors = values[real], vectors[:, real]
    axes = centred.T @ vectors / np.sqrt(values) if wide else vectors
    return axes, np.sqrt(values / len(centred))
