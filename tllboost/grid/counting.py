"""How many cells are done, told while other processes do them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tllboost.grid.records import record_path

__all__ = ["Progress", "counting"]

Progress = Callable[[int, int, str], None]


@contextmanager
def counting(
    out: Path, cell_ids: Iterable[str], progress: Progress | None, every_s: float = 0.5
) -> Iterator[None]:
    """Tell how many of the cells have a record, while they run."""
    ids = list(cell_ids)
    if progress is None or not ids:
        yield
        return
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(every_s):
            progress(sum(_is_there(out, i) for i in ids), len(ids), "cells")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        progress(sum(_is_there(out, i) for i in ids), len(ids), "cells")


def _is_there(out: Path, cell_id: str) -> bool:
    return record_path(out, cell_id).exists()
