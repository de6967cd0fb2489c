"""Arrays that other processes map from a file rather than get a copy of."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from tllboost.whole_file import whole_file

__all__ = ["SHARED", "Sharing", "opened"]

SHARED = ".shared"
_SMALL_BYTES = 2**20


@dataclass(frozen=True)
class _Kept:
    """Where an array lies."""

    path: Path


class Sharing:
    """Files of arrays, in a folder of the results, as long as the block lasts.

    Parameters
    ----------
    folder : Path
        The results; what a killed run left in it is removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / SHARED
        self._kept: dict[int, tuple[Any, _Kept]] = {}

    def __enter__(self) -> Self:
        shutil.rmtree(self._folder, ignore_errors=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Windows removes no file that a process, idle and warm, still maps.
        shutil.rmtree(self._folder, ignore_errors=True)

    def share(self, value: Any) -> Any:
        """Return what stands for a value; large arrays, and lists of them, are kept."""
        if isinstance(value, list):
            return [self.share(item) for item in value]
        if not isinstance(value, np.ndarray) or value.nbytes < _SMALL_BYTES:
            return value
        if id(value) not in self._kept:
            path = self._folder / f"{len(self._kept)}.npy"
            with whole_file(path) as file:
                np.save(file, value, allow_pickle=False)
            # The array is held too, so that its id is not given to another.
            self._kept[id(value)] = (value, _Kept(path))
        return self._kept[id(value)][1]


def opened(value: Any) -> Any:
    """Return the value that something stands for, arrays mapped for reading."""
    if isinstance(value, list):
        return [opened(item) for item in value]
    if isinstance(value, _Kept):
        return np.load(value.path, mmap_mode="r", allow_pickle=False)
    return value
