"""Work that tests kill: see killing.py."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from tllboost.store import hashes
from tllboost.vectorizing import vectorize

N_PICTURES, BATCH_SIZE = 40, 4


class Squares:
    """A vectorizer that writes down how many pictures it has looked at."""

    fingerprint, label, n_dims, input_size = "squares|1", "squares", 48, None

    def __init__(self, log: Path | None = None) -> None:
        self.log = log

    def prepare(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((4, 4), Image.Resampling.BOX), dtype=np.float32)

    def forward(self, batch: np.ndarray) -> np.ndarray:
        if self.log is not None:
            with self.log.open("ab", buffering=0) as file:
                file.write(b"." * len(batch))
        return batch.reshape(len(batch), -1)


def pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder, made at the first call."""
    paths = [folder / f"{number:02d}.png" for number in range(N_PICTURES)]
    for number, path in enumerate(paths):
        if not path.exists():
            rng = np.random.default_rng(number)
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return paths


def vectorizing(folder: Path) -> None:
    """Vectorize the pictures that lie beside the folder into a store in it."""
    hashes.SETTLED_SECONDS = -1  # so that what it remembers is written too
    vectorize(
        Squares(folder / "looked-at"),
        pictures(folder.parent),
        store=folder / "store",
        batch_size=BATCH_SIZE,
        n_workers=2,
    )


def looked_at(folder: Path) -> int:
    """Return how many pictures the vectorizer had looked at before the kill."""
    log = folder / "looked-at"
    return os.path.getsize(log) if log.exists() else 0
