"""``classic`` and ``pixels``: vectors without any weights.

``classic`` has descriptors of shape, patches and colour.

Shape and colour are told cell by cell on one small image. Where a descriptor says so,
its mean over the image is taken away: what all cells share says little about what an
image shows, and the cosine of uncentred histograms is high for any two images. On
Totally-Looks-Like that alone moved gradient histograms from 0.35 to 0.40 (top-2 among
20). What lies near the middle counts more: a thing is rarely at the rim.

What is told cell by cell is lost when a thing moves. So patches of several sizes are
described by histograms of oriented gradients, and those of one kind are added up
wherever they are, as in vectors of locally aggregated descriptors (Jégou and others,
2010). The kinds are not learned: a patch is of the kind of that wave, and of that
sign, which it resembles most, as in cross-polytope hashing (Terasawa and Tanaka,
2007). Nothing is trained and nothing is shipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import ClassVar

import numpy as np
from PIL import Image

from tllboost.registry import option, positive
from tllboost.vectorizers.base import loaded
from tllboost.vectorizers.network import NetworkVectorizer
from tllboost.vectorizers.preprocess import Preprocessing

_CENTRE = 0.8


# Of sRGB and CIELAB, as scikit-image has them.
_LEVEL = np.arange(256) * (1 / 255)
_LINEAR = np.where(_LEVEL > 0.04045, ((_LEVEL + 0.055) / 1.055) ** 2.4, _LEVEL / 12.92)
_TO_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
_WHITE = 0.95047, 1.0, 1.08883


def lab_of(pixels: np.ndarray) -> np.ndarray:
    """Return RGB of 8 bits in CIELAB, the same numbers as scikit-image's `rgb2lab`.

    Each level is raised to its power once, not each pixel; and scikit-image, which
    takes a fifth of a second to import, stays out.
    """
    xyz = _LINEAR[pixels] @ _TO_XYZ.T / _WHITE
    xyz = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16.0 / 116.0)
    x, y, z = np.moveaxis(xyz, -1, 0)
    return np.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)


Gradients = tuple[np.ndarray, np.ndarray]
"""Of a channel: magnitudes and angles from 0 to 2 pi, of shape (side, side)."""


def gradients_of(channel: np.ndarray) -> Gradients:
    """Return the gradients of a channel of shape (side, side), float32."""
    across, down = np.zeros_like(channel), np.zeros_like(channel)
    across[:, 1:-1] = channel[:, 2:] - channel[:, :-2]
    down[1:-1] = channel[2:] - channel[:-2]
    angle = np.arctan2(down, across)
    angle += np.float32(2 * np.pi) * (angle < 0)
    # As hypot does it, in double precision, but many numbers at once.
    square = np.square(across, dtype=np.float64) + np.square(down, dtype=np.float64)
    return np.sqrt(square, out=square).astype(np.float32), angle


def gradient_histograms(
    gradients: Gradients,
    *,
    n_cells: int,
    n_orientations: int,
    floor: float,
) -> np.ndarray:
    """Return histograms of oriented gradients (Dalal and Triggs, 2005), centred.

    Unlike scikit-image's, cells overlap as triangular windows, so that a small shift
    changes little, and orientations tell dark-to-light from light-to-dark.

    Parameters
    ----------
    gradients : tuple of 2 ndarrays of shape (side, side), float32
        See `gradients_of`.
    n_cells : int
        Cells a side.
    n_orientations : int
        Bins of the circle.
    floor : float
        Gradient energy, in units of the channel, below which a cell counts as flat.

    Returns
    -------
    ndarray of shape (n_orientations * n_cells * n_cells,), float32

    Examples
    --------
    >>> ramp = np.tile(np.arange(32, dtype=np.float32), (32, 1))
    >>> gradients = gradients_of(ramp)
    >>> gradient_histograms(gradients, n_cells=4, n_orientations=6, floor=1.0).shape
    (96,)
    """
    maps, shares = orientation_maps(gradients, n_orientations)
    cells = cell_sums(maps, n_cells)
    wide = windows(maps.shape[-1], n_cells, 2.0)
    energy = wide @ np.square(shares, out=shares).sum(axis=0) @ wide.T
    # The power between 0.5 and 1 keeps one strong edge from ruling its cell.
    cells = (cells / (np.sqrt(energy) + floor)) ** 0.7
    cells -= cells.mean(axis=(1, 2), keepdims=True)
    return ((cells - cells.mean()) * near_centre(n_cells, _CENTRE)).ravel()


def colour_layout(lab: np.ndarray, *, n_cells: int) -> np.ndarray:
    """Return a thumbnail in CIELAB, each channel at mean 0 and about equal contrast.

    Parameters
    ----------
    lab : ndarray of shape (side, side, 3)
        `side` is a multiple of `n_cells`.
    """
    step = len(lab) // n_cells
    small = lab.reshape(n_cells, step, n_cells, step, 3).mean(axis=(1, 3))
    centred = small - small.mean(axis=(0, 1))
    centred /= centred.std(axis=(0, 1)) + 2
    return (centred * near_centre(n_cells, _CENTRE)[..., None]).ravel()


def colour_histogram(lab: np.ndarray, *, n_light: int, n_hue: int) -> np.ndarray:
    """Return the square roots of a histogram in CIELAB with soft bins.

    Their scalar product is Bhattacharyya's similarity of two histograms.

    Parameters
    ----------
    lab : ndarray of shape (side, side, 3)

    Returns
    -------
    ndarray of shape (n_light * n_hue * n_hue,)
    """
    bins = np.array([[n_light], [n_hue], [n_hue]])
    lowest, highest = np.array([[0], [-30], [-30]]), np.array([[100], [30], [30]])
    place = (lab.reshape(-1, 3).T.copy() - lowest) / (highest - lowest) * (bins - 1)
    place = np.clip(place, 0, bins - 1 - 1e-6)
    lower = place.astype(np.intp)
    rest = place - lower
    weight = near_centre(len(lab), _CENTRE).ravel()
    shares = 1 - rest, rest
    steps = np.array([n_hue * n_hue, n_hue, 1])
    first = steps @ lower
    histogram = np.zeros(bins.prod())
    for corner in product((0, 1), repeat=3):
        light, red, yellow = (shares[one][axis] for axis, one in enumerate(corner))
        histogram += np.bincount(
            first + steps @ corner,
            weights=weight * (light * red * yellow),
            minlength=len(histogram),
        )
    return np.sqrt(histogram / weight.sum())


def orientation_maps(
    gradients: Gradients, n_orientations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return gradient magnitude by orientation, shared among the two nearest bins.

    Returns
    -------
    maps : ndarray of shape (n_orientations, side, side), float32
    shares : ndarray of shape (2, side, side), float32
        The two numbers of each pixel that may be other than zero.
    """
    magnitude, angle = (one.ravel() for one in gradients)
    place = angle * (n_orientations / (2 * np.pi))
    lower = np.floor(place)
    rest = np.subtract(place, lower, out=place)
    index = lower.astype(np.intp)
    index *= angle.size
    index += np.arange(angle.size)
    shares = np.empty((2, angle.size), dtype=np.float32)
    shares[0] = magnitude * np.subtract(1, rest, dtype=np.float64)
    np.multiply(magnitude, rest, out=shares[1])
    # Two bins more, which are the first two once more: rounding can reach the full
    # circle.
    maps = np.zeros((n_orientations + 2, angle.size), dtype=np.float32)
    maps.ravel()[index], maps[1:].ravel()[index] = shares
    maps[:2] += maps[n_orientations:]
    side = len(gradients[0])
    return maps[:n_orientations].reshape(-1, side, side), shares.reshape(2, side, side)


@cache
def near_centre(n_cells: int, width: float) -> np.ndarray:
    """Return weights of cells: 1 in the middle of the image, less the farther out.

    They fall as a normal curve of that width, in halves of the image's side.

    Returns
    -------
    ndarray of shape (n_cells, n_cells), float32
    """
    place = (np.arange(n_cells) + 0.5) / n_cells * 2 - 1
    fall = np.exp(-np.square(place / width) / 2)
    return np.outer(fall, fall).astype(np.float32)


@cache
def windows(side: int, n_cells: int, width: float) -> np.ndarray:
    """Return triangular windows over pixels, each of sum 1.

    Returns
    -------
    ndarray of shape (n_cells, side), float32
    """
    step = side / n_cells
    centres = (np.arange(n_cells) + 0.5) * step
    distance = np.abs(np.arange(side) + 0.5 - centres[:, None])
    windows = np.maximum(0, 1 - distance / (width * step))
    return (windows / windows.sum(axis=1, keepdims=True)).astype(np.float32)


def cell_sums(maps: np.ndarray, n_cells: int) -> np.ndarray:
    """Return what triangular windows of one cell's width see of maps.

    Returns
    -------
    ndarray of shape (n_maps, n_cells, n_cells), float32
    """
    side, half = maps.shape[-1], n_cells // 2
    window = windows(side, n_cells, 1.0)
    # Each half of them sees no more than half a cell's width of the other's lines.
    start = max(0, (2 * half - 1) * side // (2 * n_cells))
    stop = (2 * half + 1) * side // (2 * n_cells) + 1
    upper = window[:half, :stop] @ maps[:, :stop]
    lower = window[half:, start:] @ maps[:, start:]
    return np.concatenate([upper, lower], axis=1) @ window.T


_N_ORIENTATIONS = 8
_PATCH_CELLS = 4
_PATCH_CENTRE = 0.4


def patch_sums(
    gradients: Gradients, *, cell_sides: tuple[int, ...], n_waves: int, floor: float
) -> np.ndarray:
    """Return the sums of patches of each kind, less what makes them that kind.

    Parameters
    ----------
    gradients : tuple of 2 ndarrays of shape (side, side), float32
        See `gradients_of`.
    cell_sides : tuple of int
        Of the cells of a patch, in pixels; a patch has four cells a side, and the
        next one begins a cell farther.
    n_waves : int
        Waves that describe a patch; there are twice as many kinds.
    floor : float
        Gradient magnitude, in units of the channel, below which a cell counts as flat.

    Returns
    -------
    ndarray of shape (2 * n_waves * (n_waves - 1),), float32
        Zeros where all is flat.

    Examples
    --------
    >>> ramp = np.tile(np.arange(32, dtype=np.float32), (32, 1))
    >>> patch_sums(gradients_of(ramp), cell_sides=(4, 6), n_waves=8, floor=1.0).shape
    (112,)
    """
    maps, _ = orientation_maps(gradients, _N_ORIENTATIONS)
    patches, weight = _patches(maps, cell_sides, floor)
    described = patches @ _waves(n_waves)
    described /= np.sqrt(np.square(described).sum(axis=1, keepdims=True)) + 1e-6
    place = np.arange(len(described))
    wave = np.abs(described).argmax(axis=1)
    kind = np.where(described[place, wave] > 0, wave, n_waves + wave)
    member = np.zeros((2 * n_waves, len(described)), dtype=np.float32)
    member[kind, place] = weight
    is_own = np.tile(np.eye(n_waves, dtype=bool), (2, 1))
    sums = (member @ described)[~is_own].reshape(2 * n_waves, n_waves - 1)
    # Half the way to equal lengths, of kinds and of numbers alike: what repeats, as
    # bricks do, shall not rule the rest (Jégou and others, 2009, on burstiness).
    sums /= np.sqrt(np.linalg.norm(sums, axis=1, keepdims=True)) + 1e-6
    return (np.sign(sums) * np.sqrt(np.abs(sums))).ravel()


def _patches(
    maps: np.ndarray, cell_sides: tuple[int, ...], floor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the patches of all sizes, and what each weighs.

    They are the roots of shares of the gradients (Arandjelović and Zisserman, 2012). A
    flat patch weighs little, r / (r + floor) where r is the root of its magnitude, and
    so does one far from the middle of the image.

    Returns
    -------
    patches : ndarray of shape (n_patches, 4 * 4 * n_orientations), float32
    weight : ndarray of shape (n_patches,), float32
    """
    places = [maps.shape[-1] // side - _PATCH_CELLS + 1 for side in cell_sides]
    patches = np.empty(
        (sum(n * n for n in places), _PATCH_CELLS**2 * len(maps)), dtype=np.float32
    )
    weights, start = [], 0
    for n in places:
        # Orientations last: what a patch has of one row of cells lies side by side.
        cells = cell_sums(maps, n + _PATCH_CELLS - 1).transpose(1, 2, 0).copy()
        # Axes: place down and across, cell of the patch down and across, orientation.
        shape = (n, n, _PATCH_CELLS, _PATCH_CELLS, len(maps))
        # By hand: sliding_window_view takes longer than the copy that is made of it.
        strides = cells.strides[:2] + cells.strides
        tiled = np.ndarray(shape, cells.dtype, cells, strides=strides)
        # One size after the other, which stays in the processor's cache meanwhile.
        own, start = patches[start : start + n * n], start + n * n
        own.reshape(shape)[:] = tiled
        magnitude = own.sum(axis=1) / _PATCH_CELLS**2
        own /= (_PATCH_CELLS**2 * (magnitude + floor))[:, None]
        np.sqrt(own, out=own)
        strength = np.sqrt(magnitude)
        near = near_centre(n, _PATCH_CENTRE).ravel()
        weights.append(near * strength / (strength + floor))
    return patches, np.concatenate(weights)


@cache
def _waves(n_waves: int) -> np.ndarray:
    """Return the slowest waves over a patch but the constant one.

    They are cosines over its cells, and waves around its orientations: close to the
    principal components of such histograms, without images to find them from.

    Returns
    -------
    ndarray of shape (4 * 4 * n_orientations, n_waves), float32
        The length of each is the root of its speed: fast waves are weak in images.
    """
    cell = np.arange(_PATCH_CELLS)
    across = np.cos(np.pi * np.outer(cell, cell + 0.5) / _PATCH_CELLS)
    turn = np.arange(_N_ORIENTATIONS)
    rounds = (turn + 1) // 2
    quarter = (turn % 2 == 0) & (turn > 0)
    around = np.cos(
        2 * np.pi * np.outer(rounds, turn) / _N_ORIENTATIONS
        - np.pi / 2 * quarter[:, None]
    )
    across, around = (
        one / np.linalg.norm(one, axis=1, keepdims=True) for one in (across, around)
    )
    waves = np.einsum("ia,jb,kc->ijkabc", across, across, around)
    square = np.square(cell)
    speed = np.sqrt(square[:, None, None] + square[:, None] + np.square(rounds)).ravel()
    slowest = np.argsort(speed, kind="stable")[1 : n_waves + 1]
    chosen = waves.reshape(len(speed), -1)[slowest] * speed[slowest, None] ** 0.5
    return np.ascontiguousarray(chosen.T, dtype=np.float32)


WEIGHTS = {
    "shape": 1.0,
    "patches": 2.0,
    "red-green patches": 0.5,
    "blue-yellow patches": 0.5,
    "colour layout": 0.25,
    "colours": 0.25,
}
"""Of the blocks in the cosine of two images. They are coarse on purpose: chosen on
validation sets, where their neighbours are not told apart (results/classic)."""

_VERSION = 2  # raise it when a change here or in the descriptors could change a vector
_SIDE = 160
_LAB_SIDE = 80


class ClassicVectorizer(NetworkVectorizer):
    """Gradients cell by cell, patches wherever they are, colours and their layout.

    The whole image is scaled to a square, whatever its proportions. Each block is
    brought to length 1 and weighted, then all are concatenated: 768 numbers of shape,
    1104 of grey patches, 960 of patches of two colour channels, 192 of colour layout,
    300 of colours.

    Parameters
    ----------
    trim, flip, views : bool, bool, sequence of str
        See `Looks`; by default the image as it is.

    Examples
    --------
    >>> ClassicVectorizer().transform([Image.new("RGB", (200, 245))]).shape
    (1, 3324)
    """

    KIND = "classic"
    HOLDS_LOCK = True
    N_DIMS = 3324
    BLOCKS: ClassVar[Mapping[str, int]] = {
        "shape of ": 768,
        "patches of ": 1104,
        "red-green patches of ": 480,
        "blue-yellow patches of ": 480,
        "colour layout of ": 192,
        "colours of ": 300,
    }

    @property
    def fingerprint(self) -> str:
        """Tell what the vectors depend on."""
        # Its colours are still those of scikit-image 0, which made them at first.
        return f"classic|descriptors {_VERSION}|float32|scikit-image 0{self.looks}"

    @property
    def input_size(self) -> int:
        """Short side that decoding may shrink to."""
        return self.looks.shrink_to(_SIDE)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Return the vector itself: there is no network to wait for."""
        found = blocks(image)
        return np.concatenate(
            [weight**0.5 * _unit(found[name]) for name, weight in WEIGHTS.items()]
        ).astype(np.float32)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return the vectors that `pixels` made."""
        return batch


def blocks(image: Image.Image) -> dict[str, np.ndarray]:
    """Return the descriptors of one image, none of them at length 1 yet.

    Returns
    -------
    dict of str to ndarray
        In the order of `WEIGHTS`.
    """
    square = image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, reducing_gap=3)
    grey = gradients_of(np.asarray(square.convert("L"), dtype=np.float32))
    small = square.resize((_LAB_SIDE, _LAB_SIDE), Image.Resampling.BOX)
    lab = lab_of(np.asarray(small)).astype(np.float32)
    red_green, blue_yellow = (
        patch_sums(gradients_of(one), cell_sides=(3, 4, 6), n_waves=16, floor=0.3)
        for one in (lab[..., 1], lab[..., 2])
    )
    return {
        "shape": gradient_histograms(grey, n_cells=8, n_orientations=12, floor=5.0),
        "patches": patch_sums(grey, cell_sides=(4, 6, 9), n_waves=24, floor=2.0),
        "red-green patches": red_green,
        "blue-yellow patches": blue_yellow,
        "colour layout": colour_layout(lab, n_cells=8),
        "colours": colour_histogram(lab, n_light=3, n_hue=10),
    }


def _unit(block: np.ndarray) -> np.ndarray:
    """Return a block at length 1; one of an image of a single colour stays zero."""
    length = np.linalg.norm(block)
    return block / length if length > 1e-6 else np.zeros_like(block)


@dataclass(kw_only=True, eq=False, repr=False)
class PixelVectorizer(NetworkVectorizer):
    """The whole image squashed to a small square of RGB; the floor under all others.

    What a network that is trained from scratch starts from, and by themselves what
    any vector must beat. They are in [0, 1]; all of red row by row, then green, then
    blue.

    Parameters
    ----------
    size : int, default=32
        Side of the square.
    trim, flip, views : bool, bool, sequence of str
        See `Looks`; by default the image as it is.

    Examples
    --------
    >>> white = Image.new("RGB", (200, 245), "white")
    >>> PixelVectorizer(size=2).transform([white])
    array([[1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1.]], dtype=float32)
    """

    KIND = "pixels"

    size: int = option(32, positive)

    @property
    def fingerprint(self) -> str:
        """Tell what the vectors depend on."""
        return f"pixels|{self.preprocessing}|float32{self.looks}"

    @loaded
    def preprocessing(self) -> Preprocessing:
        """How an image becomes numbers."""
        size = (self.size, self.size)
        return Preprocessing(size, fit="squash", mean=(0, 0, 0), std=(1, 1, 1))

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return the numbers of each image in a row: there is no network."""
        return batch.reshape(len(batch), -1)
