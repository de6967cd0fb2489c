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

A map is whitened at each of its positions first, since what most positions share drowns
the rest just as well, and then as a whole. And since a look-alike often looks the other
way, each map is compared with the mirrored one, too, its positions from right to left.

A cosine is ruled by the few largest numbers of both vectors. So each part is compared
once more by the signed square roots of its numbers, which all have a say (Perronnin and
others, "Improving the Fisher kernel for large-scale image classification", 2010).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tllboost.errors import UsageError
from tllboost.merges import SIMILARITY, Width, row_blocks, slices_of, unit_rows

Floats = NDArray[np.float32]

LEAST = 12
"""References that are drawn at least, where there are as many images."""

_MOST, _MOST_BYTES = 512, 4 * 10**6  # of references; so much of directions, too
_MOST_DIRECTIONS, _EACH = 48, 8  # numbers of a vector, and images, for each direction
_SPARED = 64  # images that allow no direction: so few differ most in what they show
_MOST_POSITIONS = 1024  # of maps, that directions are found from
_LEAST_VARIANCE = 1e-2  # of the largest: half precision tells no less
_NEAREST = 10
SIMILARITIES = ("cosine", "S-norm", "difference of z-norms", "CSLS")
"""What a row says of the whole vector, and of each part; whitened but for the first."""
ROOTED, MIRRORED = "S-norm of roots", "S-norm, mirrored"
"""What it says, at its end, of each part that is whitened, and of each map."""
BASELINES = (1, 0)
"""What heads may start from: S-norm, or the plain cosine."""
_SAME = 1 - 1e-4  # cosine from which two vectors are those of one picture
_BLOCK = 1024
_PIECE_BYTES = 2**24  # of vectors that are whitened at once
_LEAST_SPREAD = np.float32(1e-3)
# Of an image and a part: its length; sum and sum of squares of its cosines with the
# references, the sum of the eleven largest, and the smallest of these; how many
# references there are beside itself.
_LENGTH, _SUM, _SQUARES, _TOP, _LAST, _N, _N_COLUMNS = range(7)


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
    mean : ndarray of shape (n_dims + n_channels,), float16
        Of each part at length 1 over training images; zero where nothing is whitened.
        Behind that, of each part that is a map, of its positions at length 1. They are
        whitened first.
    common : ndarray of shape (n_directions, n_dims + n_channels), float16
        Directions in which training images vary most, in each part. The squared length
        of one is the share of its variance that is taken away.
    baseline : ndarray of shape (1,), int32
        Which number of a row heads start from: S-norm, until labelled pairs choose.
    sides : ndarray of shape (n_parts,), int32
        Grid positions a side of each part as the vectorizer gave it, 1 of what is no
        map. 0 of what is compared in one way only: what nothing was whitened for, what
        maps made, and all parts in bundles of before.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    >>> references = References.drawn(vectors, np.arange(20), [4, 4], seed=0)
    >>> references.rows(vectors, np.array([0, 25]), np.array([30, 31])).shape
    (2, 14)
    """

    vectors: NDArray[np.float16]
    widths: NDArray[np.int32]
    n_maps: NDArray[np.int32]
    mean: NDArray[np.float16]
    common: NDArray[np.float16]
    baseline: NDArray[np.int32]
    sides: NDArray[np.int32] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.sides is None:  # bundles of before know of one way only
            self.sides = np.zeros_like(self.widths)

    @classmethod
    def drawn(
        cls,
        vectors: Floats,
        images: NDArray[np.integer],
        widths: Sequence[Width | int] | None = None,
        n_maps: ArrayLike | None = None,
        *,
        seed: int,
        whitened: bool = True,
    ) -> Self:
        """Draw references: 512 images, or as many as 4 MB hold, and whiten by others.

        Parameters
        ----------
        vectors : ndarray of shape (n_images, n_dims), float32
        images : ndarray of int
            Rows to draw from, such as the images of the training set.
        widths : sequence of Width or int, or None
            Of the parts of a vector; a number is of what is no map. None for one part.
        n_maps : sequence of int or None
            What the attribute tells; None for 0.
        seed : int
        whitened : bool, default=True
            Whether vectors are whitened by 512 of the images: by 48 directions, or as
            many as 4 MB hold.
        """
        from scipy.linalg import eigh

        n_dims = vectors.shape[1]
        told = [n_dims] if widths is None else widths
        known = [x if isinstance(x, Width) else Width(x) for x in told]
        parts, sides = np.array(known, np.int32).T.copy()
        maps = np.zeros_like(parts) if n_maps is None else np.array(n_maps, np.int32)
        sides *= (maps == 0) & whitened
        of = np.random.default_rng([seed, 18]).permutation(np.unique(images))[:_MOST]
        rows = vectors[of]
        n_white = n_dims + _n_channels(parts, sides)
        enough = max(0, len(of) - _SPARED) // _EACH
        n = min(_MOST_DIRECTIONS, enough, _MOST_BYTES // (2 * n_white)) * whitened
        mean, common = np.zeros(n_white, np.float16), np.zeros((n, n_white), np.float16)
        start = np.array(BASELINES[:1], np.int32)
        made = cls(mean[None], parts, maps, mean, common, start, sides)
        rng = np.random.default_rng(seed)
        for part, n_of in zip(made._parts, maps, strict=True):
            block = rows[:, part.columns]
            for columns in part.whitened if whitened and not n_of else ():
                block = block.reshape(-1, columns.stop - columns.start)
                own = unit_rows(block)
                if len(own) > len(rows):
                    own = own[rng.permutation(len(own))[:_MOST_POSITIONS]]
                mean[columns] = own.mean(axis=0)
                own -= mean[columns]
                n_own = min(n, own.shape[1] // _EACH)
                # By products of rows with each other, which are fewer than numbers.
                ends = [len(own) - n_own - 1, len(own) - 1]
                variance, axes = eigh(own @ own.T, subset_by_index=ends)
                least = max(variance[0], _LEAST_VARIANCE * variance[-1], 1e-30)
                axes = axes[:, 1:] / np.sqrt(variance[1:] + least)
                common[:n_own, columns] = axes.T @ own
                block = made._white(columns, block)
        rows = unit_rows(rows[: max(LEAST, _MOST_BYTES // (2 * n_dims))])
        # A picture that is there twice would count twice, and be its own reference.
        twice = np.tril(rows @ rows.T, -1).max(axis=1) > _SAME
        made.vectors = rows[~twice].astype(np.float16)
        return made

    def _white(self, columns: slice, rows: Floats) -> Floats:
        """Return rows less their mean, their directions shrunk, at length 1."""
        mean, common = self.mean[columns], self.common[:, columns].astype(np.float32)
        white = unit_rows(rows)
        nothing = ~white.any(axis=1)
        white -= mean
        white[nothing] = 0
        gone = np.minimum(np.einsum("ij,ij->i", common, common), 1)
        codes = white @ common.T
        # Of the variance in a direction that share goes; of the length, what its root
        # leaves of 1.
        codes *= (1 - np.sqrt(1 - gone)) / np.maximum(gone, 1e-30)
        white -= codes @ common
        lengths = np.linalg.norm(white, axis=1, keepdims=True)
        white /= np.maximum(lengths, _LEAST_SPREAD)
        return white

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Take back the fields of another; ValueError if nothing compares with them."""
        made = cls(**tensors)
        vectors, widths, n_maps = made.vectors, made.widths, made.n_maps
        if not (
            (vectors.dtype, vectors.ndim) == (np.float16, 2)
            and (widths.dtype, widths.ndim) == (np.int32, 1)
            and (n_maps.dtype, n_maps.shape) == (np.int32, widths.shape)
            and (made.sides.dtype, made.sides.shape) == (np.int32, widths.shape)
            and (made.mean.dtype, made.mean.ndim) == (np.float16, 1)
            and (made.common.dtype, made.common.ndim) == (np.float16, 2)
            and made.common.shape[1:] == made.mean.shape
            and made.baseline.dtype == np.int32
            # Bundles of before may start from CSLS.
            and made.baseline.tolist() in ([0], [1], [3])
            and 0 < len(vectors) <= _MOST
            and len(widths)
            and (n_maps >= 0).all()
            and (widths > 0).all()
            and not (widths % np.maximum(n_maps, 1)).any()
            and (made.sides >= 0).all()
            and (made.sides <= widths).all()
            and not (widths % np.maximum(made.sides, 1).astype(np.int64) ** 2).any()
            and int(widths.sum(dtype=np.int64)) == vectors.shape[1]
            and len(made.mean) == vectors.shape[1] + _n_channels(widths, made.sides)
        ):
            msg = "its references are not vectors of parts"
            raise ValueError(msg)
        return made

    @property
    def layout(self) -> tuple[list[Width], NDArray[np.int32]]:
        """Widths of the parts, and the maps in each, as :meth:`drawn` takes them."""
        known = zip(self.widths.tolist(), self.sides.tolist(), strict=True)
        return [Width(*one) for one in known], self.n_maps

    @property
    def _parts(self) -> list[_Part]:
        n, n_dims = len(self.widths), int(self.widths.sum())
        beside, found = count(len(slices_of(self.widths))), []
        own = enumerate(slices_of(self.widths)[-n:], start=n > 1)
        for (at, columns), side in zip(own, self.sides.tolist(), strict=True):
            whitened = [columns]
            if side > 1:
                n_channels = (columns.stop - columns.start) // side**2
                whitened.insert(0, slice(n_dims, n_dims + n_channels))
                n_dims += n_channels
            rooted = next(beside) if side else None
            mirrored = next(beside) if side > 1 else None
            found.append(_Part(at, side, columns, whitened, rooted, mirrored))
        return found

    @property
    def _n_slices(self) -> int:
        beside = np.count_nonzero(self.sides) + np.count_nonzero(self.sides > 1)
        return len(slices_of(self.widths)) + int(beside)

    @property
    def n_features(self) -> int:
        """Width of a row: four numbers of the whole and of each part, and those beside.

        One more of each part that is whitened, and of each map.
        """
        return 3 * len(slices_of(self.widths)) + self._n_slices

    def statistics(self, vectors: Floats, white: Floats | None = None) -> Floats:
        """Return what images have to the references: (n_images, n_slices, ...) float32.

        An image that is a reference does not meet itself. `white` is what
        :meth:`whitened` makes of the vectors, where it is known.

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
        n, several = len(self.vectors), slice(1, 1 + len(self.widths))
        theirs, of_theirs = self._compared(self.vectors)
        told = np.empty((len(vectors), self._n_slices, _N_COLUMNS), np.float32)
        k = min(_NEAREST + 1, n)
        for rows in row_blocks(len(vectors), n * self._n_slices, _BLOCK):
            known = None if white is None else white[rows]
            ours, told[rows] = self._compared(vectors[rows], known)
            of_ours = told[rows]
            found = np.empty((len(of_ours), self._n_slices, n), np.float32)
            for at, (block, _) in ours.items():
                found[:, at] = block @ theirs[at][1].T
            if len(self.widths) > 1:
                shares = [
                    one[:, several, _LENGTH] / np.maximum(one[:, :1, _LENGTH], 1e-30)
                    for one in (of_ours, of_theirs)
                ]
                found[:, 0] = np.einsum("ip,jp,ipj->ij", *shares, found[:, several])
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

    def _compared(
        self, vectors: NDArray[Any], white: Floats | None = None
    ) -> tuple[dict[int, tuple[Floats, Floats]], Floats]:
        """Return what is compared of images, and the first column of statistics.

        By the place among the slices: rows of an image, and those of the other one.
        """
        white = self.whitened(vectors) if white is None else white
        told = np.zeros((len(vectors), self._n_slices, _N_COLUMNS), np.float32)
        found: dict[int, tuple[Floats, Floats]] = {}
        for part in self._parts:
            block = np.asarray(vectors[:, part.columns], np.float32)
            told[:, part.at, _LENGTH] = np.linalg.norm(block, axis=1)
            found |= self._ways(part, white[:, part.columns])
        if len(self.widths) > 1:
            several = told[:, 1 : 1 + len(self.widths), _LENGTH]
            told[:, 0, _LENGTH] = np.linalg.norm(several, axis=1)
        return found, told

    def whitened(self, vectors: NDArray[Any]) -> Floats:
        """Return vectors with each part whitened: (n_images, n_dims) float32.

        A map is whitened at each of its positions first.
        """
        white = np.empty(vectors.shape, np.float32)
        for rows in row_blocks(*vectors.shape, most=_PIECE_BYTES):
            for part in self._parts:
                own = white[rows, part.columns]
                block = vectors[rows, part.columns].astype(np.float32)
                for columns in part.whitened:
                    block = block.reshape(-1, columns.stop - columns.start)
                    block = self._white(columns, block)
                own[:] = block.reshape(own.shape)
        return white

    def _ways(self, part: _Part, white: Floats) -> dict[int, tuple[Floats, Floats]]:
        """Return a whitened part by its place; then its roots, and the mirrored map."""
        found = {part.at: (white, white)}
        if part.rooted:
            roots = unit_rows(np.copysign(np.sqrt(np.abs(white)), white))
            found[part.rooted] = roots, roots
        if part.mirrored:
            grid = white.reshape(len(white), part.side, part.side, -1)
            found[part.mirrored] = white, grid[:, :, ::-1].reshape(white.shape)
        return found

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
        n_maps, found = np.maximum(self.n_maps, 1), []
        for part, n in zip(self._parts, n_maps.tolist(), strict=True):
            width = (part.columns.stop - part.columns.start) // n
            found.append(part.columns.start + fold % n * width + np.arange(width))
        columns = np.concatenate(found)
        # Of positions there is nothing that a fold has not.
        positions = np.arange(self.vectors.shape[1], len(self.mean))
        white = np.concatenate([columns, positions])
        own: dict[str, Any] = {"mean": self.mean[white]}
        own |= {"common": self.common[:, white], "vectors": self.vectors[:, columns]}
        own |= {"widths": self.widths // n_maps, "n_maps": np.ones_like(n_maps)}
        return replace(self, **own), columns

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
        references. Behind all these the first of the three once more, of the roots of
        each part that is whitened, and of each map beside a mirrored one. No image of a
        pair counts among the references of the other.

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
                inside = np.flatnonzero(fold == number)
                sides = np.stack([left[inside], right[inside]])
                images, codes = np.unique(sides, return_inverse=True)
                one_left, one_right = codes.reshape(2, -1)
                some = vectors[images[:, None], own]
                features[inside] = alone.rows(some, one_left, one_right)
            return features
        sides = np.stack([left, right])
        images, at = np.unique(sides, return_inverse=True)
        one, other = at.reshape(sides.shape)
        some = np.asarray(vectors[images], np.float32)
        white = self.whitened(some)
        known = None if statistics is None else statistics[images]
        if known is None:
            known = self.statistics(some, white)
        features = np.empty((len(left), self.n_features), np.float32)
        whole = np.zeros((2, len(left)), np.float32)
        for part in self._parts:
            plain, of = some[:, part.columns], known[:, part.at]
            lengths = of[one, _LENGTH] * of[other, _LENGTH]
            cosine = _products(plain, plain, one, other)
            cosine /= np.where(lengths > 0, lengths, 1)
            ways = self._ways(part, white[:, part.columns])
            for place, (ours, theirs) in ways.items():
                told, of = _products(ours, theirs, one, other), known[:, place]
                row = self._row(cosine, told, of[one], of[other])
                if place == part.at:
                    features[:, 4 * place : 4 * place + 4] = row
                    whole += lengths * np.stack([cosine, told])
                else:
                    features[:, place - self._n_slices] = row[:, 1]
        if len(self.widths) > 1:
            of = known[:, 0]
            lengths = of[one, _LENGTH] * of[other, _LENGTH]
            whole /= np.where(lengths > 0, lengths, 1)
            features[:, :4] = self._row(whole[0], whole[1], of[one], of[other])
        return features

    def _row(self, cosine: Floats, white: Floats, one: Floats, other: Floats) -> Floats:
        """Return :data:`SIMILARITIES` of one part of some pairs."""
        cosine, white = np.clip([cosine, white], -1, 1)
        z, near = self._z_norm(white, one, other)
        z_other, near_other = self._z_norm(white, other, one)
        rows = cosine, (z + z_other) / 2, np.abs(z - z_other)
        return np.stack([*rows, 2 * white - (near + near_other)], axis=1)

    def _z_norm(
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


class _Part(NamedTuple):
    """Where a part lies in a vector, and where among the slices what is said of it."""

    at: int
    side: int  # see `sides`
    columns: slice
    whitened: Sequence[slice]  # columns of `mean` and `common`, one after the other
    rooted: int | None
    mirrored: int | None


def _n_channels(widths: NDArray[np.int32], sides: NDArray[np.int32]) -> int:
    """Return how many channels all maps have together."""
    is_map = sides > 1
    return int((widths[is_map] // sides[is_map] ** 2).sum(dtype=np.int64))


def _products(
    ours: Floats, theirs: Floats, one: NDArray[np.int64], other: NDArray[np.int64]
) -> Floats:
    """Return the product of one row with another of each pair: (n_pairs,) float32."""
    found = np.empty(len(one), np.float32)
    for rows in row_blocks(len(one), ours.shape[1], most=2**20):
        np.einsum("ij,ij->i", ours[one[rows]], theirs[other[rows]], out=found[rows])
    return found
