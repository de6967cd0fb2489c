"""Fine-tuned networks in the grid: their vectors, through the store as any other's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.cluster import Cluster
from tllboost.grid.data import GridData
from tllboost.store import default_store
from tllboost.vectorizing import vectorize

__all__ = ["tuned_vectors"]


def tuned_vectors(
    vectorizer: Any,
    files: Sequence[Path],
    data: GridData,
    *,
    store: Any = None,
    progress: Callable[[int, int, str], None] | None = None,
    cluster: Cluster | None = None,
) -> tuple[list[Any], list[NDArray[np.float32]]]:
    """Return the fine-tuned vectorizer of each fold, and the vectors of all images.

    Parameters
    ----------
    vectorizer : Vectorizer
        The network before.
    files : sequence of Path
        Its weights after, a file a fold.
    data : GridData
    store : VectorStore, path-like or None
        None takes :func:`~tllboost.store.default_store`.
    progress : callable or None
    cluster : Cluster or None, default=None
        Whose workers compute, in place of this process.
    """
    from sklearn.base import clone

    networks = [clone(vectorizer).set_params(file=str(file)) for file in files]
    arrays = [
        vectorize(
            network,
            data.table.paths,
            ids=data.table.ids,
            store=default_store() if store is None else store,
            cluster=cluster,
            progress=progress,
        ).vectors
        for network in networks
    ]
    return networks, arrays
