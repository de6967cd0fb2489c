"""Pictures as the network's input, decoded and augmented by threads beside it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tllboost.errors import ImageError, TllboostError
from tllboost.finetune.augment import Augmentation
from tllboost.images import open_image
from tllboost.vectorizers.trim import trimmed

__all__ = ["Job", "Pictures"]

Job = tuple[int, int]
"""An image, and which of its augmented views; view 0 is the picture as it is."""


class Pictures:
    """Turn images and views into pixels; a view is the same whenever it is made.

    Parameters
    ----------
    vectorizer : NetworkVectorizer
        Whose preprocessing, and trimming, it is.
    paths : sequence of path-like, length n_images
    augmentation : Augmentation
    seed : int
        With image and view, all that an augmented view hangs on.
    n_workers : int
        Threads.
    """

    def __init__(
        self,
        vectorizer: Any,
        paths: Sequence[str | os.PathLike[str]],
        *,
        augmentation: Augmentation,
        seed: int,
        n_workers: int,
    ) -> None:
        self.vectorizer = vectorizer
        self.paths = paths
        self.augmentation = augmentation
        self.seed = seed
        self.n_workers = n_workers

    def batches(
        self, batches: Sequence[Sequence[Job]]
    ) -> Iterator[NDArray[np.float32]]:
        """Yield each batch as pixels (n_jobs, 3, height, width), the next under way.

        Raises
        ------
        ImageError
            If a picture can't be read.
        """
        pending: deque[list[Future[NDArray[np.float32]]]] = deque()
        executor = ThreadPoolExecutor(self.n_workers)
        try:
            for batch in batches:
                pending.append([executor.submit(self._pixels, job) for job in batch])
                if len(pending) > 2:
                    yield np.stack([one.result() for one in pending.popleft()])
            while pending:
                yield np.stack([one.result() for one in pending.popleft()])
        finally:
            executor.shutdown(cancel_futures=True)

    def _pixels(self, job: Job) -> NDArray[np.float32]:
        image, view = job
        path = self.paths[image]
        try:
            picture = open_image(path, shrink_to=self.vectorizer.input_size)
            if getattr(self.vectorizer, "trim", False):
                picture = trimmed(picture)
            if view:
                rng = np.random.default_rng([self.seed, image, view])
                small = _reduced(picture, self.vectorizer.preprocessing.shrink_to)
                picture = self.augmentation(small, rng)
            pixels: NDArray[np.float32] = self.vectorizer.preprocessing(picture)
        except TllboostError:
            raise
        except Exception as error:
            reason = f"can't be prepared ({type(error).__name__}: {error})"
            raise ImageError(path, reason) from error
        return pixels


def _reduced(image: Image.Image, short_side: int) -> Image.Image:
    """Return a picture no larger than its preprocessing needs: less to turn."""
    factor = short_side / min(image.size)
    if factor >= 1:
        return image
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)
