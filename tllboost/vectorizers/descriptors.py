"""Descriptors of shape and colour of one small picture, cell by cell.

Each is a flat float array; none is normalised to length 1 yet. Where it says so, the
mean over the picture is taken away: what all cells of a picture share says little
about what it shows, and the cosine of uncentred histograms is high for any two
pictures. On Totally-Looks-Like that alone moved gradient histograms from 0.35 to 0.40
(top-2 among 20). What lies near the middle counts more: a thing is rarely at the rim.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np

__all__ = [
    "colour_histogram",
    "colour_layout",
    "gradient_histograms",
    "near_centre",
    "orientation_maps",
    "windows",
]

_CENTRE = 0.8


def gradient_histograms(
    channel: np.ndarray,
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
    channel : ndarray of shape (side, side), float32
    n_cells : int
        Cells a side.
    n_orientations : int
        Bins of the circle.
    floor : float
        Gradient energy, in units of `channel`, below which a cell counts as flat.

    Returns
    -------
    ndarray of shape (n_orientations * n_cells * n_cells,), float32

    Examples
    --------
    >>> ramp = np.tile(np.arange(32, dtype=np.float32), (32, 1))
    >>> gradient_histograms(ramp, n_cells=4, n_orientations=6, floor=1.0).shape
    (96,)
    """
    maps = orientation_maps(channel, n_orientations)
    cell = windows(len(channel), n_cells, 1.0)
    wide = windows(len(channel), n_cells, 2.0)
    cells = cell @ maps @ cell.T
    energy = wide @ np.square(maps).sum(axis=0) @ wide.T
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
    bins = np.array([n_light, n_hue, n_hue])
    lowest, highest = np.array([0, -30, -30]), np.array([100, 30, 30])
    place = (lab.reshape(-1, 3) - lowest) / (highest - lowest) * (bins - 1)
    place = np.clip(place, 0, bins - 1 - 1e-6).T
    lower = place.astype(np.intp)
    rest = place - lower
    weight = near_centre(len(lab), _CENTRE).ravel()
    shares = np.stack([1 - rest, rest])
    steps = np.array([n_hue * n_hue, n_hue, 1])
    first = steps @ lower
    histogram = np.zeros(bins.prod())
    for corner in product((0, 1), repeat=3):
        light, red, yellow = (shares[one, axis] for axis, one in enumerate(corner))
        histogram += np.bincount(
            first + steps @ corner,
            weights=weight * (light * red * yellow),
            minlength=len(histogram),
        )
    return np.sqrt(histogram / weight.sum())


def orientation_maps(channel: np.ndarray, n_orientations: int) -> np.ndarray:
    """Return gradient magnitude by orientation, shared among the two nearest bins.

    Returns
    -------
    ndarray of shape (n_orientations, side, side), float32
    """
    across, down = np.zeros_like(channel), np.zeros_like(channel)
    across[:, 1:-1] = channel[:, 2:] - channel[:, :-2]
    down[1:-1] = channel[2:] - channel[:-2]
    magnitude = np.hypot(across, down).ravel()
    angle = np.arctan2(down, across).ravel()
    turn = np.where(angle < 0, angle + 2 * np.pi, angle)
    place = turn * (n_orientations / (2 * np.pi))
    lower = place.astype(np.intp)
    rest = place - lower
    lower[lower == n_orientations] = 0  # rounding can reach the full circle
    upper = lower + 1
    upper[upper == n_orientations] = 0
    maps = np.zeros((n_orientations, channel.size), dtype=np.float32)
    pixel = np.arange(channel.size)
    maps[lower, pixel] = magnitude * (1 - rest)
    maps[upper, pixel] += magnitude * rest
    return maps.reshape(n_orientations, *channel.shape)


@cache
def near_centre(n_cells: int, width: float) -> np.ndarray:
    """Return weights of cells: 1 in the middle of the picture, less the farther out.

    They fall as a normal curve of that width, in halves of the picture's side.

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
