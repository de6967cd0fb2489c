"""Pictures as they might have been taken too: turned, shifted, nearer, lit otherwise.

Every draw hangs on the generator that is handed in and on nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from tllboost.errors import UsageError

__all__ = ["Augmentation"]


@dataclass(frozen=True)
class Augmentation:
    """How far a picture may be changed; every amount is drawn evenly up to its limit.

    Rotation, shifts and zoom are by default those of the 2017 Holidays fine-tuning.

    Parameters
    ----------
    rotation : float, default=10
        Degrees, either way, below 90.
    shift : float, default=0.2
        Part of the width, and of the height, either way.
    zoom : float, default=0.2
        Between ``1 - zoom`` and ``1 + zoom`` times as large.
    flip : bool, default=True
        Mirror every second picture.
    colour : float, default=0.3
        Brightness, contrast and saturation between ``1 - colour`` and ``1 + colour``
        times what they were.

    Raises
    ------
    UsageError
        If a limit is out of its range.

    Examples
    --------
    >>> picture = Image.new("RGB", (40, 30), "teal")
    >>> Augmentation()(picture, np.random.default_rng(0)).size
    (40, 30)
    """

    rotation: float = 10.0
    shift: float = 0.2
    zoom: float = 0.2
    flip: bool = True
    colour: float = 0.3

    def __post_init__(self) -> None:
        highest = {"rotation": 90.0, "shift": 1.0, "zoom": 1.0, "colour": 1.0}
        for name, limit in highest.items():
            value = getattr(self, name)
            if not 0 <= value < limit:
                msg = f"{name}={value!r} must be at least 0 and below {limit:g}"
                raise UsageError(msg)

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return a changed copy of an RGB picture, of the same size."""
        # All draws first: what one does must not move the draws of the next.
        turn, across, down = rng.uniform(-1, 1, 3) * (
            math.radians(self.rotation),
            self.shift * image.width,
            self.shift * image.height,
        )
        scale = 1 + rng.uniform(-self.zoom, self.zoom)
        mirror = self.flip and rng.random() < 0.5
        light = 1 + rng.uniform(-self.colour, self.colour, 3)
        image = _moved(image, turn, across, down, scale, mirror)
        kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for kind, factor in zip(kinds, light, strict=True):
            if factor != 1:
                image = kind(image).enhance(factor)
        return image


def _moved(
    image: Image.Image,
    turn: float,
    across: float,
    down: float,
    scale: float,
    mirror: bool,
) -> Image.Image:
    """Turn, scale and mirror about the centre, then shift; edges are continued."""
    width, height = image.size
    cos, sin = math.cos(turn) / scale, math.sin(turn) / scale
    # How far from the centre the corners reach for: black there would be a feature.
    reach_x, reach_y = width / 2 + abs(across), height / 2 + abs(down)
    beyond_x = _whole(cos * reach_x + abs(sin) * reach_y - width / 2)
    beyond_y = _whole(abs(sin) * reach_x + cos * reach_y - height / 2)
    padded = _continued(image, beyond_x, beyond_y)
    sign = -1 if mirror else 1
    x, y = width / 2 + across, height / 2 + down
    # Pillow asks where in the source each pixel of the result comes from.
    matrix = (
        sign * cos,
        sign * sin,
        width / 2 + beyond_x - sign * (cos * x + sin * y),
        -sin,
        cos,
        height / 2 + beyond_y + sin * x - cos * y,
    )
    return padded.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )


def _whole(pixels: float) -> int:
    return max(0, math.ceil(pixels)) + 1


def _continued(image: Image.Image, beyond_x: int, beyond_y: int) -> Image.Image:
    """Return `image` with its outermost pixels repeated on all sides."""
    margins = ((beyond_y, beyond_y), (beyond_x, beyond_x), (0, 0))
    return Image.fromarray(np.pad(np.asarray(image), margins, mode="edge"))
