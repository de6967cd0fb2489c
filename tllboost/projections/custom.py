"""``package.module:Class``: a projection of the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from tllboost.errors import DataError, UsageError
from tllboost.projections.base import Projection
from tllboost.splits import PairSet

__all__ = ["CustomProjection", "accepted"]


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
            If it is not one row a picture.
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
