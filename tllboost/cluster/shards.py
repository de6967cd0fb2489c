"""Images to vectors on a cluster, by shards; who asked for them stores them."""

from __future__ import annotations

import os
import platform
import secrets
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tllboost.errors import UsageError
from tllboost.processes import Job, ProcessDied
from tllboost.vectorizers.base import usable_cores

if TYPE_CHECKING:
    from tllboost.cluster.cluster import Cluster
    from tllboost.vectorizers.base import Vectorizer

__all__ = ["shard_batches"]

Path = str | os.PathLike[str]

# Of batches: the most that the loss of a worker, or of this process, costs.
_LARGEST = 8
# A worker is so many times given a shard, at least, so that none waits for another.
_SHARES = 4
# The vectorizer of the last shard here, its network loaded.
_LAST: dict[str, Any] = {}


def shard_batches(
    cluster: Cluster,
    make: Callable[..., Any],
    vectorizer: Vectorizer,
    images: Sequence[tuple[str, Path]],
    batch_size: int,
) -> Generator[dict[str, np.ndarray | str], None, None]:
    """Yield the vector of each image, or why it has none, a shard at a time.

    Images and weights must lie under the same paths for all workers. An image that
    takes down each worker that looks at it fails alone.

    Parameters
    ----------
    cluster : Cluster
    make : callable
        :func:`~tllboost.vectorizing.vector_batches`, which the workers call.
    vectorizer : Vectorizer
    images : sequence of (str, path-like), length n_images
        Content hash of each image, all different, and its file.
    batch_size : int
        Images a forward pass.

    Yields
    ------
    dict of str to (ndarray of shape (n_dims,), float32, or str)
        Vector or reason, by content hash.

    Raises
    ------
    UsageError
        If a worker would make other vectors.
    """
    token = secrets.token_hex(8)
    print_ = vectorizer.fingerprint if images else ""

    def job(shard: Sequence[tuple[str, Path]]) -> Job:
        files = [(key, os.path.abspath(path)) for key, path in shard]
        return Job(_vectorize, (token, vectorizer, print_, files, make, batch_size))

    size = batch_size * _n_batches(len(images), cluster.size, batch_size)
    jobs = deque(
        job(images[first : first + size]) for first in range(0, len(images), size)
    )
    for done, outcome in cluster.each(jobs):
        if not isinstance(outcome, ProcessDied):
            yield outcome
            continue
        shard = done.arguments[3]
        if len(shard) == 1:
            yield {shard[0][0]: f"can't be vectorized ({outcome})"}
            continue
        middle = len(shard) // 2
        jobs.extend([job(shard[:middle]), job(shard[middle:])])


def _n_batches(n_images: int, n_workers: int, batch_size: int) -> int:
    """Return how many batches a shard has.

    Examples
    --------
    >>> _n_batches(100, 2, 32), _n_batches(1000, 2, 32), _n_batches(10**6, 2, 32)
    (1, 3, 8)
    """
    share = n_images // (batch_size * _SHARES * max(1, n_workers))
    return min(_LARGEST, max(1, share))


def _vectorize(
    token: str,
    vectorizer: Any,
    fingerprint: str,
    images: list[tuple[str, str]],
    make: Callable[..., Any],
    batch_size: int,
) -> dict[str, np.ndarray | str]:
    """Vectorize a shard here, on a worker."""
    from distributed import get_worker

    if token not in _LAST:
        _LAST.clear()
        _refuse_other(vectorizer, fingerprint)
        if hasattr(vectorizer, "keep_networks_in"):
            # What a network is exported to lies in the worker's own folder.
            folder = get_worker().local_directory
            vectorizer.keep_networks_in(os.path.join(folder, "networks"))
        _LAST[token] = vectorizer
    vectors: dict[str, np.ndarray | str] = {}
    n_workers = min(8, usable_cores())
    for batch in make(_LAST[token], images, batch_size=batch_size, n_workers=n_workers):
        vectors |= batch
    return vectors


def _refuse_other(vectorizer: Any, fingerprint: str) -> None:
    """Refuse to make vectors that would be stored as those of another network."""
    if vectorizer.fingerprint != fingerprint:
        msg = (
            f"{vectorizer.label} has the fingerprint {vectorizer.fingerprint!r} on the "
            f"Dask worker of {platform.node()}, and here {fingerprint!r}: give all "
            "machines the same weights and the same versions"
        )
        raise UsageError(msg)
