"""The bank: images by formula, each with another that looks like it.

No photograph and no borrowed image is among them. The same seed gives the same bank
with the same library versions.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from layers import render, restyle
from layouts import LAYOUTS
from solids import clouds, flames, solids

from tllboost.files import whole_file

__all__ = ["FAMILIES", "SAME_THING", "make_bank"]

FAMILIES = (*LAYOUTS, "solids", "flames", "clouds")
_SHARES = (0.16, 0.26, 0.18, 0.16, 0.14, 0.06, 0.04)
_RAYS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "solids": solids,
    "flames": flames,
    "clouds": clouds,
}
SAME_THING = FAMILIES.index("solids")
"""The family whose two images show one thing from two sides."""


def make_bank(
    n_scenes: int,
    *,
    seed: int,
    size: int,
    cache: Path,
    without: tuple[str, ...] = (),
    n_workers: int = 2,
) -> tuple[np.ndarray, np.ndarray]:
    """Return images and their families, made once and kept in a file.

    Parameters
    ----------
    n_scenes : int
        How many scenes; each gives two images.
    seed : int
        Of all of them.
    size : int
        Side in pixels.
    cache : Path
        A folder for banks made before.
    without : sequence of str
        Families to leave out.

    Returns
    -------
    images : ndarray of shape (n_scenes, 2, size, size, 3), uint8
    families : ndarray of shape (n_scenes,), int64
        Indices into ``FAMILIES``.
    """
    left_out = "".join(f"-{name}" for name in without)
    file = cache / f"bank-{n_scenes}-{size}-{seed}{left_out}.npy"
    kept = np.array([name not in without for name in FAMILIES])
    shares = np.array(_SHARES) * kept
    rng = np.random.default_rng([seed, 1])
    families = rng.choice(len(FAMILIES), size=n_scenes, p=shares / shares.sum())
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        jobs = [(seed, i, int(family), size) for i, family in enumerate(families)]
        with ProcessPoolExecutor(n_workers) as workers, whole_file(file) as stream:
            np.save(stream, np.stack(list(workers.map(_scene, jobs, chunksize=64))))
    return np.load(file, mmap_mode="r"), families


def _scene(job: tuple[int, int, int, int]) -> np.ndarray:
    """Return the two images of one scene, (2, size, size, 3), uint8."""
    seed, index, family, size = job
    rng = np.random.default_rng([seed, 2, index])
    name = FAMILIES[family]
    if name in LAYOUTS:
        layers = LAYOUTS[name](rng)
        pair = render(layers, size), render(restyle(layers, rng), size)
    else:
        pair = _RAYS[name](rng, size)
    return np.round(np.stack(pair) * 255).astype(np.uint8)
