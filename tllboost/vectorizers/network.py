"""Feature maps to vectors: the mean of a map, or of each square of a grid on it.

What vectorizers with a network share, whatever library runs it.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cache

import numpy as np
from PIL import Image

from tllboost.errors import TllboostError, UsageError, WeightsError
from tllboost.merges import unit_rows
from tllboost.vectorizers.base import Vectorizer, loaded
from tllboost.vectorizers.fusion import fuse
from tllboost.vectorizers.looks import WHOLE, Looks
from tllboost.vectorizers.preprocess import Preprocessing
from tllboost.vectorizers.weights import first_line

__all__ = ["NetworkVectorizer", "cell_means", "pooled"]


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


class NetworkVectorizer(Vectorizer):
    """Pixels by one `Preprocessing`, vectors by a network, scaled if asked for.

    `Looks` says which images stand for one; each goes through the network.
    """

    trim: bool = False
    flip: bool = False
    views: tuple[str, ...] = WHOLE
    cells: int | None = None  # the squares a side of a grid, for local vectors
    normalize: bool = False

    @property
    @abstractmethod
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input."""

    @abstractmethod
    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return what the network makes of prepared images, as it is."""

    @loaded
    def looks(self) -> Looks:
        """Which images stand for one image."""
        return Looks(self.trim, self.flip, tuple(self.views))

    @loaded
    def n_dims(self) -> int:  # type: ignore[override]
        """Width of a vector, from one forward pass of an empty image."""
        blank = Image.new("RGB", self.preprocessing.size[::-1])
        try:
            return self.forward(self.prepare(blank)[None]).shape[1]
        except TllboostError:
            raise
        except Exception as error:
            msg = f"{self.name}: the network can't be run ({first_line(error)})"
            raise WeightsError(msg) from error

    @property
    def input_size(self) -> int:
        """Short side that decoding may shrink to."""
        return self.looks.shrink_to(self.preprocessing.shrink_to)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return an image as the network's input.

        Parameters
        ----------
        image : PIL.Image.Image
            RGB.

        Returns
        -------
        ndarray of shape (3, height, width) or (n_views, n_mirrored, 3, height, width)
            float32; the latter with several views or ``flip``.
        """
        looks = self.looks(image)
        if self.looks.is_plain:
            return self.preprocessing(looks[0][0])
        return np.stack([np.stack(list(map(self.preprocessing, v))) for v in looks])

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Return vectors of prepared images.

        Parameters
        ----------
        batch : ndarray of shape (n_images, *shape of a prepared image), float32

        Returns
        -------
        ndarray of shape (n_images, n_dims), float32
            At length 1 if ``normalize``.
        """
        if batch.ndim == 4:
            return self._scaled(self.run(batch))
        views = [self._scaled(self._mean(batch[:, i])) for i in range(batch.shape[1])]
        vectors = fuse(views) if len(views) > 1 else views[0]
        return unit_rows(vectors) if self.normalize else vectors

    def _mean(self, batch: np.ndarray) -> np.ndarray:
        """Return the mean vectors of images and their mirror images, if any.

        One run for each, so that a batch takes as much memory as a plain one.
        """
        runs = [
            self.run(np.ascontiguousarray(batch[:, index]))
            for index in range(batch.shape[1])
        ]
        return runs[0] if len(runs) == 1 else (runs[0] + runs[1]) / np.float32(2)

    def _scaled(self, vectors: np.ndarray) -> np.ndarray:
        if self.cells is not None:
            vectors = unit_blocks(vectors, self.cells**2)
        return unit_rows(vectors) if self.normalize else vectors
