"""The bytes of an image's file: regular files only, whatever the name points at.

Read one image safely, whatever its kind: always RGB, upright, or one clear error.

An image is untrusted input. It is read once and whole from a regular file (no FIFO
can hang the run), by a list of image formats only (no PostScript interpreter), under
limits of bytes and pixels, in a process with limits of time and memory. What fails,
fails as `ImageError` with the path and reason.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from PIL import Image

from tllboost.errors import DataError, ImageError
from tllboost.images.decoders import DECODERS
from tllboost.images.decoding import FORMATS, MAX_PIXELS

__all__ = [
    "DECODING",
    "IMAGE_SUFFIXES",
    "content_hash",
    "decode_image",
    "find_images",
    "open_image",
    "read_image_bytes",
]

MAX_BYTES = 100_000_000
_BLOCK = 1 << 20


def read_image_bytes(
    path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES
) -> bytes:
    """Return the bytes of an image's file.

    Raises
    ------
    ImageError
        If it is no regular file, empty, too large or unreadable.
    """
    with _opened(path) as (file, size):
        if size == 0:
            raise ImageError(path, "the file is empty")
        _check_size(path, size, max_bytes)
        data = file.read(size + 1)
        if len(data) != size:
            raise ImageError(path, "changed while it was read: run again")
        return data


def content_hash(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits.

    Raises
    ------
    ImageError
        If it is no regular file, too large or unreadable.
    """
    digest, n_bytes = hashlib.sha256(), 0
    with _opened(path) as (file, size):
        _check_size(path, size, max_bytes)
        while block := file.read(_BLOCK):
            n_bytes += len(block)
            _check_size(path, n_bytes, max_bytes)
            digest.update(block)
    return digest.hexdigest()


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


def _check_size(path: str | os.PathLike[str], size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ImageError(path, f"has {size:,} bytes (at most {max_bytes:,} allowed)")


def _check_regular(path: str | os.PathLike[str], status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(path, "is a folder, not an image")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(path, "is not a regular file (a pipe, socket or device)")


IMAGE_SUFFIXES: frozenset[str] = frozenset(itertools.chain(*FORMATS.values()))
# Part of what a stored vector is kept under: raise it when a change below could change
# a pixel.
DECODING = "decoded 1"


def open_image(
    path: str | os.PathLike[str],
    *,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    shrink_to: int | None = None,
) -> Image.Image:
    """Return the image in a file as upright RGB.

    The EXIF rotation is applied, transparency is laid on white, 16-bit and floating
    point greys are scaled to 8 bits, and of an animation the first frame is taken.

    Parameters
    ----------
    path : path-like
        A regular file (JPEG, PNG, GIF, BMP, TIFF, WebP, PNM, JPEG 2000 or AVIF).
    max_pixels : int, default=50_000_000
        Width times height above which the image is refused. Pillow's own limit
        stays in force too.
    max_bytes : int, default=100_000_000
        File size above which it is refused.
    shrink_to : int, optional
        The short side, in pixels, that is enough. A large JPEG is then decoded at a
        half, a quarter or an eighth, never below this size: several times faster.

    Raises
    ------
    ImageError
        If the file is no image that can be read; the reason says why.

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


def decode_image(
    data: bytes,
    *,
    path: str | os.PathLike[str] = "<bytes>",
    max_pixels: int = MAX_PIXELS,
    shrink_to: int | None = None,
) -> Image.Image:
    """Return the image in `data` as upright RGB: `open_image` without the file.

    Parameters
    ----------
    data : bytes
        The content of an image's file.
    path : path-like, default="<bytes>"
        What to call it in the error.
    max_pixels, shrink_to
        As in `open_image`.

    Raises
    ------
    ImageError
        If the bytes are no image that can be read.
    """
    return DECODERS.decode(data, path=path, max_pixels=max_pixels, shrink_to=shrink_to)


def find_images(
    folder: str | os.PathLike[str], *, recursive: bool = False
) -> list[Path]:
    """Return the images in a folder, sorted, told by their suffix.

    Hidden files are left out. Broken links and other oddities with an image's name
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
        "give a folder of images that may be read"
    )
    raise DataError(msg) from error
