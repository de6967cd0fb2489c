"""Where trees are grown: in this process, unless a block says otherwise."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from tllboost.heads.column_groups import ColumnGroups, GroupedTrees
from tllboost.heads.quantising import quantile_matrix

__all__ = ["Grower", "grower", "grown_by"]

# Values below which histograms of all columns cost less than a booster for each tree.
_WIDE = 2_000_000


class Grower(Protocol):
    """What quantises features and grows trees on them.

    Attributes
    ----------
    is_bounded : bool
        Whether one process holds all bins: it then gets no more pairs than fit.
    """

    is_bounded: bool

    def matrix(self, X: Any, max_bin: int, n_groups: int, seed: int) -> Any:
        """Return the quantised features, which take labels as XGBoost's do.

        A tree may see one of `n_groups` groups of columns at a time, cut by `seed`,
        or columns that XGBoost draws: as many.
        """

    def booster(self, parameters: Mapping[str, Any], matrix: Any, n_trees: int) -> Any:
        """Return what ``update`` adds a tree to, `n_trees` at most.

        A slice of it is an XGBoost booster of those trees.
        """


class _Here:
    """Grow them in this process.

    The matrix of the last PairFeatures is kept as long as these are: the boosted heads
    of one merge share it.
    """

    is_bounded = True

    def __init__(self) -> None:
        self._last: tuple[Any, tuple[int, ...], Any] | None = None

    def matrix(self, X: Any, max_bin: int, n_groups: int, seed: int) -> Any:
        form = (max_bin, n_groups, seed)
        if self._last and self._last[0]() is X and self._last[1] == form:
            return self._last[2]
        matrix: Any
        if n_groups > 1 and X.shape[0] * X.shape[1] >= _WIDE:
            matrix = ColumnGroups(X, max_bin, n_groups=n_groups, seed=seed)
        else:
            matrix = quantile_matrix(X, max_bin)
        # An array may hold other numbers by the next time.
        if hasattr(X, "blocks"):
            self._last = weakref.ref(X, self._forget), form, matrix
        return matrix

    def _forget(self, gone: Any) -> None:
        if self._last and self._last[0] is gone:
            self._last = None

    def booster(self, parameters: Mapping[str, Any], matrix: Any, n_trees: int) -> Any:
        import xgboost

        if isinstance(matrix, ColumnGroups):
            return GroupedTrees(parameters, matrix)
        return xgboost.Booster(dict(parameters), [matrix])


_GROWER: ContextVar[Grower] = ContextVar("grower", default=_Here())  # noqa: B039


def grower() -> Grower:
    """Return what grows trees just now."""
    return _GROWER.get()


@contextmanager
def grown_by(one: Grower) -> Iterator[None]:
    """Let ``xgboost`` heads that are fitted in the block be grown by another.

    Parameters
    ----------
    one : Grower
        As :class:`tllboost.cluster.boosting.ClusterGrower`.
    """
    token = _GROWER.set(one)
    try:
        yield
    finally:
        _GROWER.reset(token)
