"""What every projection is: fitted on one side's pairs, then a map of vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from tllboost.splits import PairSet
from tllboost.vectorizers.spec import parse_spec

__all__ = ["Projection"]


class Projection(BaseEstimator):
    """Base of the projections.

    A subclass stores its arguments, fits in ``fit``, maps in ``transform`` and keeps
    what it learned as named bytes that hold no code. One of your own may call itself
    ``package.module:Class``, the name that it is given by, or leave ``name`` out.
    """

    name: ClassVar[str] = ""
    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {}

    @property
    def spec(self) -> str:
        """The spelling that :func:`~tllboost.projections.make_projection` takes."""
        kind = type(self)
        default, name = kind(), self.name or f"{kind.__module__}:{kind.__qualname__}"
        options = "&".join(
            f"{option}={_as_text(getattr(self, option))}"
            for option in self.OPTIONS
            if getattr(self, option) != getattr(default, option)
        )
        return f"{name}?{options}" if options else name

    def check_options(self) -> None:
        """Refuse options that could not be given by name.

        Raises
        ------
        UsageError
            If one is out of its range.

        Examples
        --------
        >>> from tllboost.projections.infonce import InfoNCEProjection
        >>> InfoNCEProjection(dropout=1.0).check_options()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
          ...
        tllboost.errors.UsageError: option dropout='1.0' in 'infonce?dropout=1.0': w...
        """
        parse_spec(self.spec).typed_options(self.OPTIONS)

    def fit(
        self, vectors: NDArray[np.float32], train: PairSet, validation: PairSet
    ) -> Projection:
        """Learn the map from training pairs; validation pairs say when to stop.

        Parameters
        ----------
        vectors : ndarray of shape (n_images, n_dims), float32
        train, validation : PairSet
            Pairs of rows of `vectors`. Rows in neither are never looked at.
        """
        raise NotImplementedError

    def transform(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return projected vectors: (n_images, n_components) float32."""
        raise NotImplementedError

    def to_members(self) -> dict[str, bytes]:
        """Return what was learned, as named bytes."""
        raise NotImplementedError

    def from_members(self, members: Mapping[str, bytes]) -> Projection:
        """Take back what :meth:`to_members` gave; return self."""
        raise NotImplementedError


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
