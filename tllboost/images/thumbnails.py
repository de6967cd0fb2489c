"""Small images for a page: as data, each once, within a budget of bytes."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from PIL import Image

from tllboost.errors import ImageError
from tllboost.images import open_image

__all__ = ["make_thumbnails", "thumbnail"]

SIZES = (224, 160, 128, 96, 64)
"""Longest sides, in pixels, from the most to the least that a page can afford."""
BUDGET = 9_000_000
"""Bytes of all thumbnails of a page, as text."""
_QUALITY = 72


class Thumbnail(NamedTuple):
    """An image as a ``data:`` address, and its size in pixels."""

    src: str
    width: int
    height: int


def thumbnail(image: Image.Image | str | os.PathLike[str], size: int) -> Thumbnail:
    """Return an image as a JPEG whose longest side is at most `size` pixels.

    Parameters
    ----------
    image : PIL.Image.Image or path-like
        A path is decoded as every image from strangers is.
    size : int

    Raises
    ------
    ImageError
        If the file is no image that can be read.

    Examples
    --------
    >>> small = thumbnail(Image.new("RGB", (400, 200)), 100)
    >>> small.src[:23], small.width, small.height
    ('data:image/jpeg;base64,', 100, 50)
    """
    if not isinstance(image, Image.Image):
        image = open_image(image, shrink_to=size)
    small = image.convert("RGB")
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    return Thumbnail(_jpeg(small), *small.size)


def make_thumbnails(
    paths: Mapping[Any, str | os.PathLike[str]],
    *,
    budget: int = BUDGET,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[Any, Thumbnail]:
    """Return a thumbnail of each image, as large as all together can be.

    Parameters
    ----------
    paths : mapping of key to path-like
        An image that can't be read has no thumbnail.
    budget : int, default=9_000_000
        Bytes that all may take together.
    progress : callable or None
        Called with (done, total, what).

    Examples
    --------
    >>> make_thumbnails({0: "no such file"})
    {}
    """
    images = dict(_decoded(paths, progress))
    for size in SIZES:
        made = {key: thumbnail(image, size) for key, image in images.items()}
        if sum(len(one.src) for one in made.values()) <= budget:
            break
    return made


def _decoded(
    paths: Mapping[Any, str | os.PathLike[str]],
    progress: Callable[[int, int, str], None] | None,
) -> Iterable[tuple[Any, Image.Image]]:
    """Decode all images, no larger than the largest thumbnail."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done, (key, image) in enumerate(
            zip(paths, pool.map(_shrunk, paths.values()), strict=True), 1
        ):
            if progress is not None:
                progress(done, len(paths), "thumbnails")
            if image is not None:
                yield key, image


def _shrunk(path: str | os.PathLike[str]) -> Image.Image | None:
    try:
        image = open_image(path, shrink_to=SIZES[0])
    except ImageError:
        return None
    image.thumbnail((SIZES[0], SIZES[0]), Image.Resampling.LANCZOS)
    return image


def _jpeg(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")
