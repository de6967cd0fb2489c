"""Small images for a page: as data, each once, within a budget of bytes."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from PIL import Image

from tllboost.errors import ImageError
from tllboost.images import open_image

__all__ = ["Thumbnail", "make_thumbnails", "thumbnail"]

# Longest sides, in pixels, from the most to the least that a page can afford.
_SIZES = (224, 160, 128, 96, 64)
_BUDGET = 9_000_000  # bytes of all thumbnails of a page, as text
_QUALITY = 72


class Thumbnail(NamedTuple):
    """An image as a ``data:`` address, and its size in pixels."""

    src: str
    width: int
    height: int


def thumbnail(path: str | os.PathLike[str], size: int) -> Thumbnail:
    """Return an image as a JPEG whose longest side is at most `size` pixels.

    Raises
    ------
    ImageError
        If the file is no image that can be read.
    """
    small = open_image(path, shrink_to=size).convert("RGB")
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=_QUALITY, optimize=True)
    text = base64.b64encode(data.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{text}", *small.size)


def _thumbnail_if_there(path: str | os.PathLike[str], size: int) -> Thumbnail | None:
    """Return a thumbnail, or None of an image that can't be read."""
    try:
        return thumbnail(path, size)
    except ImageError:
        return None


def make_thumbnails(
    paths: Mapping[Any, str | os.PathLike[str]],
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[Any, Thumbnail]:
    """Return a thumbnail of each image, as large as all together can be.

    Parameters
    ----------
    paths : mapping of key to path-like
        An image that can't be read has no thumbnail.
    progress : callable or None
        Called with (done, total, what).

    Examples
    --------
    >>> make_thumbnails({0: "no such file"})
    {}
    """
    for size in _SIZES:
        made = {}
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            small = pool.map(partial(_thumbnail_if_there, size=size), paths.values())
            for done, (key, one) in enumerate(zip(paths, small, strict=True), 1):
                if one is not None:
                    made[key] = one
                if progress is not None:
                    progress(done, len(paths), "thumbnails")
        if sum(len(one.src) for one in made.values()) <= _BUDGET:
            break
    return made
