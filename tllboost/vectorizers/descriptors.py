"""Descriptors of shape, colour and texture of one small picture.

Each is a flat float array; none is normalised to length 1 yet. Where it says so, the
mean over the picture is taken away: what all cells of a picture share says little
about what it shows, and the cosine of uncentred histograms is high for any two
pictures. On Totally-Looks-Like that alone moved gradient histograms from 0.35 to 0.40
(top-2 among 20).
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np

__all__ = [
    "colour_histogram",
    "colour_layout",
    "gradient_histograms",
    "local_patterns",
]


def gradient_histograms(
    channel: np.ndarray,
    *,
    n_cells: int,
    n_orientations: int,
    signed: bool,
    floor: float,
) -> np.ndarray:
    """Return histograms of oriented gradients (Dalal and Triggs, 2005), centred.

    Unlike scikit-image's, cells overlap as triangular windows, so that a small shift
    changes little, and orientations may tell dark-to-light from light-to-dark.

    Parameters
    ----------
    channel : ndarray of shape (side, side), float32
    n_cells : int
        Cells a side.
    n_orientations : int
        Bins of the half circle, or of the circle if `signed`.
    floor : float
        Gradient energy, in units of `channel`, below which a cell counts as flat.

    Returns
    -------
    ndarray of shape (n_orientations * n_cells * n_cells,), float32

    Examples
    --------
    >>> ramp = np.tile(np.arange(32, dtype=np.float32), (32, 1))
    >>> gradient_histograms(
    ...     ramp, n_cells=4, n_orientations=6, signed=False, floor=1.0
    ... ).shape
    (96,)
    """
    maps = _orientation_maps(channel, n_orientations, signed)
    cell = _windows(len(channel), n_cells, 1.0)
    wide = _windows(len(channel), n_cells, 2.0)
    cells = cell @ maps @ cell.T
    energy = wide @ np.square(maps).sum(axis=0) @ wide.T
    # The power between 0.5 and 1 keeps one strong edge from ruling its cell.
    cells = (cells / (np.sqrt(energy) + floor)) ** 0.7
    cells -= cells.mean(axis=(1, 2), keepdims=True)
    return (cells - cells.mean()).ravel()


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
    return (centred / (centred.std(axis=(0, 1)) + 2)).ravel()


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
    bins = np.array([n_light, n_hue, n_hue])
    lowest, highest = np.array([0, -30, -30]), np.array([100, 30, 30])
    place = (lab.reshape(-1, 3) - lowest) / (highest - lowest) * (bins - 1)
    place = np.clip(place, 0, bins - 1 - 1e-6)
    lower = place.astype(np.int64)
    rest = place - lower
    histogram = np.zeros(bins.prod())
    for corner in product((0, 1), repeat=3):
        index = np.ravel_multi_index((lower + corner).T, tuple(bins))
        share = np.where(corner, rest, 1 - rest).prod(axis=1)
        histogram += np.bincount(index, weights=share, minlength=len(histogram))
    return np.sqrt(histogram / len(place))


def local_patterns(grey: np.ndarray, *, n_cells: int) -> np.ndarray:
    """Return histograms of local binary patterns (Ojala and others, 2002), centred.

    Parameters
    ----------
    grey : ndarray of shape (side, side), uint8
        `side` is a multiple of `n_cells`.

    Returns
    -------
    ndarray of shape (n_cells * n_cells * 10,)
    """
    from skimage.feature import local_binary_pattern

    n_patterns = 10
    pattern = local_binary_pattern(grey, 8, 2, method="uniform").astype(np.int64)
    cell = np.arange(len(grey)) * n_cells // len(grey)
    index = (cell[:, None] * n_cells + cell) * n_patterns + pattern
    counts = np.bincount(index.ravel(), minlength=n_cells * n_cells * n_patterns)
    shares = np.sqrt(counts.reshape(-1, n_patterns) * n_cells**2 / grey.size)
    return (shares - shares.mean(axis=1, keepdims=True)).ravel()


def _orientation_maps(
    channel: np.ndarray, n_orientations: int, signed: bool
) -> np.ndarray:
    """Return gradient magnitude by orientation, shared among the two nearest bins."""
    across, down = np.zeros_like(channel), np.zeros_like(channel)
    across[:, 1:-1] = channel[:, 2:] - channel[:, :-2]
    down[1:-1] = channel[2:] - channel[:-2]
    magnitude = np.hypot(across, down).ravel()
    period = 2 * np.pi if signed else np.pi
    place = np.mod(np.arctan2(down, across).ravel(), period) * (n_orientations / period)
    lower = place.astype(np.int64)
    rest = place - lower
    lower %= n_orientations  # rounding can reach the full circle
    maps = np.zeros((n_orientations, channel.size), dtype=np.float32)
    pixel = np.arange(channel.size)
    maps[lower, pixel] = magnitude * (1 - rest)
    maps[(lower + 1) % n_orientations, pixel] += magnitude * rest
    return maps.reshape(n_orientations, *channel.shape)


@cache
def _windows(side: int, n_cells: int, width: float) -> np.ndarray:
    """Return `n_cells` triangular windows over `side` pixels, each of sum 1."""
    step = side / n_cells
    centres = (np.arange(n_cells) + 0.5) * step
    distance = np.abs(np.arange(side) + 0.5 - centres[:, None])
    windows = np.maximum(0, 1 - distance / (width * step))
    return (windows / windows.sum(axis=1, keepdims=True)).astype(np.float32)
