"""Read one picture safely, whatever its kind: always RGB, upright, or one clear error.

A picture is untrusted input. It is read once and whole from a regular file (no FIFO
can hang the run), by a list of picture formats only (no PostScript interpreter), under
limits of bytes and pixels. What fails, fails as `ImageError` with the path and reason.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from tllboost.errors import DataError, ImageError

__all__ = [
    "DECODING",
    "IMAGE_SUFFIXES",
    "content_hash",
    "decode_image",
    "find_images",
    "open_image",
    "read_image_bytes",
]

# Suffixes of the formats that are decoded. Pillow knows many more formats; one of them
# starts a PostScript interpreter.
_SUFFIXES = {
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
IMAGE_SUFFIXES: frozenset[str] = frozenset(itertools.chain(*_SUFFIXES.values()))
# Part of what a stored vector is kept under: raise it when a change below could change
# a pixel.
DECODING = "decoded 1"
_MAX_PIXELS = 50_000_000
_MAX_BYTES = 100_000_000

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


def open_image(
    path: str | os.PathLike[str],
    *,
    max_pixels: int = _MAX_PIXELS,
    max_bytes: int = _MAX_BYTES,
    shrink_to: int | None = None,
) -> Image.Image:
    """Return the picture in a file as upright RGB.

    The EXIF rotation is applied, transparency is laid on white, 16-bit and floating
    point greys are scaled to 8 bits, and of an animation the first frame is taken.

    Parameters
    ----------
    path : path-like
        A regular file (JPEG, PNG, GIF, BMP, TIFF, WebP, PNM, JPEG 2000 or AVIF).
    max_pixels : int, default=50_000_000
        Width times height above which the picture is refused. Pillow's own limit
        stays in force too.
    max_bytes : int, default=100_000_000
        File size above which it is refused.
    shrink_to : int, optional
        The short side, in pixels, that is enough. A large JPEG is then decoded at a
        half, a quarter or an eighth, never below this size: several times faster.

    Raises
    ------
    ImageError
        If the file is no picture that can be read; the reason says why.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = folder + "/glass.png"
    ...     Image.new("RGBA", (4, 3), (0, 0, 0, 0)).save(path)
    ...     image = open_image(path)
    >>> image.mode, image.size, image.getpixel((0, 0))
    ('RGB', (4, 3), (255, 255, 255))
    """
    data = read_image_bytes(path, max_bytes=max_bytes)
    return decode_image(data, path=path, max_pixels=max_pixels, shrink_to=shrink_to)


def read_image_bytes(
    path: str | os.PathLike[str], *, max_bytes: int = _MAX_BYTES
) -> bytes:
    """Return the bytes of a picture's file.

    Raises
    ------
    ImageError
        If it is no regular file, empty, too large or unreadable.
    """
    with _opened(path) as (file, size):
        if size == 0:
            raise ImageError(path, "the file is empty")
        if size > max_bytes:
            raise ImageError(
                path,
                f"has {size:,} bytes (at most {max_bytes:,} allowed)",
            )
        return file.read()


def decode_image(
    data: bytes,
    *,
    path: str | os.PathLike[str] = "<bytes>",
    max_pixels: int = _MAX_PIXELS,
    shrink_to: int | None = None,
) -> Image.Image:
    """Return the picture in `data` as upright RGB: `open_image` without the file.

    Parameters
    ----------
    data : bytes
        The content of a picture's file.
    path : path-like, default="<bytes>"
        What to call it in the error.
    max_pixels, shrink_to
        As in `open_image`.

    Raises
    ------
    ImageError
        If the bytes are no picture that can be read.
    """
    with _quiet_pillow():
        try:
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                _check_pixels(image, path, max_pixels)
                # The same size twice: before the EXIF turn, no side is the short one.
                if shrink_to is not None and image.format in ("JPEG", "MPO"):
                    image.draft(None, (shrink_to, shrink_to))
                image.load()
                return _rgb(_upright(image))
        except ImageError:
            raise
        except Exception as error:  # Pillow's decoders raise a dozen kinds
            raise ImageError(path, _reason(error, data)) from error


def content_hash(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits.

    Raises
    ------
    ImageError
        If it is no regular file or can't be read.
    """
    with _opened(path) as (file, _):
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_images(
    folder: str | os.PathLike[str], *, recursive: bool = False
) -> list[Path]:
    """Return the pictures in a folder, sorted, told by their suffix.

    Hidden files are left out. Broken links and other oddities with a picture's name
    are kept, so that reading reports them instead of losing them.

    Parameters
    ----------
    folder : path-like
        Where to look.
    recursive : bool, default=False
        Look in its subfolders too (links to folders are not followed).

    Raises
    ------
    DataError
        If the folder is not there or can't be listed.
    """
    root = Path(folder)
    found = []
    for parent, folders, names in os.walk(root, onerror=_refuse_folder):
        if not recursive:
            folders.clear()
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if _looks_like_image(name)]
    return sorted(found)


def _looks_like_image(name: str) -> bool:
    return (
        not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
    )


def _refuse_folder(error: OSError) -> None:
    msg = (
        f"can't list the folder {str(error.filename)!r} ({error.strerror}): "
        "give a folder of pictures"
    )
    raise DataError(msg) from error


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this Pillow was built with, of those we decode."""
    Image.init()
    return tuple(name for name in _SUFFIXES if name in Image.OPEN)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[BufferedReader, int]]:
    """Open a regular file and tell its size, never waiting on a FIFO or a device."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        # Looked at before opening, since opening a device can have effects of its own,
        # and again after, since the name may have changed hands.
        _check_regular(path, os.stat(path))
        descriptor = os.open(path, flags)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _check_regular(path, status)
            yield file, status.st_size
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError(path, f"can't be read ({reason})") from error
    except ValueError as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(path, f"can't be read ({error})") from error


def _check_regular(path: str | os.PathLike[str], status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(path, "is a folder, not a picture")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(path, "is not a regular file (a pipe, socket or device)")


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_filters: warnings.catch_warnings | None = None


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Ignore Pillow's own warnings, from any number of threads at once.

    `catch_warnings` swaps the process's filters, so threads that each entered one
    could leave by restoring each other's: the first one in and the last one out do
    it for all.
    """
    global _quiet_depth, _quiet_filters
    with _quiet_lock:
        if _quiet_depth == 0:
            _quiet_filters = warnings.catch_warnings()
            _quiet_filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\b")
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0 and _quiet_filters is not None:
                _quiet_filters.__exit__(None, None, None)
                _quiet_filters = None


def _check_pixels(
    image: Image.Image, path: str | os.PathLike[str], max_pixels: int
) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            path,
            f"{width} × {height} is too many pixels (at most {max_pixels:,} allowed)",
        )


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a broken EXIF block is no reason to lose the picture
        return image
    move = _UPRIGHT.get(orientation)  # type: ignore[arg-type]
    return image if move is None else image.transpose(move)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = Image.fromarray(_eight_bits(image))
    if "A" in image.getbands() or "a" in image.getbands() or _has_clear_colour(image):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    # A copy, for the caller's picture to outlive the file that Pillow closes.
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _has_clear_colour(image: Image.Image) -> bool:
    return "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Return a grey of 16 or 32 bits as uint8, from its scale or else its range."""
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
