"""How the score changes when a patch of one of the images is covered."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import PathLike

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tllboost.errors import ImageError
from tllboost.explain.leaves import Blocks, Leaves, scores
from tllboost.images import open_image
from tllboost.scoring import Scorer
from tllboost.vectorizers import Vectorizer
from tllboost.vectorizers.base import usable_cores
from tllboost.vectorizing import Progress

__all__ = ["covered", "occlusion_maps", "patches"]

Box = tuple[int, int, int, int]


def patches(width: int, height: int, grid: int) -> list[Box]:
    """Return the boxes (left, upper, right, lower) of grid x grid patches, row by row.

    Where an image is not divided evenly, neighbours differ by one pixel.

    Examples
    --------
    >>> patches(5, 4, 2)
    [(0, 0, 2, 2), (2, 0, 5, 2), (0, 2, 2, 4), (2, 2, 5, 4)]
    """
    xs = [index * width // grid for index in range(grid + 1)]
    ys = [index * height // grid for index in range(grid + 1)]
    return [
        (xs[column], ys[row], xs[column + 1], ys[row + 1])
        for row in range(grid)
        for column in range(grid)
    ]


def covered(image: Image.Image, grid: int) -> Iterator[Image.Image]:
    """Yield the image once for each patch, that patch blurred beyond recognition.

    A patch shows the image blurred by a Gaussian whose standard deviation is twice
    the longer side of a patch. That takes the detail away and puts neither an edge nor
    a strange colour there, so that covering an empty sky changes nothing. The choice
    matters little: with an object pasted into two images, 20 times, 0.43 of the
    whole change lay on the object for MobileNetV2 and 0.22 for descriptors of cells, as
    `classic` was before it had patches (0.42 and 0.22 under the image's mean colour,
    0.37 and 0.17 under grey; the object was 0.14 of the area), and over 36 real matches
    covering lowered the cosine as often as under the mean colour.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB.
    grid : int
        Patches a side.

    Examples
    --------
    >>> image = Image.new("RGB", (4, 4), "white")
    >>> image.paste("black", (0, 0, 2, 2))
    >>> [version.getpixel((3, 3)) for version in covered(image, 2)][:3]
    [(255, 255, 255), (255, 255, 255), (255, 255, 255)]
    >>> [version == image for version in covered(image, 2)][0]
    False
    """
    width, height = image.size
    blurred = image.filter(ImageFilter.GaussianBlur(2 * max(width, height) / grid))
    for box in patches(width, height, grid):
        version = image.copy()
        version.paste(blurred.crop(box), box[:2])
        yield version


_BATCH = 32
_MOST_PIXELS = 50_000_000  # of all images that are held at once

Map = NDArray[np.float64]
ImagePath = str | PathLike[str]


def occlusion_maps(
    classifier: Scorer,
    leaves: Leaves,
    pair: tuple[ImagePath, ImagePath],
    blocks: Blocks,
    *,
    grid: int,
    progress: Progress | None = None,
) -> tuple[Map, Map]:
    """Return the change of the log-odds when each patch is covered (Zeiler & Fergus).

    Every covered image is vectorized and its pair scored by the classifier as any
    new pair is; nothing is approximated and nothing is stored. ("Visualizing and
    understanding convolutional networks", 2014, covered patches by grey.)

    Parameters
    ----------
    classifier : PairClassifier or Scorer
        Fitted.
    leaves : mapping of str to Vectorizer
        What it looks through.
    pair : tuple of two path-like
        The left and the right image.
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
    # The pair as it is, then the left image covered, then the right one.
    left = np.concatenate([[0], rows, np.zeros(n_patches, dtype=np.int64)])
    right = np.concatenate([[1], np.ones(n_patches, dtype=np.int64), rows + n_patches])
    score = scores(classifier, together, left, right)
    odds = classifier.calibration_.log_odds(score)
    change = (odds[1:] - odds[0]).reshape(2, grid, grid)
    return change[0], change[1]


def _covered_blocks(
    leaf: Vectorizer,
    pair: tuple[ImagePath, ImagePath],
    grid: int,
    progress: Progress | None,
) -> list[NDArray[np.float32]]:
    """Return the vectors of all covered versions of both images."""
    blocks: list[NDArray[np.float32]] = []
    n_done = 0
    with ThreadPoolExecutor(usable_cores()) as threads:
        for path in pair:
            # As vectorizing decodes it, so that only the cover makes a difference.
            image = open_image(path, shrink_to=leaf.input_size)
            size = max(1, min(_BATCH, _MOST_PIXELS // (image.width * image.height)))
            versions = covered(image, grid)
            while some := list(islice(versions, size)):
                prepared = np.stack(list(threads.map(leaf.prepare, some)))
                block = np.asarray(leaf.forward(prepared), dtype=np.float32)
                if not np.isfinite(block).all():
                    raise ImageError(
                        path, f"covered, its vector by {leaf.label} is not finite"
                    )
                blocks.append(block)
                n_done += len(block)
                if progress is not None:
                    progress(n_done, 2 * grid * grid, f"covering, {leaf.label}")
    return blocks
