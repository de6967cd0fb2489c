"""Projections that are made of others: chains of them, and maps a fold.

In ``triplet/contrastive`` one stands on top of another. ``crossfit/infonce`` has maps
of each part of a fusion, each fitted without one fold.

A map that was fitted on a pair says of this pair no more than that it was fitted on it.
A head that is to weigh what maps say must therefore see, of each training pair, what a
map says that never met its images (stacking: Wolpert, "Stacked generalization", 1992;
cross-fitting: Chernozhukov and others, "Double/debiased machine learning", 2018). New
pairs get the mean of the maps of all folds.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tllboost.conventions import seed_of
from tllboost.merges import Width, slices_of, unit_rows
from tllboost.projections import CROSSFIT
from tllboost.projections.base import Projection, matches_in
from tllboost.registry import Option, option
from tllboost.splits import PairSet, draw_negatives

Floats = NDArray[np.float32]


class ChainProjection(Projection):
    """Projections one after the other, each fitted on what the one before gives.

    Parameters
    ----------
    parts : sequence of Projection
        Two at least; copies of them are fitted.

    Attributes
    ----------
    parts_ : tuple of Projection
        The fitted copies.

    Examples
    --------
    >>> from tllboost.projections import make_projection
    >>> make_projection("triplet?depth=2/contrastive?joined=false").spec
    'triplet?depth=2/contrastive?joined=false'
    """

    def __init__(self, parts: Sequence[Projection]) -> None:
        self.parts = parts

    @property
    def spec(self) -> str:
        """The spelling of every part, joined by slashes."""
        return "/".join(part.spec for part in self.parts)

    @property
    def n_dims_in_(self) -> int:
        """Width of the vectors that the first part takes."""
        width: int = self.parts_[0].n_dims_in_  # type: ignore[attr-defined]
        return width

    @property
    def joined_(self) -> Any:
        """The network that was trained along with the last part; empty for none."""
        return getattr(self.parts_[-1], "joined_", [])

    def fit(self, vectors: Floats, train: PairSet, validation: PairSet) -> Self:
        """Fit one part after the other, all on the same pairs."""
        from sklearn.base import clone

        self.check_options()
        # No part may look at the images of another set: they are not even mapped.
        seen = np.unique(
            np.concatenate([train.left, train.right, validation.left, validation.right])
        )
        fitted: list[Projection] = []
        for index, part in enumerate(self.parts):
            fitted.append(clone(part).fit(vectors, train, validation))
            if index < len(self.parts) - 1:
                projected = fitted[-1].transform(vectors[seen])
                vectors = np.zeros((len(vectors), projected.shape[1]), np.float32)
                vectors[seen] = projected
        self.parts_ = tuple(fitted)
        return self

    def transform(self, vectors: Floats) -> Floats:
        """Return what the last part gives: (n_images, n_components) float32."""
        for part in self.parts_:
            vectors = part.transform(vectors)
        return vectors

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of all parts, their names preceded by a number."""
        return {
            f"{index}.{name}": array
            for index, part in enumerate(self.parts_)
            for name, array in part.to_tensors().items()
        }

    def from_tensors(self, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Take the arrays back; ValueError if they are not those of such a chain."""
        own: list[dict[str, Any]] = [{} for _ in self.parts]
        for name, array in tensors.items():
            index, _, rest = name.partition(".")
            if not index.isdecimal() or int(index) >= len(own):
                msg = f"{name!r} has no place in a projection {self.spec!r}"
                raise ValueError(msg)
            own[int(index)][rest] = array
        self.parts_ = tuple(
            copy.copy(part).from_tensors(arrays)
            for part, arrays in zip(self.parts, own, strict=True)
        )
        return self


@dataclass(eq=False, repr=False, kw_only=True)
class CrossFitProjection(Projection):
    """Vectors as they are, and beside them what maps make of the whole and its parts.

    Of the whole vector, and of each part of a fusion, a map is fitted for each fold, on
    the training pairs that have no image in it. The merge ``similarity`` compares a
    training pair by the maps of its own fold, and any other pair by all of them.

    Parameters
    ----------
    part : Projection
        What is fitted; copies of it are.
    folds : int, default=5
        Connected components are dealt to so many.
    widths : sequence of int or None, default=None
        Of the parts of a vector; None for one part.
    random_state : int, RandomState, Generator or None, default=0
        Of the deal, and of the non-matches that are drawn inside a fold.

    Attributes
    ----------
    maps_ : dict of (int, int) to Projection
        The fitted copies, by part (0 is the whole) and fold.
    widths_ : ndarray of shape (n_parts,), int32

    Examples
    --------
    >>> from tllboost.projections import make_projection
    >>> made = make_projection("crossfit?folds=3/infonce?depth=2", widths=[8, 4])
    >>> made.spec, made.folds
    ('crossfit?folds=3/infonce?depth=2', 3)
    """

    name: ClassVar[str] = CROSSFIT

    part: Projection
    folds: int = option(5, Option("2 to 20", int, lambda n: 2 <= n <= 20))
    widths: Sequence[int] | None = None
    random_state: Any = 0

    @property
    def spec(self) -> str:
        """The spelling of both."""
        return f"{super().spec}/{self.part.spec}"

    @property
    def parts(self) -> Sequence[Projection]:
        """What is fitted, part by part where it is a chain."""
        return getattr(self.part, "parts", [self.part])

    @property
    def n_dims_in_(self) -> int:
        """Width of the vectors that it takes."""
        return int(self.widths_.sum())

    def fit(
        self,
        vectors: Floats,
        train: PairSet,
        validation: PairSet,
        *,
        only: Iterable[int] | None = None,
    ) -> Self:
        """Fit the maps of all folds, or `only` of some; validation chooses the epoch.

        Raises
        ------
        DataError
            If the other folds have too few matches.
        """
        from sklearn.base import clone

        self.check_options()
        self.widths_ = np.array(self.widths or [vectors.shape[1]], np.int32)
        own = self.fold_of(train)
        self.maps_: dict[tuple[int, int], Projection] = {}
        for fold in only or range(self.folds):
            others = train.take((own != fold).all(axis=0))
            for at, columns in enumerate(self._slices):
                made = clone(self.part).fit(vectors[:, columns], others, validation)
                self.maps_[at, fold] = made
        return self

    def transform(self, vectors: Floats) -> Floats:
        """Return each vector, at length 1, and what the maps make of it.

        (n_images, n_dims + n_maps · n_components) float32: the maps of one part lie
        beside each other, so that its cosine is the mean of theirs.
        """
        blocks = [unit_rows(vectors)]
        for (at, _), one in sorted(self.maps_.items()):
            mapped = unit_rows(one.transform(vectors[:, self._slices[at]]))
            blocks.append(mapped / np.float32(np.sqrt(self.folds)))
        return np.hstack(blocks).astype(np.float32, copy=False)

    def layout(
        self, blocks: Sequence[Width | int]
    ) -> tuple[list[Width | int], list[int]]:
        """Return the widths of the parts of a projected vector, and the maps in each.

        First the blocks as they are; then what is made of the whole and of each part.
        """
        mapped = [0] * len(self._slices)
        for (at, _), one in self.maps_.items():
            probe = np.zeros((1, _width(self._slices[at])), np.float32)
            mapped[at] += one.transform(probe).shape[1]
        own = [*blocks] or self.widths_.tolist()
        n_maps = [0] * len(own) + [self.folds] * len(mapped)
        return [*own, *mapped], n_maps

    def fold_of(self, pairs: PairSet) -> NDArray[np.int64]:
        """Return the fold of both images of each pair: (2, n_pairs) int64.

        An image goes where its matches go; one without any goes its own way.
        """
        matches, sides = matches_in(pairs), np.stack([pairs.left, pairs.right])
        owner = np.arange(1 + sides.max()) + 1 + pairs.component.max()
        owner[pairs.left] = pairs.component
        owner[matches.right] = matches.component
        known, codes = np.unique(owner[sides], return_inverse=True)
        rng = np.random.default_rng([seed_of(self.random_state), 0])
        dealt = rng.permutation(np.arange(len(known)) % self.folds)
        return dealt[codes].reshape(sides.shape)

    def inside(self, train: PairSet) -> tuple[PairSet, NDArray[np.int64]]:
        """Return pairs whose images lie in one fold, and the fold of each pair.

        A drawn non-match gives way to one that is drawn inside the fold of its query.
        One of the table's own whose images lie in two folds is left out.
        """
        (left, right), is_match = self.fold_of(train), train.label == 1
        lists = train.query[is_match & (train.query >= 0)]
        drawn = ~is_match & np.isin(train.query, lists)
        kept, others = left == right, train.right.copy()
        rng = np.random.default_rng([seed_of(self.random_state), 1])
        for fold in range(self.folds):
            rows = np.flatnonzero(drawn & (left == fold))
            of = np.flatnonzero(is_match & (left == fold))
            pool, first = np.unique(train.right[of], return_index=True)
            _, start, counts = np.unique(
                train.query[rows], return_index=True, return_counts=True
            )
            query = np.repeat(np.arange(len(start)), counts)
            found = draw_negatives(
                train.component[rows[start]],
                pool,
                train.component[of[first]],
                int(counts.max(initial=0)),
                rng,
            )
            others[rows] = found[query, np.arange(len(rows)) - start[query]]
            kept[rows] = others[rows] >= 0
        return replace(train, right=others).take(kept), left[kept]

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of all maps, their names preceded by part and fold."""
        arrays = {
            f"{at}.{fold}.{name}": array
            for (at, fold), one in self.maps_.items()
            for name, array in one.to_tensors().items()
        }
        return {"widths": self.widths_, **arrays}

    def from_tensors(self, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Take the arrays back; ValueError if they are not those of such maps."""
        own: dict[tuple[str, str], dict[str, NDArray[Any]]] = {}
        widths = tensors["widths"]
        if widths.dtype != np.int32 or widths.ndim != 1 or not (widths > 0).all():
            msg = "its widths are not those of parts"
            raise ValueError(msg)
        self.widths_ = widths
        for name in tensors.keys() - {"widths"}:
            at, fold, rest = (*name.split(".", 2), "", "")[:3]
            own.setdefault((at, fold), {})[rest] = tensors[name]
        asked = [*product(range(len(self._slices)), range(self.folds))]
        if own.keys() != {(str(at), str(fold)) for at, fold in asked}:
            msg = f"its maps have no place in a projection {self.spec!r}"
            raise ValueError(msg)
        self.maps_ = {
            (at, fold): copy.copy(self.part).from_tensors(own[str(at), str(fold)])
            for at, fold in asked
        }
        for (part, _), one in self.maps_.items():
            n_dims: int = one.n_dims_in_  # type: ignore[attr-defined]
            if n_dims != _width(self._slices[part]):
                msg = f"its maps are of other widths than {widths.tolist()}"
                raise ValueError(msg)
        return self

    @property
    def _slices(self) -> list[slice]:
        """The whole vector, then its parts where there are several."""
        return slices_of(self.widths_)


def _width(columns: slice) -> int:
    return columns.stop - columns.start
