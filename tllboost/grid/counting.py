"""How much is done, told while other processes do it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Progress", "counting"]

Progress = Callable[[int, int, str], None]


@contextmanager
def counting(
    files: Iterable[Path],
    progress: Progress | None,
    what: str,
    every_s: float = 0.5,
) -> Iterator[None]:
    """Tell how many of the files are there, while they are written."""
    wanted = list(files)
    if progress is None or not wanted:
        yield
        return
    stop = threading.Event()

    def tell() -> None:
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
