"""Similarities that mean the same for every pair: normalised against other images.

Some images are near to everything, so a cosine of 0.6 may say much of one pair and
nothing of another. Each image is therefore compared with *references*, unrelated images
of the training set, and the cosine of a pair is told in standard deviations above what
its images have to those (Auckenthaler and others, "Score normalization for
text-independent speaker verification systems", 2000), or less the mean of the nearest
ones (CSLS: Conneau and others, "Word translation without parallel data", 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tllboost.errors import UsageError
from tllboost.merges import SIMILARITY, row_blocks, slices_of, unit_rows

__all__ = ["LEAST", "SIMILARITIES", "References", "similarity"]

Floats = NDArray[np.float32]

LEAST = 12
"""References that are drawn at least, where there are as many images."""

_MOST, _MOST_BYTES = 512, 4 * 10**6
_NEAREST = 10
SIMILARITIES = ("cosine", "S-norm", "difference of z-norms", "CSLS")
"""What a row says of the whole vector, and of each part."""
_SAME = 1 - 1e-4  # cosine from which two vectors are those of one picture
_BLOCK = 4096
_LEAST_SPREAD = np.float32(1e-3)
# Of an image and a part: its length; sum and sum of squares of its cosines with the
# references, the sum of the eleven largest, and the smallest of these; then how many
# references there are beside itself.
_LENGTH, _SUM, _SQUARES, _TOP, _LAST, _N = range(6)


def similarity(_left: Floats, _right: Floats) -> Floats:
    """Stand for the merge that :class:`References` compute.

    Raises
    ------
    UsageError
        Always: without references there is nothing to compare with.
    """
    msg = (
        f"the merge {SIMILARITY!r} needs references, which are training images: use it "
        "in a grid or a PairClassifier, and don't join it with another merge"
    )
    raise UsageError(msg)


@dataclass(frozen=True, eq=False)
class References:
    """Vectors of unrelated images, and the normalised similarities of pairs by them.

    Attributes
    ----------
    vectors : ndarray of shape (n_references, n_dims), float16
        At length 1.
    widths : ndarray of shape (n_parts,), int32
        Of the parts that a vector consists of, as those of a fusion.
    n_maps : ndarray of shape (n_parts,), int32
        Of how many maps, one a fold, the outputs lie beside each other in a part.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    >>> references = References.drawn(vectors, np.arange(20), [4, 4], seed=0)
    >>> references.rows(vectors, np.array([0, 25]), np.array([30, 31])).shape
    (2, 12)
    """

    vectors: NDArray[np.float16]
    widths: NDArray[np.int32]
    n_maps: NDArray[np.int32]

    @classmethod
    def drawn(
        cls,
        vectors: Floats,
        images: NDArray[np.integer],
        widths: ArrayLike | None = None,
        n_maps: ArrayLike | None = None,
        *,
        seed: int,
    ) -> Self:
        """Draw references: 512 images, or as many as 4 MB hold.

        Parameters
        ----------
        vectors : ndarray of shape (n_images, n_dims), float32
        images : ndarray of int
            Rows to draw from, such as the images of the training set.
        widths, n_maps : sequence of int or None
            Of the parts of a vector; None for one part, and one map in each.
        seed : int
        """
        n_dims = vectors.shape[1]
        most = min(_MOST, max(LEAST, _MOST_BYTES // (2 * n_dims)))
        known = np.unique(images)
        drawn = np.random.default_rng([seed, 18]).permutation(known)[:most]
        rows = unit_rows(vectors[np.sort(drawn)])
        # A picture that is there twice would count twice, and be its own reference.
        twice = np.tril(rows @ rows.T, -1).max(axis=1) > _SAME
        parts = np.array([n_dims] if widths is None else widths, np.int32)
        maps = np.ones_like(parts) if n_maps is None else np.array(n_maps, np.int32)
        return cls(rows[~twice].astype(np.float16), parts, maps)

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Take back the fields of another; ValueError if nothing compares with them."""
        made = cls(**tensors)
        vectors, widths, n_maps = made.vectors, made.widths, made.n_maps
        if not (
            (vectors.dtype, vectors.ndim) == (np.float16, 2)
            and (widths.dtype, widths.ndim) == (np.int32, 1)
            and (n_maps.dtype, n_maps.shape) == (np.int32, widths.shape)
            and 0 < len(vectors) <= _MOST
            and len(widths)
            and (n_maps > 0).all()
            and (widths > 0).all()
            and not (widths % n_maps).any()
            and int(widths.sum(dtype=np.int64)) == vectors.shape[1]
        ):
            msg = "its references are not vectors of parts"
            raise ValueError(msg)
        return made

    @property
    def _slices(self) -> list[slice]:
        return slices_of(self.widths)

    @property
    def n_features(self) -> int:
        """Width of a row: four numbers for the whole and for each part."""
        return 4 * len(self._slices)

    def statistics(self, vectors: Floats) -> Floats:
        """Return what images have to the references: (n_images, n_slices, 6) float32.

        An image that is a reference does not meet itself.

        Raises
        ------
        UsageError
            If the vectors are not as wide as the references.
        """
        if vectors.shape[1] != self.vectors.shape[1]:
            msg = (
                f"references are of {self.vectors.shape[1]} numbers, the vectors of "
                f"{vectors.shape[1]}"
            )
            raise UsageError(msg)
        slices, n = self._slices, len(self.vectors)
        others = [unit_rows(self.vectors[:, s].astype(np.float32)) for s in slices]
        told = np.empty((len(vectors), len(slices), 6), np.float32)
        k = min(_NEAREST + 1, n)
        for rows in row_blocks(len(vectors), n, _BLOCK):
            own = None
            for at, (part, other) in enumerate(zip(slices, others, strict=True)):
                block = np.asarray(vectors[rows, part], np.float32)
                found = unit_rows(block) @ other.T
                if own is None:  # which of the references it is, if any
                    own = found > _SAME
                    count = n - own.sum(axis=1)
                found[own] = 0
                told[rows, at, _SUM] = found.sum(axis=1)
                told[rows, at, _SQUARES] = np.einsum("ij,ij->i", found, found)
                found[own] = -1
                found.partition(n - k, axis=1)
                told[rows, at, _TOP] = found[:, n - k :].sum(axis=1)
                told[rows, at, _LAST] = found[:, n - k]
                told[rows, at, _LENGTH] = np.linalg.norm(block, axis=1)
                told[rows, at, _N] = count
        return told

    def mean_and_spread(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the cosines of each image: (n_images,).

        With the references that it is none of, of whole vectors.
        """
        told = self.statistics(vectors)[:, 0]
        n = np.maximum(told[:, _N], 1)
        mean: Floats = np.divide(told[:, _SUM], n, dtype=np.float32)
        variance = np.maximum(told[:, _SQUARES] / n - mean**2, _LEAST_SPREAD**2)
        return mean, np.sqrt(variance, dtype=np.float32)

    def of_fold(self, fold: int) -> tuple[Self, NDArray[np.int64]]:
        """Return the same of one map in each part, and the columns of that."""
        share = self.widths // self.n_maps
        start = np.cumsum(self.widths) - self.widths + share * (fold % self.n_maps)
        columns = np.concatenate(
            [np.arange(*ends) for ends in zip(start, start + share, strict=True)]
        )
        return type(self)(self.vectors[:, columns], share, np.ones_like(share)), columns

    def rows(
        self,
        vectors: Floats,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        fold: NDArray[np.int64] | None = None,
        statistics: Floats | None = None,
    ) -> Floats:
        """Return the similarities of pairs, alike whichever image comes first.

        Of the whole and of each part the cosine, the mean of the z-norms by both
        images, their difference, and CSLS by the ten nearest references. No image of
        a pair counts among the references of the other.

        Parameters
        ----------
        vectors : ndarray of shape (n_images, n_dims), float32
        left, right : ndarray of shape (n_pairs,), int64
            Rows of `vectors`.
        fold : ndarray of shape (n_pairs,), int64, or None, default=None
            By the map of which fold each pair is compared; None for all of them.
        statistics : ndarray of shape (n_images, n_slices, 6), float32, or None
            What :meth:`statistics` says of `vectors`, where it is known.

        Returns
        -------
        ndarray of shape (n_pairs, n_features), float32
        """
        if fold is not None:
            features = np.empty((len(left), self.n_features), np.float32)
            for number in np.unique(fold):
                alone, own = self.of_fold(number)
                of = np.flatnonzero(fold == number)
                sides = np.stack([left[of], right[of]])
                images, codes = np.unique(sides, return_inverse=True)
                one_left, one_right = codes.reshape(2, -1)
                some = vectors[images[:, None], own]
                features[of] = alone.rows(some, one_left, one_right)
            return features
        codes = np.stack([left, right])
        if statistics is None:
            images, codes = np.unique(codes, return_inverse=True)
            codes = codes.reshape(2, -1)
            statistics = self.statistics(vectors[images])
        features = np.empty((len(left), self.n_features), np.float32)
        for block in row_blocks(len(left), vectors.shape[1]):
            one, other = (
                np.asarray(vectors[side[block]], np.float32) for side in (left, right)
            )
            for at, part in enumerate(self._slices):
                a, b = (statistics[side[block], at] for side in codes)
                lengths = a[:, _LENGTH] * b[:, _LENGTH]
                product = np.einsum("ij,ij->i", one[:, part], other[:, part])
                cosine = np.clip(product / np.where(lengths > 0, lengths, 1), -1, 1)
                (z, near), (z_b, near_b) = (
                    self._compared(cosine, *two) for two in ((a, b), (b, a))
                )
                columns = (cosine, (z + z_b) / 2, np.abs(z - z_b))
                features[block, 4 * at : 4 * at + 4] = np.stack(
                    [*columns, 2 * cosine - (near + near_b)], axis=1
                )
        return features

    def _compared(
        self, cosine: Floats, one: Floats, other: Floats
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the z-norm by one image of each pair, and its mean of the nearest.

        The other image leaves the references if it is one of them: it did not meet
        itself, so it met fewer.
        """
        is_reference = other[:, _N] < len(self.vectors)
        out = np.where(is_reference, cosine, 0)
        n = np.maximum(one[:, _N] - is_reference, 1)
        mean = (one[:, _SUM] - out) / n
        spread = np.sqrt(np.maximum((one[:, _SQUARES] - out**2) / n - mean**2, 0))
        top = one[:, _TOP] - np.where(
            is_reference, np.maximum(cosine, one[:, _LAST]), one[:, _LAST]
        )
        return (cosine - mean) / np.maximum(spread, _LEAST_SPREAD), top / _NEAREST

    def unrelated(self, n_pairs: int) -> Floats:
        """Return rows of random pairs of references, which are no matches.

        (n_pairs, n_features) float32, the same whenever it is asked.
        """
        rng, n = np.random.default_rng(0), len(self.vectors)
        left = rng.integers(n, size=n_pairs)
        right = (left + rng.integers(1, max(n, 2), size=n_pairs)) % n
        return self.rows(self.vectors.astype(np.float32), left, right)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the fields, each array by its name."""
        return vars(self)
