"""Why two images score as they do: parts of images, of a fusion, of an ensemble.

An explanation is written as one page, whose words and tags stand in ``pair.html``.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost import __version__
from tllboost.explain.attribution import patches
from tllboost.explain.pair import (
    Explanation,
    explain,
    short_form,
    signed,
    telling_patches,
)
from tllboost.files import write_text
from tllboost.page import render, thumbnail

__all__ = ["Explanation", "explain", "short_form", "write_page"]

_FIGURE_SIZE = 640
_N_PATCHES = 5


def write_page(
    explanation: Explanation,
    path: str | os.PathLike[str],
    *,
    bundle: str | os.PathLike[str] | None = None,
) -> Path:
    """Write an explanation as one HTML file that opens from disk, without a network.

    Parameters
    ----------
    explanation : Explanation
    path : path-like
        Where to; a page that is there is written over.
    bundle : path-like, optional
        What to call the bundle on the page.

    Returns
    -------
    Path

    Raises
    ------
    ImageError
        If one of the two images can't be read any more.
    DataError
        If the page can't be written.
    """
    one = explanation
    page = render(
        "explain/pair.html",
        title=f"{Path(one.left).name} and {Path(one.right).name}: {one.decision}",
        styles=["page/base.css", "explain/pair.css"],
        scripts=["explain/pair.js"],
        one=one,
        bundle=bundle,
        version=__version__,
        signed=partial(signed, minus="−"),
        sides=[_side(*side) for side in one.sides],
        most=float(np.abs([one.left_map, one.right_map]).max()),
    )
    write_text(Path(path), page)
    return Path(path)


def _side(name: str, path: str, changes: NDArray[np.float64]) -> dict[str, Any]:
    """Return what is shown of one image: all patches, the most telling numbered.

    Numbers run as one reads, from left to right and from the top down.
    """
    image = thumbnail(path, _FIGURE_SIZE)
    grid = len(changes)
    telling = enumerate(sorted(telling_patches(changes, _N_PATCHES)), start=1)
    ranks = {patch[:2]: rank for rank, patch in telling}
    places = product(range(1, grid + 1), range(1, grid + 1))
    boxes = patches(image.width, image.height, grid)
    return {
        "name": name,
        "file": Path(path).name,
        "image": image,
        "font_size": round(max(image.width, image.height) / min(20, 2 * grid), 1),
        "patches": [
            {"at": at, "change": float(change), "box": box, "rank": ranks.get(at, 0)}
            for at, change, box in zip(places, changes.flat, boxes, strict=True)
        ],
    }
