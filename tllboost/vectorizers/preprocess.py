"""From an image to a network's input, the same for every kind of network.

Which images stand for one: without borders, mirrored, in several views. Borders are
letterbox bars, frames, passe-partouts: lines of one colour. Then how an image becomes
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from tllboost.errors import UsageError
from tllboost.processes import beyond_memory

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
    height, width = pixels.shape[:2]
    left, top, right, bottom = 0, 0, width, height
    for _ in range(_N_FRAMES):
        rows = pixels[top:bottom, left:right]
        above, below = _border(rows), _border(rows[::-1])
        top, bottom = top + above, bottom - below
        columns = pixels[top:bottom, left:right].swapaxes(0, 1)
        before, after = _border(columns), _border(columns[::-1])
        left, right = left + before, right - after
    if right - left < _LEAST * width or bottom - top < _LEAST * height:
        return image
    box = (left, top, right, bottom)
    return image if box == (0, 0, width, height) else image.crop(box)


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
_LOOKS = 1  # raise it when a change here or in `trim` could change a vector
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
        names, legal = self.views, ", ".join(VIEWS)
        if not names or set(names) - set(VIEWS) or len(set(names)) < len(names):
            given = ",".join(names)
            msg = f"views={given!r}: name one or more of {legal}, each once"
            raise UsageError(msg)

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
        return f"|looks{_LOOKS} {' '.join(parts)}" if parts else ""

    @property
    def is_plain(self) -> bool:
        """Whether one image goes in as it is, trimmed at most."""
        return not self.flip and self.views == WHOLE

    def shrink_to(self, size: int) -> int:
        """Return the short side to decode at where views should have `size`."""
        size *= _TRIMMED if self.trim else 1
        return math.ceil(size / _CENTRE) if "centre" in self.views else size


def _centre(image: Image.Image) -> Image.Image:
    width, height = (max(1, round(side * _CENTRE)) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


VIEWS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "whole": lambda image: image,
    "centre": _centre,
    "grey": lambda image: image.convert("L").convert("RGB"),
}


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FITS = ("crop", "squash", "pad")
# A pixel of 32 images, prepared, waiting, and as one array: float32, three channels.
_BATCH_BYTES = 32 * 3 * 12
_PIXELS = 1  # raise it when a change below could change a vector


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an array of shape (3, height, width).

    Parameters
    ----------
    size : (int, int)
        Height and width of the network's input.
    fit : {"crop", "squash", "pad"}, default="crop"
        ``crop`` scales the short side to ``size / crop_pct`` and cuts the centre, as
        timm and torchvision do. ``squash`` scales the whole image to the input,
        whatever its proportions. ``pad`` keeps proportions and whole image, with
        bars of the mean colour. ``crop`` is the default because it was measured
        best: among 20, a photo finds its DVD cover 45 % of the time against 33 %
        squashed (MobileNetV2); on Totally-Looks-Like the two are equal.
    crop_pct : float, default=0.875
        Part of the scaled short side that the crop keeps.
    interpolation : {"bicubic", "bilinear", "lanczos", "nearest"}
        Of the scaling, in Pillow's antialiased form.
    mean, std : tuple of 3 floats
        Of the channels in [0, 1]; subtracted, divided by.

    Examples
    --------
    >>> Preprocessing((224, 224))(Image.new("RGB", (200, 245))).shape
    (3, 224, 224)
    """

    size: tuple[int, int]
    fit: str = "crop"
    crop_pct: float = 0.875
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            msg = f"unknown fit {self.fit!r}: choose one of {', '.join(FITS)}"
            raise UsageError(msg)
        if not (len(self.mean) == len(self.std) == 3 and min(self.std) > 0):
            msg = (
                f"mean={self.mean}, std={self.std}: give three numbers for each, one "
                "for each channel, and no std of zero or less"
            )
            raise UsageError(msg)

        n_bytes = _BATCH_BYTES * math.prod(self.size)
        if n_bytes > 2**30 and (told := beyond_memory(n_bytes)):
            size = " × ".join(map(str, self.size))
            msg = f"images of {size} pixels take {told}: choose a smaller size"
            raise UsageError(msg)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Return `image` (RGB) as float32 of shape (3, height, width)."""
        pixels = np.asarray(getattr(self, f"_{self.fit}")(image)).transpose(2, 0, 1)
        mean, std = (np.array(one)[:, None, None] for one in (self.mean, self.std))
        scale, shift = np.array([1 / (255 * std), mean / std], dtype=np.float32)
        scaled = np.multiply(pixels, scale, dtype=np.float32, order="C")
        scaled -= shift
        return scaled

    def __str__(self) -> str:
        height, width = self.size
        mean, std = (
            ",".join(f"{x:.6g}" for x in part) for part in (self.mean, self.std)
        )
        crop = f":{self.crop_pct:.6g}" if self.fit == "crop" else ""
        return (
            f"pixels{_PIXELS} {self.fit}{crop} {height}x{width} {self.interpolation} "
            f"mean={mean} std={std}"
        )

    @property
    def shrink_to(self) -> int:
        """Short side below which decoding may not shrink an image."""
        return max(self._cover) if self.fit == "crop" else max(self.size)

    @property
    def _cover(self) -> tuple[int, int]:
        height, width = self.size
        return int(height / self.crop_pct), int(width / self.crop_pct)

    def _resize(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        method = Image.Resampling[self.interpolation.upper()]
        return image if image.size == size else image.resize(size, method)

    def _crop(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        cover_height, cover_width = self._cover
        # Integer arithmetic as in torchvision, whose resized sizes these must equal.
        if cover_height * width <= cover_width * height:
            size = (cover_width, max(cover_width * height // width, self.size[0]))
        else:
            size = (max(cover_height * width // height, self.size[1]), cover_height)
        resized = self._resize(image, size)
        top = round((size[1] - self.size[0]) / 2)
        left = round((size[0] - self.size[1]) / 2)
        return resized.crop((left, top, left + self.size[1], top + self.size[0]))

    def _squash(self, image: Image.Image) -> Image.Image:
        return self._resize(image, (self.size[1], self.size[0]))

    def _pad(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        factor = min(width / image.width, height / image.height)
        across, down = (max(1, round(side * factor)) for side in image.size)
        colour = tuple(round(255 * channel) for channel in self.mean)
        padded = Image.new("RGB", (width, height), colour)
        corner = (width - across) // 2, (height - down) // 2
        padded.paste(self._resize(image, (across, down)), corner)
        return padded
