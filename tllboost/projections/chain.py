"""``triplet/contrastive``: one projection on top of another."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tllboost.projections.base import Projection
from tllboost.splits import PairSet

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
