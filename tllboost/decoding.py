"""The bytes of one picture to upright RGB: a fixed list of formats, a cap of pixels.

What runs here meets a stranger's bytes in a dozen decoders: it is called in processes
that have limits and nothing to lose, see `tllboost.decoders`.
"""

from __future__ import annotations

import functools
import io
import os

from PIL import Image, UnidentifiedImageError

from tllboost.errors import ImageError
from tllboost.pixels import upright_rgb

__all__ = ["FORMATS", "MAX_PIXELS", "decode"]

MAX_PIXELS = 50_000_000

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


def decode(
    data: bytes,
    *,
    path: str | os.PathLike[str] = "<bytes>",
    max_pixels: int = MAX_PIXELS,
    shrink_to: int | None = None,
) -> Image.Image:
    """Return the picture in `data` as upright RGB.

    Parameters
    ----------
    data : bytes
        The content of a picture's file.
    path : path-like, default="<bytes>"
        What to call it in the error.
    max_pixels : int, default=50_000_000
        Width times height above which the picture is refused, before it is decoded.
    shrink_to : int, optional
        The short side that is enough: a JPEG is decoded at a half, a quarter or an
        eighth, never below it.

    Raises
    ------
    ImageError
        If the bytes are no picture that can be read.
    MemoryError
        If they would take more than this process may.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            _check_pixels(image, path, max_pixels)
            # The same size twice: before the EXIF turn, no side is the short one.
            if shrink_to is not None and image.format in ("JPEG", "MPO"):
                image.draft(None, (shrink_to, shrink_to))
            image.load()
            return upright_rgb(image)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise ImageError(path, _reason(error, data)) from error


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this Pillow was built with, of those we decode."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_pixels(
    image: Image.Image, path: str | os.PathLike[str], max_pixels: int
) -> None:
    width, height = image.size
    if width * height > max_pixels:
        reason = (
            f"{width} × {height} is too many pixels (at most {max_pixels:,} allowed)"
        )
        raise ImageError(path, reason)


def _reason(error: Exception, data: bytes) -> str:
    if isinstance(error, UnidentifiedImageError):
        if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1"):
            return "HEIC is not supported: save it as JPEG or PNG"
        return "is not a picture in a format that tllboost reads"
    if isinstance(error, Image.DecompressionBombError):
        return "has too many pixels"
    text = " ".join(str(error).split()) or type(error).__name__
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return f"the picture is truncated ({text})"
    return f"can't be decoded ({text})"
