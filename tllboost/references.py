"""Similarities that mean the same for every pair: normalised against other images.

Some images are near to everything, so a cosine of 0.6 may say much of one pair and
nothing of another. Each image is therefore compared with *references*, unrelated images
of the training set, and the cosine of a pair is told in standard deviations above what
its images have to those (Auckenthaler and others, "Score normalization for
text-independent speaker verification systems", 2000), or less the mean of the nearest
ones (CSLS: Conneau and others, "Word translation without parallel data", 2018).

Before that, vectors are *whitened*. What most images differ in says little of whether
two of them look alike, and drowns the rest. So the mean of training images is taken
away, and the directions in which they vary most are shrunk to the variance of the
next (Jégou and Chum, "Negative evidences and co-occurences in image retrieval: the
benefit of PCA and whitening", 2012). No label is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tllboost.errors import UsageError
from tllboost.merges import SIMILARITY, row_blocks, slices_of, unit_rows

Floats = NDArray[np.float32]

LEAST = 12
"""References that are drawn at least, where there are as many images."""

_MOST, _MOST_BYTES = 512, 4 * 10**6
_MOST_DIRECTIONS, _EACH = 48, 8  # numbers of a vector, and images, for each direction
_SPARED = 64  # images that allow no direction: so few differ most in what they show
_LEAST_VARIANCE = 1e-2  # of the largest: half precision tells no less
_NEAREST = 10
SIMILARITIES = ("cosine", "S-norm", "difference of z-norms", "CSLS")
"""What a row says of the whole vector, and of each part; whitened but for the first."""
BASELINES = (1, 0)
"""What heads may start from: S-norm, or the plain cosine."""
_SAME = 1 - 1e-4  # cosine from which two vectors are those of one picture
_BLOCK = 1024
_LEAST_SPREAD = np.float32(1e-3)
# Of an image and a part: its length; its product with the mean, and its length once
# whitened; sum and sum of squares of its whitened cosines with the references, the sum
# of the eleven largest, and the smallest of these; how many references there are beside
# itself; then its coordinates in the directions that are shrunk.
_LENGTH, _ALONG, _WHITE, _SUM, _SQUARES, _TOP, _LAST, _N, _FIRST = range(9)


def similarity(_left: Floats, _right: Floats) -> Floats:
    """Stand for the merge that :class:`References` compute.

    Raises
    ------
    UsageError
        Always: without references there is nothing to compare with.
    """
    msg = (
        f"the merge {SIMILARITY!r} needs references, which are training images: use it "
        "in a grid or a PairClassifier"
    )
    raise UsageError(msg)


@dataclass(eq=False)
class References:
    """Vectors of unrelated images, and the normalised similarities of pairs by them.

    Attributes
    ----------
    vectors : ndarray of shape (n_references, n_dims), float16
        At length 1.
    widths : ndarray of shape (n_parts,), int32
        Of the parts that a vector consists of: blocks of a vectorizer, and what maps
        made of them.
    n_maps : ndarray of shape (n_parts,), int32
        Of how many maps, one a fold, the outputs lie beside each other in a part; 0 for
        a part as the vectorizer gave it, which alone is whitened.
    mean : ndarray of shape (n_dims,), float16
        Of each part at length 1 over training images; zero where nothing is whitened.
    common : ndarray of shape (n_directions, n_dims), float16
        Directions in which training images vary most, in each part. The squared length
        of one is the share of its variance that is taken away.
    baseline : ndarray of shape (1,), int32
        Which number of a row heads start from: S-norm, until labelled pairs choose.

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
    mean: NDArray[np.float16]
    common: NDArray[np.float16]
    baseline: NDArray[np.int32]

    @classmethod
    def drawn(
        cls,
        vectors: Floats,
        images: NDArray[np.integer],
        widths: ArrayLike | None = None,
        n_maps: ArrayLike | None = None,
        *,
        seed: int,
        whitened: bool = True,
    ) -> Self:
        """Draw references: 512 images, or as many as 4 MB hold.

        Parameters
        ----------
        vectors : ndarray of shape (n_images, n_dims), float32
        images : ndarray of int
            Rows to draw from, such as the images of the training set.
        widths, n_maps : sequence of int or None
            Of the parts of a vector; None for one part, and for no map.
        seed : int
        whitened : bool, default=True
            Whether vectors are whitened by 512 of the images.
        """
        n_dims = vectors.shape[1]
        parts = np.array([n_dims] if widths is None else widths, np.int32)
        maps = np.zeros_like(parts) if n_maps is None else np.array(n_maps, np.int32)
        known = np.random.default_rng([seed, 18]).permutation(np.unique(images))[:_MOST]
        rows = vectors[known]
        most = max(LEAST, _MOST_BYTES // (2 * n_dims) - 1)
        enough = max(0, len(known) - _SPARED) // _EACH
        n = min(_MOST_DIRECTIONS, enough, most // 2) * whitened
        mean, common = np.zeros(n_dims, np.float16), np.zeros((n, n_dims), np.float16)
        for part, n_of in zip(slices_of(parts)[-len(parts) :], maps, strict=True):
            if whitened and not n_of:
                own = unit_rows(rows[:, part])
                mean[part] = own.mean(axis=0)
                own -= mean[part]
                # By products of images with each other, which are fewer than numbers.
                variance, axes = np.linalg.eigh(own @ own.T)
                n_own = min(n, own.shape[1] // _EACH)
                largest = variance[len(own) - n_own :]
                least = max(variance[-n_own - 1], _LEAST_VARIANCE * variance[-1], 1e-30)
                axes = axes[:, len(own) - n_own :] / np.sqrt(largest + least)
                common[:n_own, part] = axes.T @ own
        rows = unit_rows(rows[: most - n])
        # A picture that is there twice would count twice, and be its own reference.
        twice = np.tril(rows @ rows.T, -1).max(axis=1) > _SAME
        kept, start = rows[~twice].astype(np.float16), np.array(BASELINES[:1], np.int32)
        return cls(kept, parts, maps, mean, common, start)

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Take back the fields of another; ValueError if nothing compares with them."""
        made = cls(**tensors)
        vectors, widths, n_maps = made.vectors, made.widths, made.n_maps
        if not (
            (vectors.dtype, vectors.ndim) == (np.float16, 2)
            and (widths.dtype, widths.ndim) == (np.int32, 1)
            and (n_maps.dtype, n_maps.shape) == (np.int32, widths.shape)
            and (made.mean.dtype, made.mean.shape) == (np.float16, vectors.shape[1:])
            and (made.common.dtype, made.common.ndim) == (np.float16, 2)
            and made.common.shape[1] == vectors.shape[1]
            and made.baseline.dtype == np.int32
            # Bundles of before may start from CSLS.
            and made.baseline.tolist() in ([0], [1], [3])
            and 0 < len(vectors) <= _MOST
            and len(widths)
            and (n_maps >= 0).all()
            and (widths > 0).all()
            and not (widths % np.maximum(n_maps, 1)).any()
            and int(widths.sum(dtype=np.int64)) == vectors.shape[1]
        ):
            msg = "its references are not vectors of parts"
            raise ValueError(msg)
        return made

    @property
    def _parts(self) -> list[slice]:
        return slices_of(self.widths)[-len(self.widths) :]

    @property
    def _n_slices(self) -> int:
        return len(slices_of(self.widths))

    @property
    def n_features(self) -> int:
        """Width of a row: four numbers for the whole and for each part."""
        return 4 * self._n_slices

    def statistics(self, vectors: Floats) -> Floats:
        """Return what images have to the references: (n_images, n_slices, ...) float32.

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
        parts, n = self._parts, len(self.vectors)
        theirs, of_theirs = self._whitened(self.vectors)
        shape = len(vectors), self._n_slices, _FIRST + len(self.common)
        told = np.empty(shape, np.float32)
        k = min(_NEAREST + 1, n)
        for rows in row_blocks(len(vectors), n * len(parts), _BLOCK):
            blocks, told[rows] = self._whitened(vectors[rows])
            of_ours = told[rows]
            found = np.empty((len(of_ours), shape[1], n), np.float32)
            for at in range(-len(parts), 0):
                ours, others = of_ours[:, at], of_theirs[:, at]
                products = blocks[at] @ theirs[at].T
                products -= ours[:, _FIRST:] @ others[:, _FIRST:].T
                found[:, at] = products / np.outer(ours[:, _WHITE], others[:, _WHITE])
            if len(parts) > 1:
                shares = [
                    one[:, 1:, _LENGTH] / np.maximum(one[:, :1, _LENGTH], 1e-30)
                    for one in (of_ours, of_theirs)
                ]
                found[:, 0] = np.einsum("ip,jp,ipj->ij", *shares, found[:, 1:])
            own = found[:, 0] > _SAME  # which of the references it is, if any
            own = np.broadcast_to(own[:, None], found.shape)
            found[own] = 0
            of_ours[..., _SUM] = found.sum(axis=2)
            of_ours[..., _SQUARES] = np.einsum("ijk,ijk->ij", found, found)
            found[own] = -1
            found.partition(n - k, axis=2)
            of_ours[..., _TOP] = found[..., n - k :].sum(axis=2)
            of_ours[..., _LAST] = found[..., n - k]
            of_ours[..., _N] = n - own.sum(axis=2)
        return told

    def _whitened(self, vectors: NDArray[Any]) -> tuple[list[Floats], Floats]:
        """Return parts of images less their mean, and the first columns of statistics.

        The cosine of two whitened parts is the product of these, less that of their
        coordinates, over both whitened lengths. So no whitened vector is computed.
        """
        shape = len(vectors), self._n_slices, _FIRST + len(self.common)
        told, parts = np.zeros(shape, np.float32), []
        for at, part in enumerate(self._parts, -len(self._parts)):
            block = np.asarray(vectors[:, part], np.float32)
            mean, common = self.mean[part], self.common[:, part].astype(np.float32)
            of = told[:, at]
            of[:, _LENGTH] = np.linalg.norm(block, axis=1)
            block = unit_rows(block)
            of[:, _ALONG] = block @ mean.astype(np.float32)
            block[of[:, _LENGTH] > 0] -= mean
            of[:, _FIRST:] = codes = block @ common.T
            rest = np.einsum("ij,ij->i", block, block)
            rest -= np.einsum("ij,ij->i", codes, codes)
            of[:, _WHITE] = np.sqrt(np.maximum(rest, _LEAST_SPREAD**2))
            parts.append(block)
        if len(parts) > 1:
            told[:, 0, _LENGTH] = np.linalg.norm(told[:, 1:, _LENGTH], axis=1)
        return parts, told

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
        n_maps = np.maximum(self.n_maps, 1)
        share = self.widths // n_maps
        start = np.cumsum(self.widths) - self.widths + share * (fold % n_maps)
        columns = np.concatenate(
            [np.arange(*ends) for ends in zip(start, start + share, strict=True)]
        )
        ours = ("vectors", "mean", "common")
        own: Any = {name: getattr(self, name)[..., columns] for name in ours}
        return replace(self, widths=share, n_maps=np.ones_like(share), **own), columns

    def rows(
        self,
        vectors: Floats,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        fold: NDArray[np.int64] | None = None,
        statistics: Floats | None = None,
    ) -> Floats:
        """Return the similarities of pairs, alike whichever image comes first.

        Of the whole and of each part the cosine; then, whitened, the mean of the
        z-norms by both images, their difference, and CSLS by the ten nearest
        references. No image of a pair counts among the references of the other.

        Parameters
        ----------
        vectors : ndarray of shape (n_images, n_dims), float32
        left, right : ndarray of shape (n_pairs,), int64
            Rows of `vectors`.
        fold : ndarray of shape (n_pairs,), int64, or None, default=None
            By the map of which fold each pair is compared; None for all of them.
        statistics : ndarray of shape (n_images, n_slices, ...), float32, or None
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
            whole = np.zeros((2, len(one)), np.float32)
            for at, part in enumerate(self._parts, self._n_slices - len(self.widths)):
                a, b = (statistics[side[block], at] for side in codes)
                lengths = a[:, _LENGTH] * b[:, _LENGTH]
                product = np.einsum("ij,ij->i", one[:, part], other[:, part])
                cosine = product / np.where(lengths > 0, lengths, 1)
                mean = self.mean[part].astype(np.float32)
                white = cosine - (a[:, _ALONG] + b[:, _ALONG]) + mean @ mean
                white -= np.einsum("ij,ij->i", a[:, _FIRST:], b[:, _FIRST:])
                white *= (lengths > 0) / (a[:, _WHITE] * b[:, _WHITE])
                whole += lengths * np.stack([cosine, white])
                features[block, 4 * at : 4 * at + 4] = self._row(cosine, white, a, b)
            if at:
                a, b = (statistics[side[block], 0] for side in codes)
                lengths = a[:, _LENGTH] * b[:, _LENGTH]
                whole /= np.where(lengths > 0, lengths, 1)
                features[block, :4] = self._row(whole[0], whole[1], a, b)
        return features

    def _row(self, cosine: Floats, white: Floats, one: Floats, other: Floats) -> Floats:
        """Return :data:`SIMILARITIES` of one part of some pairs."""
        cosine, white = np.clip([cosine, white], -1, 1)
        z, near = self._compared(white, one, other)
        z_other, near_other = self._compared(white, other, one)
        rows = cosine, (z + z_other) / 2, np.abs(z - z_other)
        return np.stack([*rows, 2 * white - (near + near_other)], axis=1)

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
