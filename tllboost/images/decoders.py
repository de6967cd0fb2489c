"""Decode images in processes of their own, under limits of time and memory.

An image that makes a decoder run on, grow or crash ends its process and becomes one
`ImageError`; the next image gets a new process. They start when first needed and are
kept: at most one a core. They write no file, and what they answer is never unpickled:
it is numbers of a fixed width, then the pixels or a reason.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress

from PIL import Image

from tllboost.errors import ImageError, printable
from tllboost.images.decoding import MAX_PIXELS, decode
from tllboost.processes import Pool, ProcessDied, Worker, resident

__all__ = ["DECODERS", "Decoders"]

_LONGEST_REASON = 10_000
# Elsewhere the system does not hold a process to its memory: it is watched.
_ON_LINUX = sys.platform.startswith("linux")
_REQUEST = struct.Struct("<QQ")
"""Pillow's own limit of pixels, short side that is enough; then the image."""
_REPLY = struct.Struct("<?QQ")
"""Whether it worked, width and height; then the pixels or the reason."""


class Decoders:
    """Processes that decode; any number of threads may ask at once.

    Parameters
    ----------
    seconds : float, default=60
        What an image may take.
    memory : int, default=2 GiB
        Bytes that the process of an image may take.
    """

    def __init__(self, *, seconds: float = 60.0, memory: int = 2 << 30) -> None:
        self.seconds = seconds
        self.memory = memory
        self.pool = Pool(self._start, most=max(2, os.cpu_count() or 1))

    def _start(self) -> Worker:
        return Worker(
            "tllboost.images.decoders:start",
            str(self.memory),
            options=("-I", "-S"),
            stderr=subprocess.DEVNULL,
            environment={"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        )

    def decode(
        self,
        data: bytes,
        *,
        path: str | os.PathLike[str] = "<bytes>",
        shrink_to: int | None = None,
    ) -> Image.Image:
        """Return the image in `data` as upright RGB: `decoding.decode`, elsewhere.

        Parameters
        ----------
        data : bytes
            The content of an image's file.
        path : path-like, default="<bytes>"
            What to call it in the error.
        shrink_to : int, optional
            The short side that is enough, as in `tllboost.images.open_image`.

        Raises
        ------
        ImageError
            If it is no image that can be read within the limits.
        DataError
            If no process can be started.
        """
        head = _REQUEST.pack(Image.MAX_IMAGE_PIXELS or 0, shrink_to or 0)
        most = _REPLY.size + max(3 * MAX_PIXELS, _LONGEST_REASON)
        for last in (False, True):
            try:
                with self.pool.worker() as worker:
                    answer = worker.ask(head, data, look=self._look, most=most)
                break
            except ProcessDied as error:
                # Once more: what died may have been ended from outside.
                if last or error.verdict:
                    reason = error.verdict or f"crashed its decoder ({error})"
                    raise ImageError(path, reason) from None
        try:
            worked, width, height = _REPLY.unpack_from(answer)
            body = memoryview(answer)[_REPLY.size :]
            if worked:
                return Image.frombytes("RGB", (width, height), body)
            reason = printable(str(body, "utf-8"))
        except (struct.error, ValueError) as error:
            reason = f"crashed its decoder ({error})"
        raise ImageError(path, reason)

    def _look(self, worker: Worker) -> str:
        if time.monotonic() - worker.since > self.seconds:
            return f"took over {self.seconds:g} s to decode"
        if not _ON_LINUX and resident(worker.process.pid) > self.memory:
            return f"took over {self.memory >> 20} MiB to decode"
        return ""


DECODERS = Decoders()
"""Those of this process."""


def start(max_memory: str) -> Callable[[bytes], list[bytes]]:
    """Return what answers, in a process of its own: see `tllboost.processes.serve`.

    Parameters
    ----------
    max_memory : str
        Bytes of memory that the process may take, where the system knows such a limit.
    """
    warnings.simplefilter("ignore")
    Image.init()
    with suppress(ImportError):
        from PIL import AvifImagePlugin

        # Each thread more would take address space of its own.
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    _limit(int(max_memory))
    return _answer


def _answer(request: bytes) -> list[bytes]:
    pillow_limit, shrink_to = _REQUEST.unpack_from(request)
    Image.MAX_IMAGE_PIXELS = pillow_limit or None
    try:
        image = decode(request[_REQUEST.size :], shrink_to=shrink_to or None)
        return [_REPLY.pack(True, *image.size), image.tobytes()]
    except ImageError as error:
        reason = error.reason
    except MemoryError:
        reason = "can't be decoded (it needs more memory than an image may)"
    text = reason[: _LONGEST_REASON // 4].encode("utf-8", "backslashreplace")
    return [_REPLY.pack(False, 0, 0), text]


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
        with suppress(OSError, ValueError):  # macOS refuses some: the parent watches
            resource.setrlimit(kind, (most, most))
