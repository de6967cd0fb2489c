"""Work that tests kill: see killing.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
from PIL import Image

from tllboost import store
from tllboost.grid.run import GridResult, run_grid
from tllboost.pairs import read_pairs
from tllboost.processes import Processes
from tllboost.projections.base import Projection
from tllboost.similar import find_similar, tiles
from tllboost.splits import Protocol
from tllboost.vectorizing import vectorize

N_IMAGES, BATCH_SIZE = 40, 4


class Squares:
    """A vectorizer that writes down how many images it has looked at."""

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

    def transform(self, images: list[Image.Image]) -> np.ndarray:
        return self.forward(np.stack([self.prepare(image) for image in images]))


class Every2nd(Projection):
    """A projection that learns nothing and needs no library for it."""

    def fit(self, vectors: np.ndarray, *_: Any) -> Every2nd:
        return self

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(vectors[:, ::2])

    def to_tensors(self) -> dict[str, np.ndarray]:
        return {"step": np.array([2])}

    def from_tensors(self, tensors: Any) -> Every2nd:
        return self


def images(folder: Path) -> list[Path]:
    """Return the images of a folder, made at the first call."""
    paths = [folder / f"{number:02d}.png" for number in range(N_IMAGES)]
    for number, path in enumerate(paths):
        if not path.exists():
            rng = np.random.default_rng(number)
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return paths


def vectorizing(folder: Path) -> None:
    """Vectorize the images that lie beside the folder into a store in it."""
    store.SETTLED_SECONDS = -1  # so that what it remembers is written too
    os.environ["TLLBOOST_CORES"] = "2"
    vectorize(
        Squares(folder / "looked-at"),
        images(folder.parent),
        store=folder / "store",
        batch_size=BATCH_SIZE,
    )


def looked_at(folder: Path) -> int:
    """Return how many images the vectorizer had looked at before the kill."""
    log = folder / "looked-at"
    return os.path.getsize(log) if log.exists() else 0


def strips_of_four(n: int, _: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the name and the rows of each strip of four images."""
    return ((f"{at:05d}.npy", (at, at + 4)) for at in range(0, n, 4))


def comparing(folder: Path) -> None:
    """Compare the images that lie beside the folder with each other."""
    tiles._strips = strips_of_four
    beside = folder.parent
    found = find_similar(
        images(beside),
        vectorizer=Squares(),
        top=3,
        store=store.VectorStore(beside / "store"),
        resume=folder / "pairs",
    )
    np.save(folder / "found.npy", found.pairs)


def _comparing_warm_up(folder: Path) -> None:
    comparing(folder)  # the vectors are then in the store


comparing.warm_up = _comparing_warm_up  # type: ignore[attr-defined]


def make_pairs(folder: Path, n_pairs: int = 60) -> Path:
    """Write pairs of vectors that look alike where they match."""
    rng = np.random.default_rng(0)
    left = rng.normal(size=(n_pairs, 8)).astype(np.float32)
    right = left + rng.normal(size=left.shape).astype(np.float32)
    names = [f"{side}{n}" for side in "lr" for n in range(n_pairs)]
    np.savez(folder / "own.npz", ids=names, vectors=np.concatenate([left, right]))
    rows = [f"l{n},r{n}" for n in range(n_pairs)]
    (folder / "pairs.csv").write_text("\n".join(["left,right", *rows]))
    return folder / "pairs.csv"


def grid_of(pairs: Path, out: Path, **given: Any) -> GridResult:
    """Run a small grid on them."""
    told = {
        "merges": ["l1"],
        "heads": ["naive-bayes"],
        "protocol": Protocol("kfold", n_folds=2, n_distractors=4),
        "backend": Processes(2),
    }
    vectors = [f"vectors:{pairs.parent / 'own.npz'}"]
    store = pairs.parent / "store"
    return run_grid(read_pairs(pairs), vectors, out=out, store=store, **told | given)


def make_image_pairs(folder: Path, n_pairs: int = 40) -> Path:
    """Write pairs of images that look alike."""
    rng = np.random.default_rng(1)
    for number in range(n_pairs):
        left = rng.integers(0, 256, (8, 8, 3))
        right = np.clip(left + rng.normal(0, 60, left.shape), 0, 255)
        for side, pixels in (("l", left), ("r", right)):
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(folder / f"{side}{number}.png")
    rows = [f"l{n}.png,r{n}.png" for n in range(n_pairs)]
    (folder / "pairs.csv").write_text("\n".join(["left,right", *rows]))
    return folder / "pairs.csv"


class Here(Processes):
    """A backend that calls in its own process."""

    def call(self, function: Any, *arguments: Any, **_: Any) -> Any:
        return function(*cloudpickle.loads(cloudpickle.dumps(arguments)))


def image_grid(
    pairs: Path,
    folder: Path,
    *,
    resume: bool = False,
    backend: Processes | None = None,
) -> GridResult:
    """Run a small grid on them, from images to tables, in a folder of its own."""
    return run_grid(
        read_pairs(pairs, images=pairs.parent),
        ["killed_work:Squares"],
        merges=["l1", "dot"],
        heads=["naive-bayes"],
        out=folder / "out",
        store=folder / "store",
        protocol=Protocol("kfold", n_folds=2, n_distractors=4),
        seeds=[0, 1],
        backend=backend or Processes(2),
        resume=resume,
    )


def grid(folder: Path) -> None:
    """Run the grid of the pairs beside the folder, in processes of its own."""
    store.SETTLED_SECONDS = -1
    image_grid(folder.parent / "pairs.csv", folder)


def grid_in_one_process(folder: Path) -> None:
    """Run it so that a line of a worker is one of this process, too."""
    store.SETTLED_SECONDS = -1
    image_grid(folder.parent / "pairs.csv", folder, backend=Here(2))


def _grid_warm_up(folder: Path) -> None:
    make_image_pairs(folder.parent)
    grid_in_one_process(folder)


grid.warm_up = grid_in_one_process.warm_up = _grid_warm_up  # type: ignore[attr-defined]
