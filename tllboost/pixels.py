"""Any decoded picture as 8-bit RGB, upright, on white."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import ExifTags, Image

if TYPE_CHECKING:
    import numpy as np

__all__ = ["upright_rgb"]

# EXIF orientation -> the move that turns the picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded picture of any mode as RGB: a new picture, turned upright.

    Transparency is laid on white. A grey of 16 bits is scaled by 65,535, floating
    point by 1 or 255 if it fits in there; what fits no scale is stretched from its
    lowest to its highest value.

    Parameters
    ----------
    image : PIL.Image.Image
        Loaded; its EXIF block says how it was held.

    Raises
    ------
    ValueError
        If pixels are NaN or infinite, or the mode has no way to RGB.

    Examples
    --------
    >>> upright_rgb(Image.new("LA", (2, 2), (0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    upright = _rgb(_upright(image))
    upright.info = {}  # or the rotation that it carries would be applied once more
    return upright


def _upright(image: Image.Image) -> Image.Image:
    try:
        move = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken EXIF block is no reason to lose the picture
        move = None
    return image if move is None else image.transpose(move)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = Image.fromarray(_eight_bits(image))
    if "A" in image.getbands() or "a" in image.getbands() or _has_clear_colour(image):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _has_clear_colour(image: Image.Image) -> bool:
    return "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Return a grey of 16 or 32 bits as uint8, from its scale or else its range."""
    import numpy as np

    pixels = np.asarray(image).astype(np.float64)
    if not np.isfinite(pixels).all():
        msg = "it has pixels that are NaN or infinite"
        raise ValueError(msg)
    low, high = float(pixels.min()), float(pixels.max())
    scales = (1.0, 255.0) if image.mode == "F" else (65535.0,)
    for scale in scales:
        if low >= 0 and high <= scale:
            break
    else:
        pixels, scale = pixels - low, (high - low) or 1.0
    return np.rint(pixels * (255.0 / scale)).astype(np.uint8)
