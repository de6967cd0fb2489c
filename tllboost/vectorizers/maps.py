"""Feature maps to vectors: the mean of a map, or of each square of a grid on it."""

from __future__ import annotations

from functools import cache

import numpy as np

from tllboost.errors import UsageError
from tllboost.vectorizers.base import unit_rows

__all__ = ["cell_means", "pooled", "unit_blocks"]


def pooled(
    output: np.ndarray, cells: int | None, *, channels_last: bool, what: str
) -> np.ndarray:
    """Return a network's output without positions: maps by squares, else by means.

    Parameters
    ----------
    output : ndarray of shape (n_images, ...)
        Maps, token sequences (n_images, n_tokens, n_dims), or vectors; with `cells`
        maps alone.
    cells : int or None
        Squares a side; None averages over all positions.
    channels_last : bool
        Whether the channels of maps are in their last axis.
    what : str
        Whose output it is, for messages.

    Raises
    ------
    UsageError
        If the maps are too small for that many squares.
    """
    if cells is not None:
        maps = output.transpose(0, 3, 1, 2) if channels_last else output
        return cell_means(maps, cells, what=what)
    if output.ndim == 4:
        return output.mean(axis=(1, 2) if channels_last else (2, 3))
    return output.mean(axis=1) if output.ndim == 3 else output


def cell_means(maps: np.ndarray, cells: int, *, what: str) -> np.ndarray:
    """Return the mean of each of cells x cells squares of feature maps.

    Where the side of a map is no multiple of `cells`, neighbouring squares share the
    line between them.

    Parameters
    ----------
    maps : ndarray of shape (n_images, n_channels, height, width)
    cells : int
        Squares a side.
    what : str
        Whose maps they are, for the message.

    Returns
    -------
    ndarray of shape (n_images, cells * cells * n_channels), float32
        Square by square in reading order, the channels of one side by side.

    Raises
    ------
    UsageError
        If the maps have fewer positions than that.

    Examples
    --------
    >>> maps = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> cell_means(maps, 2, what="net")
    array([[ 2.5,  4.5, 10.5, 12.5]], dtype=float32)
    """
    height, width = maps.shape[2:]
    if cells > min(height, width):
        msg = (
            f"{what}: cells={cells}, but its map has only {height}x{width} positions; "
            f"choose cells from 1 to {min(height, width)}"
        )
        raise UsageError(msg)
    rows, columns = _windows(height, cells), _windows(width, cells)
    means = rows @ maps.astype(np.float32, copy=False) @ columns.T
    return means.transpose(0, 2, 3, 1).reshape(len(maps), -1)


def unit_blocks(vectors: np.ndarray, n_blocks: int) -> np.ndarray:
    """Return `vectors` with each of their equally wide blocks scaled to length 1.

    Examples
    --------
    >>> unit_blocks(np.float32([[3, 4, 0, 2]]), 2)
    array([[0.6, 0.8, 0. , 1. ]], dtype=float32)
    """
    blocks = vectors.reshape(len(vectors) * n_blocks, -1)
    return unit_rows(blocks).reshape(vectors.shape)


@cache
def _windows(side: int, cells: int) -> np.ndarray:
    """Return one row a square: the shares of `side` positions in its mean."""
    windows = np.zeros((cells, side), dtype=np.float32)
    for index in range(cells):
        first, last = index * side // cells, -(-(index + 1) * side // cells)
        windows[index, first:last] = 1 / (last - first)
    return windows
