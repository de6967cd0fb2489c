"""The process that decodes: images in, pixels out, until its input ends.

It has a limit on memory, writes no file, and neither reads nor writes anything but
plain bytes: numbers of a fixed width, then the image, its pixels, or a reason.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import warnings
from contextlib import suppress
from typing import BinaryIO

from PIL import Image

from tllboost.errors import ImageError
from tllboost.images.decoding import decode

__all__ = ["READY", "REPLY", "REQUEST"]

READY = b"R"
REQUEST = struct.Struct("<QQQQ")
"""Bytes of the image, most pixels, Pillow's own limit, short side that is enough."""
REPLY = struct.Struct("<?QQ")
"""Whether it worked; then width and height, or the bytes of the reason and 0."""


def serve(max_memory: int) -> None:
    """Decode what comes on standard input, answering on standard output.

    Parameters
    ----------
    max_memory : int
        Bytes of memory that this process may take, where the system knows such a limit.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end
    warnings.simplefilter("ignore")
    Image.init()
    _one_thread()
    requests, replies = sys.stdin.buffer, _own_output()
    _limit(max_memory)
    replies.write(READY)
    replies.flush()
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        n_bytes, max_pixels, pillow_limit, shrink_to = REQUEST.unpack(head)
        Image.MAX_IMAGE_PIXELS = pillow_limit or None
        _answer(replies, requests.read(n_bytes), max_pixels, shrink_to or None)
        replies.flush()


def _answer(
    replies: BinaryIO, data: bytes, max_pixels: int, shrink_to: int | None
) -> None:
    try:
        image = decode(data, max_pixels=max_pixels, shrink_to=shrink_to)
        pixels = image.tobytes()
    except ImageError as error:
        _refuse(replies, error.reason)
    except MemoryError:
        _refuse(replies, "can't be decoded (it needs more memory than an image may)")
    else:
        replies.write(REPLY.pack(True, *image.size))
        replies.write(pixels)


def _refuse(replies: BinaryIO, reason: str) -> None:
    text = reason.encode("utf-8", "backslashreplace")
    replies.write(REPLY.pack(False, len(text), 0))
    replies.write(text)


def _own_output() -> BinaryIO:
    """Return standard output, out of reach of libraries that print to it."""
    own = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(own, "wb")


def _one_thread() -> None:
    """Let AVIF be decoded by one thread: each more takes address space of its own."""
    with suppress(ImportError):
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def _limit(max_memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the parent watches
        return
    limits = (
        (resource.RLIMIT_AS, max_memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    )
    for kind, most in limits:
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (most, most))
        except (OSError, ValueError):  # macOS refuses some: the parent watches
            continue
