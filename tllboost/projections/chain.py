"""``triplet/contrastive``: one projection on top of another.

``package.module:Class``: a projection of the user's own.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError, UsageError
from tllboost.projections.base import Projection
from tllboost.splits import PairSet

__all__ = ["ChainProjection", "CustomProjection", "accepted"]

Floats = NDArray[np.float32]
_MEMBER = "projection.safetensors"


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

    def check_options(self) -> None:
        """Refuse options that could not be given by name, of any part."""
        for part in self.parts:
            part.check_options()

    def fit(
        self, vectors: Floats, train: PairSet, validation: PairSet
    ) -> ChainProjection:
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

    def to_members(self) -> dict[str, bytes]:
        """Return the tensors of all parts, their names preceded by a number."""
        from safetensors.numpy import load, save

        arrays = {
            f"{index}.{name}": array
            for index, part in enumerate(self.parts_)
            for name, array in load(part.to_members()[_MEMBER]).items()
        }
        return {_MEMBER: save(arrays)}

    def from_members(self, members: Mapping[str, bytes]) -> ChainProjection:
        """Take the tensors back.

        Raises
        ------
        ValueError
            If they are not those of such a chain.
        """
        from safetensors.numpy import load, save

        own: list[dict[str, Any]] = [{} for _ in self.parts]
        for name, array in load(members[_MEMBER]).items():
            index, _, rest = name.partition(".")
            if not index.isdecimal() or int(index) >= len(own):
                msg = f"{name!r} has no place in a projection {self.spec!r}"
                raise ValueError(msg)
            own[int(index)][rest] = array
        self.parts_ = tuple(
            copy.copy(part).from_members({_MEMBER: save(arrays)})
            for part, arrays in zip(self.parts, own, strict=True)
        )
        return self


class CustomProjection(Projection):
    """Wrap any object with ``fit(vectors, train, validation)`` and ``transform``.

    Parameters
    ----------
    target : object
        Of which a copy is fitted. Vectors are (n_images, n_dims) float32, `train` and
        `validation` are :class:`~tllboost.splits.PairSet`; ``transform(vectors)`` gives
        (n_images, n_components). The grid keeps what it learned, so there it also needs
        ``to_members() -> {"projection.safetensors": bytes}`` and ``from_members``.

    Examples
    --------
    >>> class Double:
    ...     def fit(self, vectors, train, validation):
    ...         return self
    ...     def transform(self, vectors):
    ...         return 2 * vectors
    >>> projection = CustomProjection(Double()).fit(np.eye(2), None, None)
    >>> projection.transform(np.float32([[1, 2]])).tolist()
    [[2.0, 4.0]]
    """

    def __init__(self, target: Any) -> None:
        self.target = target

    @property
    def spec(self) -> str:
        """The import path of its class."""
        kind = type(self.target)
        return f"{kind.__module__}:{kind.__qualname__}"

    def check_options(self) -> None:
        """Refuse an object that can't be fitted or can't transform.

        Raises
        ------
        UsageError
            It says which method is wanting.
        """
        for name in ("fit", "transform"):
            if not callable(getattr(self.target, name, None)):
                msg = (
                    f"projection {self.spec!r} has no {name}: it needs "
                    "fit(vectors, train, validation) and transform(vectors)"
                )
                raise UsageError(msg)

    def fit(
        self, vectors: NDArray[np.float32], train: PairSet, validation: PairSet
    ) -> CustomProjection:
        """Fit a copy of the object."""
        from sklearn.base import clone

        self.check_options()
        self.target_ = clone(self.target, safe=False)
        self.target_.fit(vectors, train, validation)
        self.n_dims_in_ = vectors.shape[1]
        return self

    def transform(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the object makes of vectors, as float32.

        Raises
        ------
        DataError
            If it is not one row an image.
        """
        projected = np.asarray(self.target_.transform(vectors), dtype=np.float32)
        if projected.ndim != 2 or len(projected) != len(vectors):
            msg = (
                f"projection {self.spec!r} returned shape {projected.shape} for "
                f"{len(vectors)} vectors; it must be (n_images, n_components)"
            )
            raise DataError(msg)
        return projected

    def to_members(self) -> dict[str, bytes]:
        """Return what the object learned, as named bytes.

        Raises
        ------
        UsageError
            If it can't tell.
        """
        return dict(self._method(self.target_, "to_members")())

    def from_members(self, members: Mapping[str, bytes]) -> CustomProjection:
        """Give a copy of the object back what it learned; return self.

        Raises
        ------
        UsageError
            If it can't take it.
        """
        from sklearn.base import clone

        self.target_ = clone(self.target, safe=False)
        self._method(self.target_, "from_members")(members)
        return self

    def _method(self, target: Any, name: str) -> Any:
        method = getattr(target, name, None)
        if method is None:
            msg = (
                f"projection {self.spec!r} has no {name}: what it learned can't be "
                "kept without to_members and from_members"
            )
            raise UsageError(msg)
        return method


def accepted(kind: type, **given: Any) -> dict[str, Any]:
    """Return those of the arguments that a class takes.

    Examples
    --------
    >>> accepted(CustomProjection, target=1, seed=2)
    {'target': 1}
    """
    known = inspect.signature(kind).parameters
    return {name: value for name, value in given.items() if name in known}
