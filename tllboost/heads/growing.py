"""Where trees are grown: in this process, unless a block says otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

__all__ = ["Grower", "grower", "grown_by"]


class Grower(Protocol):
    """What quantises features and grows trees on them."""

    def matrix(self, X: Any, max_bin: int) -> Any:
        """Return the quantised features, which take labels as XGBoost's do."""

    def booster(self, parameters: Mapping[str, Any], matrix: Any, n_trees: int) -> Any:
        """Return what ``update`` adds a tree to, `n_trees` at most."""


class _Here:
    def matrix(self, X: Any, max_bin: int) -> Any:
        from tllboost.heads.boosting import quantile_matrix

        return quantile_matrix(X, max_bin)

    def booster(self, parameters: Mapping[str, Any], matrix: Any, n_trees: int) -> Any:
        import xgboost

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
