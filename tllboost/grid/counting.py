"""How much is done, told while other processes do it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Progress", "counting"]

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what); what has a method ``running`` is also told the
names of what is being worked at."""


@contextmanager
def counting(
    files: Iterable[Path],
    progress: Progress | None,
    what: str,
    names: Callable[[], Sequence[str]] = tuple,
    every_s: float = 0.5,
) -> Iterator[None]:
    """Tell how many of the files are there, while they are written, and what runs."""
    wanted = list(files)
    if progress is None or not wanted:
        yield
        return
    stop = threading.Event()
    running = getattr(progress, "running", None)

    def tell() -> None:
        if running is not None:
            running(names())
        progress(sum(file.exists() for file in wanted), len(wanted), what)

    def watch() -> None:
        while not stop.wait(every_s):
            tell()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        tell()
