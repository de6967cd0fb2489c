"""The bytes of a picture's file: regular files only, whatever the name points at."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader

from tllboost.errors import ImageError

__all__ = ["MAX_BYTES", "content_hash", "read_image_bytes"]

MAX_BYTES = 100_000_000
_BLOCK = 1 << 20


def read_image_bytes(
    path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES
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
        raise ImageError(path, "is a folder, not a picture")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(path, "is not a regular file (a pipe, socket or device)")
