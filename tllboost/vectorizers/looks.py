"""Which images stand for one image: without borders, mirrored, in several views.

Borders are letterbox bars, frames, passe-partouts: lines of one colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image, ImageOps

from tllboost.errors import UsageError
from tllboost.vectorizers.base import Vectorizer, loaded
from tllboost.vectorizers.spec import Options, truth

__all__ = ["LOOK_OPTIONS", "VIEWS", "WHOLE", "Looks", "LooksVectorizer", "trimmed"]

# Of 255, in light and in any one channel. JPEG files keep colour at half the
# resolution, so that it bleeds some lines into a bar: with these two, and qualities of
# 50 to 95, at most one line of a bar was left and no line of an image was cut.
_LIGHT, _CHANNEL = 24, 64
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_STRAY = 0.01  # share of a line's pixels that may differ by more
_N_FRAMES = 4  # one inside the other
_LEAST = 0.1  # of each side; less is taken for a mistake


def trimmed(image: Image.Image) -> Image.Image:
    """Return `image` without borders of one colour, on whichever sides it has them.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB.

    Returns
    -------
    PIL.Image.Image
        The whole image where no more than a tenth of a side would be left: one of a
        single colour, or a dot on an empty page.

    Examples
    --------
    >>> film = Image.new("RGB", (64, 48))
    >>> film.paste(Image.radial_gradient("L").resize((64, 30)), (0, 9))
    >>> trimmed(film).size
    (64, 30)
    """
    pixels = np.asarray(image)
    box = _inner_box(pixels)
    height, width = pixels.shape[:2]
    left, top, right, bottom = box
    if right - left < _LEAST * width or bottom - top < _LEAST * height:
        return image
    return image if box == (0, 0, width, height) else image.crop(box)


def _inner_box(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what lies inside all borders."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = 0, 0, width, height
    for _ in range(_N_FRAMES):
        rows = pixels[top:bottom, left:right]
        above, below = _border(rows), _border(rows[::-1])
        top, bottom = top + above, bottom - below
        columns = pixels[top:bottom, left:right].swapaxes(0, 1)
        before, after = _border(columns), _border(columns[::-1])
        left, right = left + before, right - after
        if not (above or below or before or after):
            break
    return left, top, right, bottom


def _border(lines: np.ndarray) -> int:
    """Return how many lines from the first on have the first one's colour."""
    if 0 in lines.shape:
        return 0
    colour = np.median(lines[0], axis=0).astype(np.int16)
    for index, line in enumerate(lines):
        apart = np.abs(line - colour)
        stray = (apart @ _LUMINANCE > _LIGHT) | (apart > _CHANNEL).any(axis=1)
        if np.count_nonzero(stray) > _STRAY * len(line):
            return index
    return len(lines)


WHOLE = ("whole",)
_VERSION = 1  # raise it when a change here or in `trim` could change a vector
_CENTRE = math.sqrt(0.5)  # of each side: half of the area
_TRIMMED = 2  # borders may take half of a side before detail is lost in decoding


@dataclass(frozen=True)
class Looks:
    """Which images stand for one image, and how their vectors become one.

    Parameters
    ----------
    trim : bool, default=False
        Whether borders of one colour are cut off, before anything else.
    flip : bool, default=False
        Whether a vector is the mean of those of the image and its mirror image,
        taken before any scaling to length 1.
    views : sequence of {"whole", "centre", "grey"}, default=("whole",)
        ``whole`` is the image as it is, ``centre`` its middle, half of the area in
        its own proportions, ``grey`` its luminance in all three channels. The vectors
        of several views are brought to length 1 and concatenated.

    Examples
    --------
    >>> looks = Looks(flip=True, views=("whole", "centre"))
    >>> [[one.size for one in mirrored] for mirrored in looks(Image.new("L", (20, 10)))]
    [[(20, 10), (20, 10)], [(14, 7), (14, 7)]]
    >>> str(looks), str(Looks())
    ('|looks1 flip views=whole,centre', '')
    """

    trim: bool = False
    flip: bool = False
    views: tuple[str, ...] = WHOLE

    def __post_init__(self) -> None:
        check_views(self.views)

    def __call__(self, image: Image.Image) -> list[list[Image.Image]]:
        """Return a list a view: the image, and its mirror image if `flip`."""
        if self.trim:
            image = trimmed(image)
        images = [image, ImageOps.mirror(image)] if self.flip else [image]
        return [[VIEWS[view](one) for one in images] for view in self.views]

    def __str__(self) -> str:
        """Return what fingerprints say of it: nothing if an image stays as it is."""
        parts = [name for name in ("trim", "flip") if getattr(self, name)]
        if self.views != WHOLE:
            parts.append(f"views={','.join(self.views)}")
        return f"|looks{_VERSION} {' '.join(parts)}" if parts else ""

    @property
    def is_plain(self) -> bool:
        """Whether one image goes in as it is, trimmed at most."""
        return not self.flip and self.views == WHOLE

    def shrink_to(self, size: int) -> int:
        """Return the short side to decode at where views should have `size`."""
        size *= _TRIMMED if self.trim else 1
        return math.ceil(size / _CENTRE) if "centre" in self.views else size


def check_views(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of views, each known and there once.

    Examples
    --------
    >>> check_views("whole,grey".split(","))
    ('whole', 'grey')
    """
    names = tuple(names)
    legal, given = ", ".join(VIEWS), ",".join(names)
    if not names or set(names) - set(VIEWS):
        msg = f"views={given!r}: name one or more of {legal}, joined by commas"
        raise UsageError(msg)
    if len(set(names)) < len(names):
        msg = f"views={given!r} names one of {legal} twice"
        raise UsageError(msg)
    return names


def _centre(image: Image.Image) -> Image.Image:
    width, height = (max(1, round(side * _CENTRE)) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


VIEWS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "whole": lambda image: image,
    "centre": _centre,
    "grey": lambda image: image.convert("L").convert("RGB"),
}
# What every vectorizer that looks at images takes after its question mark.
LOOK_OPTIONS: Options = {
    "trim": truth,
    "flip": truth,
    "views": lambda text: check_views(text.split(",")),
}


@dataclass(kw_only=True, eq=False, repr=False)
class LooksVectorizer(Vectorizer):
    """Base of vectorizers that see an image as `Looks` shows it.

    Parameters
    ----------
    trim, flip, views : bool, bool, sequence of str
        See `Looks`; by default the image as it is.
    """

    OPTIONS: ClassVar[Options] = LOOK_OPTIONS

    trim: bool = False
    flip: bool = False
    views: tuple[str, ...] = WHOLE

    @loaded
    def looks(self) -> Looks:
        """Which images stand for one image."""
        return Looks(self.trim, self.flip, tuple(self.views))
