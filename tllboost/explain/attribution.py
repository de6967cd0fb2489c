"""Which parts of a pair carry its score: patches, vectorizers, cells of an ensemble.

A fusion has several vectorizers, the cells of an ensemble may share some; each of these
*leaves* looks at an image once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from math import comb
from os import PathLike

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tllboost.conventions import usable_cores
from tllboost.errors import ImageError, UsageError
from tllboost.images import open_image
from tllboost.scoring import FittedCell, Scorer, joint_score, similarity_names
from tllboost.vectorizers import Vectorizer
from tllboost.vectorizing import Progress, space_of

MOST_PARTS = 8
"""Vectorizers above which the 2ⁿ fusions are not scored."""

_BATCH = 32
_N_ORDERS = 200
_MOST_PIXELS = 50_000_000  # of all images that are held at once

Indices = NDArray[np.int64]
Map = NDArray[np.float64]
Leaves = Mapping[str, Vectorizer]
Blocks = Mapping[str, NDArray[np.float32]]
"""Vectors (n_images, n_dims of the leaf) by what the leaf is stored under."""


def leaves_of(cells: Sequence[FittedCell]) -> dict[str, Vectorizer]:
    """Return the parts of all vectorizers, each once, by what they are stored under.

    Raises
    ------
    UsageError
        If one of them never looks at an image.
    """
    leaves = {
        space_of(leaf): leaf for cell in cells for leaf in _parts(cell.vectorizer)
    }
    for leaf in leaves.values():
        if not leaf.needs_images:
            msg = (
                f"{leaf.label!r} looks vectors up by id and sees no image: there is "
                "nothing to cover; explain a bundle whose vectorizers look at images"
            )
            raise UsageError(msg)
    return leaves


def scores(
    classifier: Scorer, blocks: Blocks, left: Indices, right: Indices
) -> NDArray[np.float64]:
    """Return the score of pairs of rows, before calibration: (n_pairs,) float64."""
    vectors = [_cell_vectors(cell, blocks) for cell in classifier.cells_]
    return joint_score(classifier.cells_, vectors, left, right)


def _cell_vectors(cell: FittedCell, blocks: Blocks) -> NDArray[np.float32]:
    """Return the vectors that a cell sees, put together from those of the leaves."""
    own = [blocks[space_of(leaf)] for leaf in _parts(cell.vectorizer)]
    fuse = getattr(cell.vectorizer, "fuse", None)
    return own[0] if fuse is None else fuse(own)


def _parts(vectorizer: Vectorizer) -> Sequence[Vectorizer]:
    return getattr(vectorizer, "parts", None) or [vectorizer]


@dataclass(frozen=True)
class Share:
    """What one vectorizer, or one similarity, adds to the log-odds."""

    name: str
    adds: float


@dataclass(frozen=True)
class Member:
    """What one cell of an ensemble says, and what of it counts.

    ``adds`` is its weight times its log-odds.
    """

    name: str
    log_odds: float
    weight: float
    adds: float


def shapley_shares(
    classifier: Scorer, leaves: Leaves, blocks: Blocks
) -> tuple[list[Share], float | None]:
    """Return what each vectorizer adds, and the log-odds with none of them.

    Nothing where there is one vectorizer, or more than `MOST_PARTS`.

    Exact Shapley values (Shapley, "A value for n-person games", 1953): what a
    vectorizer adds to the log-odds, averaged over all orders in which they could be
    added one after the other. One that is absent has zeros for a vector, in both
    images. The shares sum to the log-odds of the pair less those with none.

    Parameters
    ----------
    classifier : PairClassifier or Scorer
    leaves : mapping of str to Vectorizer
    blocks : mapping of str to ndarray of shape (2, n_dims of the leaf), float32
        The vectors of the left and of the right image.

    Returns
    -------
    shares : list of Share, one a leaf
    empty : float or None
    """
    n_parts = len(leaves)
    if not 1 < n_parts <= MOST_PARTS:
        return [], None
    subsets = np.arange(2**n_parts)
    present = subsets[:, None] >> np.arange(n_parts) & 1
    # The two vectors once a subset, zeros where the part is absent.
    some = {
        space: np.concatenate([blocks[space] * np.float32(here) for here in column])
        for space, column in zip(leaves, present.T, strict=True)
    }
    score = scores(classifier, some, 2 * subsets, 2 * subsets + 1)
    value = classifier.calibration_.log_odds(score)
    # Of all orders, the share in which just some `size` parts come before another one.
    weight = [1 / (n_parts * comb(n_parts - 1, size)) for size in range(n_parts)]
    of_size, size = np.array([*weight, 0.0]), present.sum(axis=1, keepdims=True)
    adds = value @ np.where(present, of_size[size - 1], -of_size[size])
    labels = [leaf.label for leaf in leaves.values()]
    return list(map(Share, labels, adds.tolist())), float(value[0])


def similarity_shares(
    classifier: Scorer, blocks: Blocks
) -> tuple[list[Share], float | None]:
    """Return what each normalised similarity adds to the log-odds of unrelated images.

    Of the cell of the largest weight that reads similarities, by its own calibration;
    nothing where there is none. Shapley values by sampled permutations (Štrumbelj and
    Kononenko, "Explaining prediction models and individual predictions with feature
    contributions", 2014): similarities of the pair take the place of those of a random
    pair of references one after the other, in 200 orders. The shares sum to the
    log-odds of the cell less the mean of those pairs.
    """
    cells = [(one.scorer.references, one) for one in classifier.cells_]
    references, cell = max(cells, key=lambda one: (one[0] is not None, one[1].weight))
    if references is None:
        return [], None
    scorer, pair = cell.scorer, (np.array([0]), np.array([1]))
    features = cell.features(_cell_vectors(cell, blocks), *pair)
    own, others = features.similarities, references.unrelated(_N_ORDERS)
    rng = np.random.default_rng(0)
    place = rng.permuted(np.tile(np.arange(own.shape[1]), (_N_ORDERS, 1)), axis=1)
    # Of each order all steps: at first nothing is the pair's, at the end everything.
    is_own = place[:, None] < np.arange(own.shape[1] + 1)[:, None]
    rows = np.where(is_own, own, others[:, None]).reshape(-1, own.shape[1])
    score = scorer.score(features.with_rows(rows.astype(np.float32)))
    value = scorer.calibration_.log_odds(score).reshape(_N_ORDERS, -1)
    adds = np.take_along_axis(np.diff(value, axis=1), place, axis=1).mean(axis=0)
    names = similarity_names(cell.vectorizer, cell.projection_spec)
    shares = map(Share, names, adds.tolist())
    order = sorted(shares, key=lambda one: -abs(one.adds))
    return [one for one in order if one.adds], float(value[:, 0].mean())


def member_opinions(classifier: Scorer, blocks: Blocks) -> list[Member]:
    """Return what each cell of an ensemble says; of one cell alone nothing.

    The log-odds of the ensemble are the sum of what they add, plus the intercept of
    its calibration.
    """
    cells = classifier.cells_
    if len(cells) == 1:
        return []
    slope = classifier.calibration_.slope / sum(cell.weight for cell in cells)
    pair = np.array([0]), np.array([1])
    members = []
    for cell in cells:
        odds = float(cell.log_odds(_cell_vectors(cell, blocks), *pair)[0])
        weight = slope * cell.weight
        members.append(Member(cell.name, odds, weight, weight * odds))
    return members


def patches(width: int, height: int, grid: int) -> list[tuple[int, int, int, int]]:
    """Return the boxes (left, upper, right, lower) of grid x grid patches, row by row.

    Where an image is not divided evenly, neighbours differ by one pixel.

    Examples
    --------
    >>> patches(5, 4, 2)
    [(0, 0, 2, 2), (2, 0, 5, 2), (0, 2, 2, 4), (2, 2, 5, 4)]
    """
    columns = list(pairwise(index * width // grid for index in range(grid + 1)))
    rows = pairwise(index * height // grid for index in range(grid + 1))
    return [(x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns]


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


def occlusion_maps(
    classifier: Scorer,
    leaves: Leaves,
    pair: tuple[str | PathLike[str], str | PathLike[str]],
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
    # Of each leaf the vectors of both images, then of all their covered versions.
    together = {}
    with ThreadPoolExecutor(usable_cores()) as threads:
        for space, leaf in leaves.items():
            made, n_done = [blocks[space]], 0
            for path in pair:
                # As vectorizing decodes it, so that only the cover makes a difference.
                image = open_image(path, shrink_to=leaf.input_size)
                size = max(1, min(_BATCH, _MOST_PIXELS // (image.width * image.height)))
                versions = covered(image, grid)
                while some := list(islice(versions, size)):
                    prepared = np.stack(list(threads.map(leaf.prepare, some)))
                    block = np.asarray(leaf.forward(prepared), dtype=np.float32)
                    if not np.isfinite(block).all():
                        reason = f"covered, its vector by {leaf.label} is not finite"
                        raise ImageError(path, reason)
                    made.append(block)
                    n_done += len(block)
                    if progress is not None:
                        progress(n_done, 2 * n_patches, f"covering, {leaf.label}")
            together[space] = np.concatenate(made)
    rows = np.arange(2, 2 + n_patches)
    # The pair as it is, then the left image covered, then the right one.
    left = np.concatenate([[0], rows, np.zeros(n_patches, dtype=np.int64)])
    right = np.concatenate([[1], np.ones(n_patches, dtype=np.int64), rows + n_patches])
    score = scores(classifier, together, left, right)
    odds = classifier.calibration_.log_odds(score)
    change = (odds[1:] - odds[0]).reshape(2, grid, grid)
    return change[0], change[1]
