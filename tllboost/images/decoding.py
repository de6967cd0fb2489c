"""The bytes of one image to upright 8-bit RGB: a fixed list of formats, few pixels.

What runs here meets a stranger's bytes in a dozen decoders: it is called in processes
that have limits and nothing to lose, see `tllboost.images.decoders`.
"""

from __future__ import annotations

import functools
import io
from contextlib import suppress
from typing import TYPE_CHECKING

from PIL import ExifTags, Image, UnidentifiedImageError

from tllboost.errors import ImageError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FORMATS", "MAX_PIXELS", "decode"]

# EXIF orientation -> the move that turns the image upright.
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
    """Return a loaded image of any mode as RGB: a new image, turned upright.

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
    move = None
    with suppress(Exception):  # a broken EXIF block is no reason to lose the image
        move = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    image = image if move is None else image.transpose(move)
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = Image.fromarray(_eight_bits(image))
    is_clear = "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    if is_clear or {"A", "a"} & set(image.getbands()):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    upright = image.convert("RGB")
    upright.info = {}  # or the rotation that it carries would be applied once more
    return upright


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


MAX_PIXELS = 50_000_000
_UNNAMED = "<bytes>"

FORMATS = {
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    "JPEG2000": (".jp2",),
    "PNG": (".png",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
"""The formats that are decoded, and their suffixes. Pillow knows many more; one of
them starts a PostScript interpreter."""


def decode(data: bytes, *, shrink_to: int | None = None) -> Image.Image:
    """Return the image in `data` as upright RGB.

    Parameters
    ----------
    data : bytes
        The content of an image's file.
    shrink_to : int, optional
        The short side that is enough: a JPEG is decoded at a half, a quarter or an
        eighth, never below it.

    Raises
    ------
    ImageError
        If the bytes are no image that can be read, or one of too many pixels, which is
        refused before it is decoded.
    MemoryError
        If they would take more than this process may.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                most = f"(at most {MAX_PIXELS:,} allowed)"
                msg = f"{width} × {height} is too many pixels {most}"
                raise ImageError(_UNNAMED, msg)
            # The same size twice: before the EXIF turn, no side is the short one.
            if shrink_to is not None and image.format in ("JPEG", "MPO"):
                image.draft(None, (shrink_to, shrink_to))
            image.load()
            return upright_rgb(image)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise ImageError(_UNNAMED, _reason(error, data)) from error


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this Pillow was built with, of those we decode."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _reason(error: Exception, data: bytes) -> str:
    if isinstance(error, UnidentifiedImageError):
        if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1"):
            return "HEIC is not supported: save it as JPEG or PNG"
        return "is not an image in a format that tllboost reads"
    if isinstance(error, Image.DecompressionBombError):
        return "has too many pixels"
    text = " ".join(str(error).split()) or type(error).__name__
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return f"the image is truncated ({text})"
    return f"can't be decoded ({text})"
