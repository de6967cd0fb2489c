"""Which images belong together: the unit that goes to a side."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tllboost.splits.pair_set import Integers

__all__ = ["match_components"]


def match_components(
    n_images: int,
    left: Integers,
    right: Integers,
    identical: Iterable[tuple[int, int]] = (),
) -> Integers:
    """Return the component of each image: images tied by a match or byte-identical.

    Parameters
    ----------
    n_images : int
        How many images there are.
    left, right : ndarray of shape (n_matches,), int64
        The matches.
    identical : iterable of (int, int), default=()
        Pairs of images with the same bytes.

    Returns
    -------
    ndarray of shape (n_images,), int64

    Examples
    --------
    >>> match_components(5, np.array([0, 1]), np.array([1, 2])).tolist()
    [0, 0, 0, 1, 2]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ties = np.array(list(identical), dtype=np.int64).reshape(-1, 2)
    rows, columns = np.append(left, ties[:, 0]), np.append(right, ties[:, 1])
    ones = np.ones(len(rows), dtype=np.int8)
    graph = coo_array((ones, (rows, columns)), shape=(n_images, n_images))
    return connected_components(graph, directed=False)[1].astype(np.int64)
