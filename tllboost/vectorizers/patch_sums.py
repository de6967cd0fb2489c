"""Many patches of a picture, described and added up, wherever in it they are.

What `tllboost.vectorizers.descriptors` tells cell by cell is lost when a thing moves.
Here patches of several sizes are described by histograms of oriented gradients, and
those of one kind are added up, as in vectors of locally aggregated descriptors (Jégou
and others, 2010). The kinds are not learned: a patch is of the kind of that wave, and
of that sign, which it resembles most, as in cross-polytope hashing (Terasawa and
Tanaka, 2007). So nothing is trained and nothing is shipped.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tllboost.vectorizers.descriptors import near_centre, orientation_maps, windows

__all__ = ["patch_sums"]

_N_ORIENTATIONS = 8
_PATCH_CELLS = 4
_CENTRE = 0.4


def patch_sums(
    channel: np.ndarray, *, cell_sides: tuple[int, ...], n_waves: int, floor: float
) -> np.ndarray:
    """Return the sums of patches of each kind, less what makes them that kind.

    Parameters
    ----------
    channel : ndarray of shape (side, side), float32
    cell_sides : tuple of int
        Of the cells of a patch, in pixels; a patch has four cells a side, and the
        next one begins a cell farther.
    n_waves : int
        Waves that describe a patch; there are twice as many kinds.
    floor : float
        Gradient magnitude, in units of `channel`, below which a cell counts as flat.

    Returns
    -------
    ndarray of shape (2 * n_waves * (n_waves - 1),), float32
        Zeros where all is flat.

    Examples
    --------
    >>> ramp = np.tile(np.arange(32, dtype=np.float32), (32, 1))
    >>> patch_sums(ramp, cell_sides=(4, 6), n_waves=8, floor=1.0).shape
    (112,)
    """
    maps = orientation_maps(channel, _N_ORIENTATIONS)
    found = [_patches(maps, cell, floor) for cell in cell_sides]
    patches, weight = (np.concatenate(some) for some in zip(*found, strict=True))
    described = patches @ _waves(n_waves)
    described /= np.linalg.norm(described, axis=1, keepdims=True) + 1e-6
    place = np.arange(len(described))
    wave = np.abs(described).argmax(axis=1)
    kind = np.where(described[place, wave] > 0, wave, n_waves + wave)
    member = np.zeros((2 * n_waves, len(described)), dtype=np.float32)
    member[kind, place] = weight
    own = np.tile(np.eye(n_waves, dtype=bool), (2, 1))
    sums = (member @ described)[~own].reshape(2 * n_waves, n_waves - 1)
    # Half the way to equal lengths, of kinds and of numbers alike: what repeats, as
    # bricks do, shall not rule the rest (Jégou and others, 2009, on burstiness).
    sums /= np.sqrt(np.linalg.norm(sums, axis=1, keepdims=True)) + 1e-6
    return (np.sign(sums) * np.sqrt(np.abs(sums))).ravel()


def _patches(
    maps: np.ndarray, cell: int, floor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the patches of one size, and what each weighs.

    They are the roots of shares of the gradients (Arandjelović and Zisserman, 2012). A
    flat patch weighs little, r / (r + floor) where r is the root of its magnitude, and
    so does one far from the middle of the picture.

    Returns
    -------
    patches : ndarray of shape (n_patches, 4 * 4 * n_orientations), float32
    weight : ndarray of shape (n_patches,), float32
    """
    side = maps.shape[-1]
    window = windows(side, side // cell, 1.0)
    cells = window @ maps @ window.T
    size = (_PATCH_CELLS, _PATCH_CELLS)
    # Axes: orientation, place down and across, cell of the patch down and across.
    tiled = np.lib.stride_tricks.sliding_window_view(cells, size, axis=(1, 2))
    n_places = tiled.shape[1]
    patches = tiled.transpose(1, 2, 3, 4, 0).reshape(n_places**2, -1)
    magnitude = patches.sum(axis=1) / _PATCH_CELLS**2
    shares = patches / (_PATCH_CELLS**2 * (magnitude + floor))[:, None]
    strength = np.sqrt(magnitude)
    weight = near_centre(n_places, _CENTRE).ravel() * strength / (strength + floor)
    return np.sqrt(shares), weight


@cache
def _waves(n_waves: int) -> np.ndarray:
    """Return the slowest waves over a patch but the constant one.

    They are cosines over its cells, and waves around its orientations: close to the
    principal components of such histograms, without pictures to find them from.

    Returns
    -------
    ndarray of shape (4 * 4 * n_orientations, n_waves), float32
        The length of each is the root of its speed: fast waves are weak in pictures.
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
