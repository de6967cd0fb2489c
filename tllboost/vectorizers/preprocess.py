"""From an RGB image to a network's input, the same for every kind of network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from tllboost.errors import UsageError

__all__ = ["FITS", "IMAGENET_MEAN", "IMAGENET_STD", "Preprocessing"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FITS = ("crop", "squash", "pad")
_VERSION = 1  # raise it when a change below could change a vector


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
                f"mean={self.mean}, std={self.std}: needs one number a channel, three "
                "each, and no std of zero or less"
            )
            raise UsageError(msg)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Return `image` (RGB) as float32 of shape (3, height, width)."""
        pixels = np.asarray(getattr(self, f"_{self.fit}")(image)).transpose(2, 0, 1)
        scale, shift = self._scale_and_shift
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
            f"pixels{_VERSION} {self.fit}{crop} {height}x{width} {self.interpolation} "
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

    @cached_property
    def _scale_and_shift(self) -> np.ndarray:
        mean, std = np.array(self.mean), np.array(self.std)
        pair = np.array([1 / (255 * std), mean / std], dtype=np.float32)
        return pair[..., None, None]

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
