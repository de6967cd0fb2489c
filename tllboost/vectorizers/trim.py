"""Cut borders of one colour off a picture: letterbox bars, frames, passe-partouts."""

from __future__ import annotations

import numpy as np
from PIL import Image

__all__ = ["trimmed"]

# Of 255, in light and in any one channel. JPEG files keep colour at half the
# resolution, so that it bleeds some lines into a bar: with these two, and qualities of
# 50 to 95, at most one line of a bar was left and no line of a picture was cut.
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
        The whole picture where no more than a tenth of a side would be left: one of a
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
