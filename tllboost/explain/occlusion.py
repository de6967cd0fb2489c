"""How the score changes when a part of one of the pictures is covered."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import islice
from os import PathLike

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tllboost.classifier import PairClassifier
from tllboost.errors import ImageError
from tllboost.explain.covers import covered
from tllboost.explain.leaves import Blocks, Leaves, log_odds
from tllboost.images import open_image
from tllboost.vectorizers import Vectorizer
from tllboost.vectorizers.threads import usable_cores
from tllboost.vectorizing import Progress

__all__ = ["occlusion_maps"]

_BATCH = 32
_MOST_PIXELS = 50_000_000  # of all pictures that are held at once

Map = NDArray[np.float64]
ImagePath = str | PathLike[str]


def occlusion_maps(
    classifier: PairClassifier,
    leaves: Leaves,
    pair: tuple[ImagePath, ImagePath],
    blocks: Blocks,
    *,
    grid: int,
    progress: Progress | None = None,
) -> tuple[Map, Map]:
    """Return the change of the log-odds when each patch is covered (Zeiler & Fergus).

    Every covered picture is vectorized and its pair scored by the classifier as any
    new pair is; nothing is approximated and nothing is stored. ("Visualizing and
    understanding convolutional networks", 2014, covered patches by grey.)

    Parameters
    ----------
    classifier : PairClassifier
        Fitted.
    leaves : mapping of str to Vectorizer
        What it looks through.
    pair : tuple of two path-like
        The left and the right picture.
    blocks : mapping of str to ndarray of shape (2, n_dims of the leaf), float32
        Their vectors.
    grid : int
        Patches a side.
    progress : callable or None

    Returns
    -------
    left, right : ndarray of shape (grid, grid), float64
        Below 0 where covering makes a match less likely.
    """
    n_patches = grid * grid
    together = {
        space: np.concatenate(
            [blocks[space], *_covered_blocks(leaf, pair, grid, progress)]
        )
        for space, leaf in leaves.items()
    }
    rows = np.arange(2, 2 + n_patches)
    # The pair as it is, then the left picture covered, then the right one.
    left = np.concatenate([[0], rows, np.zeros(n_patches, dtype=np.int64)])
    right = np.concatenate([[1], np.ones(n_patches, dtype=np.int64), rows + n_patches])
    odds = log_odds(classifier, together, left, right)
    change = (odds[1:] - odds[0]).reshape(2, grid, grid)
    return change[0], change[1]


def _covered_blocks(
    leaf: Vectorizer,
    pair: tuple[ImagePath, ImagePath],
    grid: int,
    progress: Progress | None,
) -> list[NDArray[np.float32]]:
    """Return the vectors of all covered versions of both pictures."""
    blocks: list[NDArray[np.float32]] = []
    n_done = 0
    with ThreadPoolExecutor(usable_cores()) as threads:
        for path in pair:
            # As vectorizing decodes it, so that only the cover makes a difference.
            image = open_image(path, shrink_to=leaf.input_size)
            size = max(1, min(_BATCH, _MOST_PIXELS // (image.width * image.height)))
            versions = covered(image, grid)
            for block in _vector_blocks(leaf, versions, threads, size):
                if not np.isfinite(block).all():
                    raise ImageError(
                        path, f"covered, its vector by {leaf.label} is not finite"
                    )
                blocks.append(block)
                n_done += len(block)
                if progress is not None:
                    progress(n_done, 2 * grid * grid, f"covering, {leaf.label}")
    return blocks


def _vector_blocks(
    leaf: Vectorizer, versions: Iterator[Image.Image], threads: Executor, size: int
) -> Iterator[NDArray[np.float32]]:
    """Vectorize pictures, `size` of them at a time."""
    while some := list(islice(versions, size)):
        prepared = list(threads.map(leaf.prepare, some))
        yield np.asarray(leaf.forward(np.stack(prepared)), dtype=np.float32)
