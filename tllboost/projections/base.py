"""What every projection is: fitted on the training pairs, then a map of vectors.

Beside the base class: how options are read, and how badly the validation matches find
each other, which says when a projection has learned enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError
from tllboost.merges import Width, unit_rows
from tllboost.registry import Configured, parse_spec
from tllboost.splits import PairSet


class Projection(Configured):
    """Base of the projections.

    A subclass stores its arguments, fits in ``fit``, maps in ``transform`` and keeps
    what it learned as named arrays. One of your own may call itself
    ``package.module:Class``, the name that it is given by, or leave ``name`` out.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec!r})"

    def check_options(self) -> None:
        """Refuse options that could not be given by name, its parts' too.

        Raises
        ------
        UsageError
            If one is out of its range.

        Examples
        --------
        >>> from tllboost.projections.losses import InfoNCEProjection
        >>> InfoNCEProjection(dropout=1.0).check_options()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
          ...
        tllboost.errors.UsageError: option dropout='1' in 'infonce?dropout=1': write ...
        """
        parse_spec(super().spec).typed_options(self.OPTIONS)
        for part in getattr(self, "parts", ()):
            part.check_options()

    def fit(
        self, vectors: NDArray[np.float32], train: PairSet, validation: PairSet
    ) -> Self:
        """Learn the map from training pairs; validation pairs say when to stop.

        Parameters
        ----------
        vectors : ndarray of shape (n_images, n_dims), float32
        train, validation : PairSet
            Pairs of rows of `vectors`. Rows in neither are never looked at. When a
            bundle is fitted again on all pairs, those of validation are in both: what
            chooses by them is decorated with :func:`~tllboost.conventions.repeatable`.
        """
        raise NotImplementedError

    def transform(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return projected vectors: (n_images, n_components) float32."""
        raise NotImplementedError

    def layout(
        self, blocks: Sequence[Width | int]
    ) -> tuple[Sequence[Width | int] | None, Sequence[int]]:
        """Return the widths of the parts of a projected vector, and the maps in each.

        None for the widths where it is one part, mostly of one map. `blocks` are the
        widths of what a vector consisted of before.
        """
        return None, [1]

    def inside(self, train: PairSet) -> tuple[PairSet, NDArray[np.int64] | None]:
        """Return the pairs to train a head on, and the fold whose map tells each.

        None where one map tells all.
        """
        return train, None

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """Return what was learned, each array by its name."""
        msg = f"projection {self.spec!r} has no to_tensors: it can't be kept"
        raise NotImplementedError(msg)

    def from_tensors(self, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Take back what :meth:`to_tensors` gave, be it a stranger's; return self.

        Raises
        ------
        ValueError
            If they are not those of such a projection.
        """
        raise NotImplementedError


def refuse_collapse(
    projection: Projection, vectors: NDArray[np.float32], least: float
) -> None:
    """Raise DataError where a fitted map gives images less variance than `least`."""
    some = vectors[:: max(1, len(vectors) // 500)]
    projected = unit_rows(projection.transform(some))
    if not float(projected.var(axis=0).sum()) > least:  # NaN is a collapse too
        msg = (
            f"projection {projection.spec!r} collapsed: all images are mapped to one "
            "point; give a lower rate, a larger margin, or more pairs"
        )
        raise DataError(msg)


_MOST_MATCHES = 1_000
_SCALES = np.geomspace(0.5, 100, 24)


def matches_in(pairs: PairSet, most: int | None = None) -> PairSet:
    """Return the matches of a set, or an even sample of `most` of them."""
    rows = np.flatnonzero(pairs.label == 1)
    if most is not None and len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(int)]
    return pairs.take(rows)


def matches_of(pairs: PairSet, name: str) -> PairSet:
    """Return the matches to learn from, of two components at least.

    Of a validation set, a thousand of them.

    Raises
    ------
    DataError
        If there are none to learn from, or to be told apart.
    """
    matches = matches_in(pairs, _MOST_MATCHES if name == "validation" else None)
    n_components = len(np.unique(matches.component))
    if n_components < 2:
        msg = (
            f"the {name} set has matches of {n_components} component: at least two are "
            "needed to learn to tell matches apart"
        )
        raise DataError(msg)
    return matches


def find_loss(similarity: NDArray[np.floating], component: NDArray[np.int64]) -> float:
    """Return how badly each left image finds its right one among all others'.

    The mean negative log-likelihood of a softmax over the rights of other components
    and the own one, at the scale that suits the similarities best: cosines and
    distances can be compared.

    Parameters
    ----------
    similarity : ndarray of shape (n_matches, n_matches)
        Of left i with right j.
    component : ndarray of shape (n_matches,), int64

    Examples
    --------
    >>> good, bad = np.eye(4), np.ones((4, 4))
    >>> find_loss(good, np.arange(4)) < find_loss(bad, np.arange(4))
    True
    """
    own = np.eye(len(similarity), dtype=bool)
    ties = (component[:, None] == component[None, :]) & ~own
    centred = similarity - similarity.mean()
    scaled = centred / max(float(centred.std()), 1e-12)
    best = np.inf
    for scale in _SCALES:
        logits = np.where(ties, -np.inf, scale * scaled)
        top = logits.max(axis=1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        best = min(best, float((total - np.diag(logits)).mean()))
    return best
