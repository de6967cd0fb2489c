"""Trees grown by all workers of a cluster together, through xgboost.dask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tllboost.heads.boosting import Grower

if TYPE_CHECKING:
    from tllboost.cluster.cluster import Cluster

__all__ = ["ClusterGrower"]

# What a task of Dask holds at once; the workers together hold all of it.
_BLOCK_BYTES = 2**28


class ClusterGrower(Grower):
    """Grow the trees of one head on a cluster: see :func:`tllboost.heads.grown_by`.

    Each worker merges its share of the pairs and keeps the features, float32, and what
    they are quantised to: five bytes a value over all workers. A tree is grown by all
    of them and is the same on each. Not to the last digit what one process would have
    grown, as shares are summed in another order and drawn by another generator.

    Parameters
    ----------
    cluster : Cluster
    """

    is_bounded = False

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def matrix(self, X: Any, max_bin: int, columns: Any = None) -> Any:
        """Return what stands for the quantised features, and takes labels."""
        return _Spread(X, max_bin, columns, self.cluster)

    def booster(self, parameters: Mapping[str, Any], matrix: Any, n_trees: int) -> Any:
        """Return a booster that has all of its trees; to update it does nothing.

        Parameters
        ----------
        parameters : mapping
            Of XGBoost.
        matrix : object
            From :meth:`matrix`, its labels set.
        n_trees : int
        """
        import xgboost
        from xgboost import dask

        class Grown(xgboost.Booster):
            def update(self, *args: Any, **kwargs: Any) -> None:
                """Do nothing: every tree is there."""

        # Each worker uses the threads that it was started with.
        own = {name: one for name, one in parameters.items() if name != "nthread"}
        quiet = xgboost.config_context(verbosity=0)
        with self.cluster.client.as_current(), quiet:
            grown = dask.train(
                self.cluster.client,
                own,
                matrix.quantised(),
                num_boost_round=n_trees,
                verbose_eval=False,
            )
        return Grown(model_file=bytearray(grown["booster"].save_raw("ubj")))


class _Spread:
    """Features that lie with the workers, and what XGBoost is told of the pairs."""

    def __init__(self, X: Any, max_bin: int, columns: Any, cluster: Cluster) -> None:
        import dask.array

        self.max_bin, self.client = max_bin, cluster.client
        width = X.shape[1]
        self.rows = [*_shares(len(X), width, cluster.size)]
        n_columns = width if columns is None else len(columns)
        vectors = cluster.keep(X.vectors)
        blocks = [
            self.client.submit(
                _features,
                vectors,
                X.left[rows],
                X.right[rows],
                X.merge,
                columns,
                pure=False,
            )
            for rows in self.rows
        ]
        self.features = dask.array.concatenate(
            [
                dask.array.from_delayed(
                    block, (rows.stop - rows.start, n_columns), dtype=np.float32
                )
                for block, rows in zip(blocks, self.rows, strict=True)
            ]
        )
        self.told: dict[str, Any] = {}

    def set_info(self, **told: Any) -> None:
        """Take labels, weights or what trees start from: (n_pairs,)."""
        self.told |= told

    def quantised(self) -> Any:
        """Return the matrix of xgboost.dask."""
        import dask.array
        from xgboost.dask import DaskQuantileDMatrix

        chunks = (tuple(rows.stop - rows.start for rows in self.rows),)
        told = {
            name: dask.array.from_array(np.asarray(column), chunks=chunks)
            for name, column in self.told.items()
        }
        return DaskQuantileDMatrix(
            self.client, self.features, max_bin=self.max_bin, **told
        )


def _shares(n_rows: int, n_columns: int, n_workers: int) -> Iterator[slice]:
    """Cut the pairs into as many blocks a worker as it takes to keep each small.

    Examples
    --------
    >>> [rows.stop for rows in _shares(100, 10, 3)]
    [33, 66, 100]
    """
    most = max(1, _BLOCK_BYTES // (4 * n_columns))
    n_blocks = n_workers * max(1, -(-n_rows // (most * n_workers)))
    edges = np.linspace(0, n_rows, min(n_blocks, n_rows) + 1).astype(int).tolist()
    return (slice(a, b) for a, b in pairwise(edges))


def _features(vectors: Any, left: Any, right: Any, merge: Any, columns: Any) -> Any:
    from tllboost.merges import PairFeatures

    rows = np.asarray(PairFeatures(vectors, left, right, merge))
    return rows if columns is None else np.ascontiguousarray(rows[:, columns])
