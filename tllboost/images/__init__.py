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
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from PIL import Image

from tllboost.errors import DataError, ImageError
from tllboost.images.decoders import DECODERS, FORMATS, MAX_PIXELS, max_pixels

MAX_BYTES = 100_000_000
"""What a file may have; more where more pixels are allowed."""

# What storage devices, archives and file systems put beside the images.
_SYSTEM = re.compile(r"@eadir|[@#$]recycle(\.bin)?|__macosx|lost\+found", re.I)
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
    most = max(MAX_BYTES, MAX_BYTES * max_pixels() // MAX_PIXELS)
    if size > most:
        raise ImageError(path, f"has {size:,} bytes (at most {most:,} allowed)")
    return size


IMAGE_SUFFIXES: frozenset[str] = frozenset(itertools.chain(*FORMATS.values()))
# A walk takes images of other formats as well, so that reading names them.
_TAKEN = (
    *(*IMAGE_SUFFIXES, ".arw", ".cr2", ".cr3", ".dng", ".ico", ".j2k", ".jpx", ".jxl"),
    *(".nef", ".orf", ".psd", ".raf", ".rw2", ".svg", ".tga"),
)
# Part of what a stored vector is kept under: raise it when a change below could change
# a pixel.
DECODING = "decoded 2"


def open_image(path: ImagePath, *, shrink_to: int | None = None) -> Image.Image:
    """Return the image in a file as upright RGB.

    The EXIF rotation is applied, colours are moved from an ICC profile to sRGB,
    transparency is laid on white, 16-bit and floating point greys are scaled to 8 bits,
    and of an animation the first frame is taken.

    Parameters
    ----------
    path : path-like
        A regular file (JPEG, PNG, GIF, BMP, TIFF, WebP, PNM, JPEG 2000, AVIF, and HEIC
        with the extra ``tllboost[heif]``) of at most 100,000,000 bytes and 50,000,000
        pixels, or what ``TLLBOOST_MAX_PIXELS`` says. Pillow's own limit stays in force
        too.
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


def find_images(
    folder: ImagePath, *, tell: Callable[[str], None] | None = None
) -> list[Path]:
    """Return the images in a folder and its subfolders, sorted, told by their suffix.

    Links to folders are followed, each folder is walked once. Broken links, formats
    that can't be read and other oddities with an image's name are kept, so that reading
    reports them instead of losing them.

    Parameters
    ----------
    folder : path-like
        Where to look.
    tell : callable, optional
        Called with one line if anything is skipped, that counts it by its kind:
        what is hidden, folders of the system, folders that can't be listed, links to
        folders that are walked already, and files that are no images.

    Raises
    ------
    DataError
        If the folder is not there or can't be listed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ["a.jpg", "b.txt"]:
    ...         Path(folder, name).touch()
    ...     told = []
    ...     [path.name for path in find_images(folder, tell=told.append)]
    ['a.jpg']
    >>> told[0].partition("skipped ")[2]
    "files that are not images (1, 'b.txt' first)"
    """
    found: list[Path] = []
    passed: dict[str, list[str]] = defaultdict(list)
    walked: set[str] = set()

    def note_closed(error: OSError) -> None:
        if not walked:
            why = f"can't list the folder {str(folder)!r} ({error.strerror})"
            msg = f"{why}: give a folder of images that may be read"
            raise DataError(msg) from error
        passed["folders that can't be listed"].append(error.filename)

    roots, top = [os.fspath(folder)], os.path.realpath(folder)
    for root in roots:  # links last: a folder has the name under which it lies there
        for parent, folders, names in os.walk(root, onerror=note_closed):
            real = os.path.realpath(parent)
            if real in walked or top.startswith(os.path.join(real, "")):
                passed["links to folders that are read anyway"].append(parent)
                folders[:], names = [], []
            walked.add(real)
            hidden = [one for one in (*folders, *names) if one.startswith(".")]
            passed["hidden files and folders"] += hidden
            shown = sorted(one for one in folders if not one.startswith("."))
            passed["folders of the system"] += filter(_SYSTEM.fullmatch, shown)
            folders[:] = [one for one in shown if not _SYSTEM.fullmatch(one)]
            paths = [os.path.join(parent, one) for one in folders]
            roots += filter(os.path.islink, paths)
            shown = [one for one in names if not one.startswith(".")]
            images = [one for one in shown if one.lower().endswith(_TAKEN)]
            passed["files that are not images"] += {*shown} - {*images}
            found += [Path(parent, one) for one in images]
    kinds = [f"{kind} ({len(o)}, {min(o)!r} first)" for kind, o in passed.items() if o]
    if kinds and tell is not None:
        tell(f"{folder}: skipped {', '.join(sorted(kinds))}")
    return sorted(found)
