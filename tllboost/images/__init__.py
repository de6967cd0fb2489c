"""Read one image safely, whatever its kind: always RGB, upright, or one clear error.

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
from tllboost.images.decoders import DECODERS, FORMATS

__all__ = [
    "DECODING",
    "IMAGE_SUFFIXES",
    "content_hash",
    "find_images",
    "open_image",
    "read_image_bytes",
]

MAX_BYTES = 100_000_000
ImagePath = str | os.PathLike[str]


def read_image_bytes(path: ImagePath) -> bytes:
    """Return the bytes of an image's file.

    Raises
    ------
    ImageError
        If it is no regular file, empty, too large or unreadable.
    """
    with _opened(path) as (file, size):
        if size == 0:
            raise ImageError(path, "the file is empty")
        data = file.read(size + 1)
        if len(data) != size:
            raise ImageError(path, "changed while it was read: run again")
        return data


def content_hash(path: ImagePath) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits.

    Raises
    ------
    ImageError
        If it is no regular file, too large or unreadable.
    """
    with _opened(path) as (file, _):
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _opened(path: ImagePath) -> Iterator[tuple[BufferedReader, int]]:
    """Open a regular file and tell its size, never waiting on a FIFO or a device."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        # Looked at before opening, since opening a device can have effects of its own,
        # and again after, since the name may have changed hands.
        _check(path, os.stat(path))
        descriptor = os.open(path, flags)
        with open(descriptor, "rb") as file:
            yield file, _check(path, os.fstat(descriptor))
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(path, f"can't be read ({reason})") from error


def _check(path: ImagePath, status: os.stat_result) -> int:
    """Return the size of what may be read."""
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(path, "is a folder, not an image")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(path, "is not a regular file (a pipe, socket or device)")
    size = status.st_size
    if size > MAX_BYTES:
        raise ImageError(path, f"has {size:,} bytes (at most {MAX_BYTES:,} allowed)")
    return size


IMAGE_SUFFIXES: frozenset[str] = frozenset(itertools.chain(*FORMATS.values()))
# Part of what a stored vector is kept under: raise it when a change below could change
# a pixel.
DECODING = "decoded 1"


def open_image(path: ImagePath, *, shrink_to: int | None = None) -> Image.Image:
    """Return the image in a file as upright RGB.

    The EXIF rotation is applied, transparency is laid on white, 16-bit and floating
    point greys are scaled to 8 bits, and of an animation the first frame is taken.

    Parameters
    ----------
    path : path-like
        A regular file (JPEG, PNG, GIF, BMP, TIFF, WebP, PNM, JPEG 2000 or AVIF) of at
        most 100,000,000 bytes and 50,000,000 pixels. Pillow's own limit stays in
        force too.
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
    return DECODERS.decode(read_image_bytes(path), path=path, shrink_to=shrink_to)


def find_images(folder: ImagePath, *, recursive: bool = False) -> list[Path]:
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
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = [one for one in folders if recursive and not one.startswith(".")]
        files = (Path(parent, name) for name in names if not name.startswith("."))
        found += [one for one in files if one.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(found)


def _refuse_folder(error: OSError) -> None:
    msg = (
        f"can't list the folder {str(error.filename)!r} ({error.strerror}): "
        "give a folder of images that may be read"
    )
    raise DataError(msg) from error
