"""A vectorizer that tests of vectorizing count the calls of, and the images it gets."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from conftest import write_image
from PIL import Image

from tllboost.vectorizers.base import Vectorizer


class Grid(Vectorizer):
    """Mean colours of a grid of cells; counts what it is asked to do."""

    def __init__(self, side: int = 2, size: int | None = None) -> None:
        self.side = side
        self.size = size
        self.n_prepared = 0
        self.batches: list[int] = []
        self.most_ahead = 0
        self.threads: dict[str, set[str]] = {"prepare": set(), "forward": set()}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return f"grid{self.side}"

    @property
    def fingerprint(self) -> str:
        return f"grid|{self.side}"

    @property
    def n_dims(self) -> int:
        return 3 * self.side**2

    @property
    def input_size(self) -> int | None:
        return self.size

    def prepare(self, image: Image.Image) -> np.ndarray:
        with self._lock:
            self.n_prepared += 1
            self.most_ahead = max(self.most_ahead, self.n_prepared - sum(self.batches))
            self.threads["prepare"].add(threading.current_thread().name)
        side = (self.side, self.side)
        return np.asarray(image.resize(side, Image.Resampling.BOX), dtype=np.float32)

    def forward(self, batch: np.ndarray) -> np.ndarray:
        self.threads["forward"].add(threading.current_thread().name)
        self.batches.append(len(batch))
        return batch.reshape(len(batch), -1)


def expected(paths: list[Path], side: int = 2) -> np.ndarray:
    return Grid(side).transform(paths)


def write_images(folder: Path) -> list[Path]:
    """Write eleven images, all of them different."""
    folder.mkdir()
    return [write_image(folder / f"{n:02}.jpg", seed=n) for n in range(11)]


def n_own_threads() -> int:
    return sum(not thread.daemon for thread in threading.enumerate())
