"""What vectorizers with a network share, whatever library runs it.

Images become pixels by `Preprocessing`, seen as `Looks` says; what the network gives
becomes vectors. Local vectors are means around the positions of a grid on its maps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

import numpy as np
from PIL import Image

from tllboost.errors import WHY, UsageError, WeightsError, retold
from tllboost.merges import unit_rows
from tllboost.registry import one_of, option, truth
from tllboost.vectorizers.base import Vectorizer, fuse, loaded
from tllboost.vectorizers.preprocess import FITS, WHOLE, Looks, Preprocessing

fits = one_of(*FITS)


def grid_means(maps: np.ndarray, cells: int, *, what: str) -> np.ndarray:
    """Return the means of feature maps around each position of a grid.

    A position stands for a square of the map. Where the side of a map is no multiple
    of `cells`, neighbouring squares share the line between them.

    Parameters
    ----------
    maps : ndarray of shape (n_images, n_channels, height, width)
    cells : int
        Grid positions a side.
    what : str
        Whose maps they are, for the message.

    Returns
    -------
    ndarray of shape (n_images, cells * cells * n_channels), float32
        Position by position in reading order, the channels of one side by side.

    Raises
    ------
    UsageError
        If the maps are smaller than the grid.

    Examples
    --------
    >>> maps = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> grid_means(maps, 2, what="net")
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


@cache
def _windows(side: int, cells: int) -> np.ndarray:
    """Return one row a square: the shares of `side` places in its mean."""
    windows = np.zeros((cells, side), dtype=np.float32)
    for index in range(cells):
        first, last = index * side // cells, -(-(index + 1) * side // cells)
        windows[index, first:last] = 1 / (last - first)
    return windows


@dataclass(kw_only=True, eq=False, repr=False)
class NetworkVectorizer(Vectorizer):
    """Pixels by one `Preprocessing`, vectors by a network, scaled if asked for.

    `Looks` says which images stand for one; each goes through the network.

    Parameters
    ----------
    trim, flip, views : bool, bool, sequence of str
        See `Looks`; by default the image as it is.
    """

    ORDER: ClassVar[Sequence[str]] = (
        *("size", "mean", "std", "fit", "output", "normalize", "cells"),
    )
    N_DIMS: ClassVar[int] = 0  # of one view, where it is known beforehand

    # Of some kinds arguments too. Grid positions a side make local vectors.
    cells: int | None = field(default=None, init=False)
    normalize: bool = field(default=False, init=False)
    trim: bool = option(False, truth)
    flip: bool = option(False, truth)
    views: tuple[str, ...] = option(
        WHOLE, lambda text: Looks(views=tuple(text.split(","))).views
    )

    @property
    @abstractmethod
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input."""

    @abstractmethod
    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return what the network makes of prepared images, as it is."""

    def pooled(self, output: np.ndarray) -> np.ndarray:
        """Return maps by grid positions if asked for, else the output as it is."""
        if self.cells is None:
            return output
        return grid_means(output, self.cells, what=self.name)

    @loaded
    def looks(self) -> Looks:
        """Which images stand for one image."""
        return Looks(self.trim, self.flip, tuple(self.views))

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Return one of those images as the network's input."""
        return self.preprocessing(image)

    @loaded
    def n_dims(self) -> int:  # type: ignore[override]
        """Width of a vector: as known, else from one forward pass of an empty image."""
        if self.N_DIMS:
            return self.N_DIMS * len(self.looks.views)
        blank = Image.new("RGB", self.preprocessing.size[::-1])
        with retold(f"{self.name}: the network can't be run ({WHY})", WeightsError):
            return self.forward(self.prepare(blank)[None]).shape[1]

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
        views = [[self.pixels(one) for one in view] for view in self.looks(image)]
        return views[0][0] if self.looks.is_plain else np.array(views)

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
        if self.looks.is_plain:
            return self._scaled(self.run(batch))
        views = []
        for view in batch.swapaxes(0, 1):
            # One run for each, so that a batch takes as much memory as a plain one.
            whole, *mirrored = (
                self.run(np.ascontiguousarray(one)) for one in view.swapaxes(0, 1)
            )
            mean = (whole + mirrored[0]) / np.float32(2) if mirrored else whole
            views.append(self._scaled(mean))
        vectors = fuse(views) if len(views) > 1 else views[0]
        return unit_rows(vectors) if self.normalize else vectors

    def _scaled(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors at length 1 if asked for, or those of each grid position."""
        if self.cells is not None:
            blocks = vectors.reshape(len(vectors) * self.cells**2, -1)
            vectors = unit_rows(blocks).reshape(vectors.shape)
        return unit_rows(vectors) if self.normalize else vectors
