"""Images as they might have been taken too: turned, shifted, nearer, lit otherwise.

Every draw depends on the generator that is handed in and on nothing else.

Images as the network's input, decoded and augmented by threads beside it.

What the frozen stages make of images: kept in a file, or made as it is needed.
"""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from tllboost.errors import ImageError, TllboostError, UsageError
from tllboost.files import write_text
from tllboost.finetune.network import CutNetwork
from tllboost.images import open_image
from tllboost.vectorizers.looks import trimmed

__all__ = [
    "Augmentation",
    "Job",
    "KeptMaps",
    "LiveMaps",
    "Maps",
    "TrainingImages",
    "map_shape",
]


@dataclass(frozen=True)
class Augmentation:
    """How far an image may be changed; every amount is drawn evenly up to its limit.

    Rotation, shifts and zoom are by default those of the 2017 Holidays fine-tuning.

    Parameters
    ----------
    rotation : float, default=10
        Degrees, either way, below 90.
    shift : float, default=0.2
        Part of the width, and of the height, either way.
    zoom : float, default=0.2
        Between ``1 - zoom`` and ``1 + zoom`` times as large.
    flip : bool, default=True
        Mirror every second image.
    colour : float, default=0.3
        Brightness, contrast and saturation between ``1 - colour`` and ``1 + colour``
        times what they were.

    Raises
    ------
    UsageError
        If a limit is out of its range.

    Examples
    --------
    >>> image = Image.new("RGB", (40, 30), "teal")
    >>> Augmentation()(image, np.random.default_rng(0)).size
    (40, 30)
    """

    rotation: float = 10.0
    shift: float = 0.2
    zoom: float = 0.2
    flip: bool = True
    colour: float = 0.3

    def __post_init__(self) -> None:
        highest = {"rotation": 90.0, "shift": 1.0, "zoom": 1.0, "colour": 1.0}
        for name, limit in highest.items():
            value = getattr(self, name)
            if not 0 <= value < limit:
                msg = f"{name}={value!r} must be at least 0 and below {limit:g}"
                raise UsageError(msg)

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return a changed copy of an RGB image, of the same size."""
        # All draws first: what one does must not move the draws of the next.
        turn, across, down = rng.uniform(-1, 1, 3) * (
            math.radians(self.rotation),
            self.shift * image.width,
            self.shift * image.height,
        )
        scale = 1 + rng.uniform(-self.zoom, self.zoom)
        mirror = self.flip and rng.random() < 0.5
        light = 1 + rng.uniform(-self.colour, self.colour, 3)
        image = _moved(image, turn, across, down, scale, mirror)
        kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for kind, factor in zip(kinds, light, strict=True):
            if factor != 1:
                image = kind(image).enhance(factor)
        return image


def _moved(
    image: Image.Image,
    turn: float,
    across: float,
    down: float,
    scale: float,
    mirror: bool,
) -> Image.Image:
    """Turn, scale and mirror about the centre, then shift; edges are continued."""
    width, height = image.size
    cos, sin = math.cos(turn) / scale, math.sin(turn) / scale
    # How far from the centre the corners reach for: black there would be a feature.
    reach_x, reach_y = width / 2 + abs(across), height / 2 + abs(down)
    beyond_x = _whole(cos * reach_x + abs(sin) * reach_y - width / 2)
    beyond_y = _whole(abs(sin) * reach_x + cos * reach_y - height / 2)
    padded = _continued(image, beyond_x, beyond_y)
    sign = -1 if mirror else 1
    x, y = width / 2 + across, height / 2 + down
    # Pillow asks where in the source each pixel of the result comes from.
    matrix = (
        sign * cos,
        sign * sin,
        width / 2 + beyond_x - sign * (cos * x + sin * y),
        -sin,
        cos,
        height / 2 + beyond_y + sin * x - cos * y,
    )
    return padded.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )


def _whole(pixels: float) -> int:
    return max(0, math.ceil(pixels)) + 1


def _continued(image: Image.Image, beyond_x: int, beyond_y: int) -> Image.Image:
    """Return `image` with its outermost pixels repeated on all sides."""
    margins = ((beyond_y, beyond_y), (beyond_x, beyond_x), (0, 0))
    return Image.fromarray(np.pad(np.asarray(image), margins, mode="edge"))


Job = tuple[int, int]
"""An image, and which of its augmented views; view 0 is the image as it is."""


class TrainingImages:
    """Turn images and views into pixels; a view is the same whenever it is made.

    Parameters
    ----------
    vectorizer : NetworkVectorizer
        Whose preprocessing, and trimming, it is.
    paths : sequence of path-like, length n_images
    augmentation : Augmentation
    seed : int
        With image and view, all that an augmented view depends on.
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
            If an image can't be read.
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
        index, view = job
        path = self.paths[index]
        try:
            image = open_image(path, shrink_to=self.vectorizer.input_size)
            if getattr(self.vectorizer, "trim", False):
                image = trimmed(image)
            if view:
                rng = np.random.default_rng([self.seed, index, view])
                small = _reduced(image, self.vectorizer.preprocessing.shrink_to)
                image = self.augmentation(small, rng)
            pixels: NDArray[np.float32] = self.vectorizer.preprocessing(image)
        except TllboostError:
            raise
        except Exception as error:
            reason = f"can't be prepared ({type(error).__name__}: {error})"
            raise ImageError(path, reason) from error
        return pixels


def _reduced(image: Image.Image, short_side: int) -> Image.Image:
    """Return an image no larger than its preprocessing needs: less to turn."""
    factor = short_side / min(image.size)
    if factor >= 1:
        return image
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


Progress = Callable[[int, int, str], None]
_BATCH = 32
_MOST = 60_000.0  # a little below what float16 can hold


class Maps(Protocol):
    """Where the trained stages get their input from."""

    def batches(self, batches: Sequence[Sequence[Job]]) -> Iterator[Any]:
        """Yield the maps of each batch, a float32 tensor on the network's device."""
        ...


class LiveMaps:
    """Maps that are made anew each time: for a GPU, or maps too large to keep."""

    def __init__(self, network: CutNetwork, images: TrainingImages) -> None:
        self.network = network
        self.images = images

    def batches(self, batches: Sequence[Sequence[Job]]) -> Iterator[Any]:
        """Yield the maps of each batch."""
        with closing(self.images.batches(batches)) as made:  # type: ignore[type-var]
            for pixels in made:
                yield run_head(self.network, pixels)


class KeptMaps:
    """Maps that are made once and kept in a file, as float16, memory-mapped.

    Parameters
    ----------
    network : CutNetwork
    images : Images
    jobs : sequence of (int, int)
        The images and views to keep.
    folder : Path
        Where the file goes; one that was begun there is gone on with.
    progress : callable, optional
        Called with how many are made, how many there are, and what they are.
    """

    def __init__(
        self,
        network: CutNetwork,
        images: TrainingImages,
        jobs: Sequence[Job],
        folder: Path,
        *,
        progress: Progress | None = None,
    ) -> None:
        self.network = network
        self.row = {job: row for row, job in enumerate(jobs)}
        self._file, self._done = folder / "maps.npy", folder / "maps.json"
        self.maps = self._opened((len(jobs), *map_shape(network, images)))
        n_done = self._n_done()
        rest = [jobs[i : i + _BATCH] for i in range(n_done, len(jobs), _BATCH)]
        with closing(images.batches(rest)) as made:  # type: ignore[type-var]
            for batch, pixels in zip(rest, made, strict=True):
                maps = run_head(network, pixels).clamp(-_MOST, _MOST)
                self.maps[n_done : n_done + len(batch)] = maps.cpu().numpy()
                n_done += len(batch)
                self.maps.flush()
                write_text(self._done, json.dumps(n_done))
                if progress is not None:
                    progress(n_done, len(jobs), "augmented views")

    def batches(self, batches: Sequence[Sequence[Job]]) -> Iterator[Any]:
        """Yield the maps of each batch."""
        for batch in batches:
            rows = [self.row[job] for job in batch]
            yield _as_tensor(self.maps[rows].astype(np.float32), self.network)

    def _opened(self, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.float16]]:
        if self._n_done():
            try:
                kept = np.load(self._file, mmap_mode="r+")
                if kept.shape == shape:
                    return kept  # type: ignore[no-any-return]
            except (OSError, ValueError):
                pass
            self._done.unlink()  # not what it was begun as: made anew
        return np.lib.format.open_memmap(
            self._file, mode="w+", dtype=np.float16, shape=shape
        )

    def _n_done(self) -> int:
        try:
            return int(json.loads(self._done.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return 0


def map_shape(network: CutNetwork, images: TrainingImages) -> tuple[int, ...]:
    """Return the shape of one image's map."""
    size = images.vectorizer.preprocessing.size
    return tuple(run_head(network, np.zeros((1, 3, *size), np.float32)).shape[1:])


def run_head(network: CutNetwork, pixels: NDArray[np.float32]) -> Any:
    """Return what the frozen stages make of pixels: a float32 tensor."""
    import torch

    batch = _as_tensor(pixels, network)
    kind = batch.device.type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda"):
        return network.head(batch).float()


def _as_tensor(array: NDArray[np.float32], network: CutNetwork) -> Any:
    """Move an array to the network's device, channels last: twice as fast on a CPU."""
    import torch

    tensor = torch.from_numpy(array)
    layout = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
    device = next(network.whole.parameters()).device
    return tensor.to(device, memory_format=layout)
