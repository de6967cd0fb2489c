"""Decode images in processes of their own, under limits of time and memory.

An image that makes a decoder run on, grow or crash ends its process and becomes one
`ImageError`; the next image gets a new process. They start when first needed and are
kept: at most one a core.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from tllboost.errors import DataError, ImageError, printable
from tllboost.images.decoder_worker import READY, REPLY, REQUEST
from tllboost.images.decoding import MAX_PIXELS

__all__ = ["Decoders", "shared_decoders"]

_SECONDS = 60.0
_MEMORY = 2 << 30
_TICK = 0.1
_PIPE_BYTES = 1 << 20
_LONGEST_REASON = 10_000
_START = (
    "import sys; sys.path[:] = sys.argv[2:]; sys.dont_write_bytecode = True; "
    "from tllboost.images.decoder_worker import serve; serve(int(sys.argv[1]))"
)
# Elsewhere the system does not hold a process to its memory: it is watched.
_ON_LINUX = sys.platform.startswith("linux")


class Decoders:
    """Processes that decode; any number of threads may ask at once.

    Parameters
    ----------
    seconds : float, default=60
        What an image may take.
    memory : int, default=2 GiB
        Bytes that the process of an image may take.
    """

    def __init__(self, *, seconds: float = _SECONDS, memory: int = _MEMORY) -> None:
        self.seconds = seconds
        self.memory = memory
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(max(2, os.cpu_count() or 1))
        self._idle: list[_Decoder] = []
        self._busy: set[_Decoder] = set()
        self._watcher: threading.Thread | None = None

    def decode(
        self,
        data: bytes,
        *,
        path: str | os.PathLike[str] = "<bytes>",
        max_pixels: int = MAX_PIXELS,
        shrink_to: int | None = None,
    ) -> Image.Image:
        """Return the image in `data` as upright RGB: `decoding.decode`, elsewhere.

        Raises
        ------
        ImageError
            If it is no image that can be read within the limits.
        DataError
            If no process can be started.
        """
        with self._turns:
            for last in (False, True):
                decoder = self._take()
                try:
                    return decoder.decode(data, path, max_pixels, shrink_to)
                except _DiedError as error:
                    # Once more: what died may have been ended from outside.
                    if last or decoder.verdict:
                        reason = decoder.verdict or f"crashed its decoder ({error})"
                        raise ImageError(path, reason) from None
                finally:
                    self._give_back(decoder)
        raise AssertionError

    def close(self) -> None:
        """End the processes; what is asked later starts new ones."""
        with self._lock:
            decoders, self._idle = self._idle, []
        for decoder in decoders:
            decoder.end()

    def _take(self) -> _Decoder:
        with self._lock:
            decoder = self._idle.pop() if self._idle else _Decoder(self.memory)
            decoder.deadline = time.monotonic() + self.seconds
            self._busy.add(decoder)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, daemon=True)
                self._watcher.start()
        return decoder

    def _give_back(self, decoder: _Decoder) -> None:
        with self._lock:
            self._busy.discard(decoder)
            if decoder.is_sound and not decoder.verdict:
                self._idle.append(decoder)
                return
        decoder.end()

    def _watch(self) -> None:
        """End the processes that are over a limit, as long as any is at work."""
        while True:
            time.sleep(_TICK)
            with self._lock:
                if not self._busy:
                    self._watcher = None
                    return
                for decoder in self._busy:
                    self._judge(decoder)

    def _judge(self, decoder: _Decoder) -> None:
        if time.monotonic() > decoder.deadline:
            decoder.condemn(f"took over {self.seconds:g} s to decode")
        elif not _ON_LINUX and decoder.size() > self.memory:
            decoder.condemn(f"took over {self.memory >> 20} MiB to decode")


class _DiedError(Exception):
    """The process ended in the middle of an image."""


class _Decoder:
    """One process; used by one thread at a time."""

    def __init__(self, memory: int) -> None:
        self.verdict = ""
        self.deadline = 0.0
        self.is_sound = False
        self._is_ready = False
        if getattr(sys, "frozen", False):
            why = "this program is frozen"  # it would start itself again
            raise _no_start(why)
        package = str(Path(__file__).resolve().parents[2])
        command = [sys.executable, "-I", "-S", "-c", _START, str(memory)]
        quiet = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        try:
            self._process = subprocess.Popen(
                [*command, package, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **quiet},
            )
        except (OSError, ValueError) as error:
            raise _no_start(str(error)) from error
        _widen(self._process.stdin)
        _widen(self._process.stdout)

    def decode(
        self,
        data: bytes,
        path: str | os.PathLike[str],
        max_pixels: int,
        shrink_to: int | None,
    ) -> Image.Image:
        # Until the answer is there whole, whatever comes between leaves half of one.
        self.is_sound = False
        self._wait_for_start()
        limit = Image.MAX_IMAGE_PIXELS or 0
        self._send(REQUEST.pack(len(data), max_pixels, limit, shrink_to or 0), data)
        worked, width, height = REPLY.unpack(self._receive(REPLY.size))
        if not worked:
            reason = self._receive(min(width, _LONGEST_REASON)).decode("utf-8")
            self.is_sound = True
            raise ImageError(path, printable(reason))
        if width * height > max_pixels:
            raise _DiedError("answered nonsense")  # noqa: EM101
        pixels = self._receive(3 * width * height)
        self.is_sound = True
        return Image.frombytes("RGB", (width, height), pixels)

    def condemn(self, verdict: str) -> None:
        self.verdict = verdict
        self._process.kill()

    def size(self) -> int:
        """Return the bytes of memory that the process has."""
        import psutil

        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def end(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._process.wait()

    def _wait_for_start(self) -> None:
        if self._is_ready:
            return
        if self._process.stdout.read(1) != READY:  # type: ignore[union-attr]
            raise _no_start(self.verdict or f"exit code {self._process.wait()}")
        self._is_ready = True

    def _send(self, *parts: bytes) -> None:
        pipe = self._process.stdin
        try:
            for part in parts:
                pipe.write(part)  # type: ignore[union-attr]
            pipe.flush()  # type: ignore[union-attr]
        except OSError as error:
            raise _DiedError(self._ending()) from error

    def _receive(self, n_bytes: int) -> bytes:
        data = self._process.stdout.read(n_bytes)  # type: ignore[union-attr]
        if len(data) < n_bytes:
            raise _DiedError(self._ending())
        return data

    def _ending(self) -> str:
        return f"exit code {self._process.wait()}"


def _widen(pipe: Any) -> None:
    """Let a pipe hold a usual image whole: fewer turns between two processes."""
    if _ON_LINUX:
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _no_start(why: str) -> DataError:
    msg = (
        f"can't start {sys.executable!r} to decode images ({why}): it must be a "
        "Python that may start processes"
    )
    return DataError(msg)


_shared = Decoders()
_of_the_parent: list[Decoders] = []


def shared_decoders() -> Decoders:
    """Return the decoders of this process."""
    return _shared


def _start_anew() -> None:
    """Leave the parent's processes to the parent: two can't share an answer."""
    global _shared
    _of_the_parent.append(_shared)
    _shared = Decoders()


atexit.register(lambda: _shared.close())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
