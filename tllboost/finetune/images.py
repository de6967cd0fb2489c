"""What the trained stages get: images, augmented, through the frozen stages.

Every draw of an augmentation depends on the generator that is handed in and on nothing
else, so a view is the same whenever it is made. Images are decoded and augmented by
threads beside the network; what the frozen stages make of them may be kept in a file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from tllboost.errors import ImageError, TllboostError, check_range
from tllboost.files import write_json
from tllboost.finetune.network import CutNetwork
from tllboost.images import open_image
from tllboost.vectorizers.base import is_on, loaded
from tllboost.vectorizers.exported import in_blocks, runner
from tllboost.vectorizers.preprocess import trimmed
from tllboost.vectorizers.torch import exported, module
from tllboost.vectorizing import Progress, in_order


@dataclass(frozen=True)
class Augmentation:
    """How far an image may be changed; every amount is drawn evenly up to its limit.

    Rotation, shifts and zoom are by default those of the 2017 Holidays fine-tuning.

    Parameters
    ----------
    rotation : float, default=10
        Degrees, either way, at most 89.
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
        check_range("rotation", self.rotation, 0, 89)
        for name in ("shift", "zoom", "colour"):
            check_range(name, getattr(self, name), 0, 0.99)

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
        width, height = image.size
        cos, sin = math.cos(turn) / scale, math.sin(turn) / scale
        # How far from the centre the corners reach: black there would be a feature.
        reach_x, reach_y = width / 2 + abs(across), height / 2 + abs(down)
        beyond_x = _whole(cos * reach_x + abs(sin) * reach_y - width / 2)
        beyond_y = _whole(abs(sin) * reach_x + cos * reach_y - height / 2)
        margins = ((beyond_y, beyond_y), (beyond_x, beyond_x), (0, 0))
        padded = Image.fromarray(np.pad(np.asarray(image), margins, mode="edge"))
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
        image = padded.transform(
            image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        )
        kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for kind, factor in zip(kinds, light, strict=True):
            if factor != 1:
                image = kind(image).enhance(factor)
        return image


def _whole(pixels: float) -> int:
    return max(0, math.ceil(pixels)) + 1


Job = tuple[int, int]
"""An image, and which of its augmented views; view 0 is the image as it is."""


_BATCH = 32
_FEW = 200  # images for which torch is quicker than an export
_MOST = 60_000.0  # a little below what float16 can hold


@dataclass(eq=False)
class Maps:
    """What the frozen stages make of images: made as it is needed, or kept in a file.

    A view is the same whenever it is made.

    Parameters
    ----------
    network : CutNetwork
    vectorizer : NetworkVectorizer
        Whose preprocessing, and trimming, it is.
    paths : sequence of path-like, length n_images
    augmentation : Augmentation
    seed : int
        With image and view, all that an augmented view depends on.
    n_workers : int
        Threads that decode and augment.
    """

    network: CutNetwork
    vectorizer: Any
    paths: Sequence[str | os.PathLike[str]]
    augmentation: Augmentation
    seed: int
    n_workers: int

    _kept: Any = None

    def shape(self) -> tuple[int, ...]:
        """Return the shape of one image's map."""
        size = self.vectorizer.preprocessing.size
        return tuple(self._run([np.zeros((3, *size), np.float32)]).shape[1:])

    def keep(self, jobs: Sequence[Job], folder: Path, progress: Progress) -> None:
        """Make maps once and keep them in a file, as float16, memory-mapped.

        Parameters
        ----------
        jobs : sequence of (int, int)
            The images and views to keep.
        folder : Path
            Where the file goes; one that was begun there is gone on with.
        progress : callable
            Called with how many are made, how many there are, and what they are.
        """
        file, done = folder / "maps.npy", folder / "maps.json"
        shape = (len(jobs), *self.shape())
        n_done, kept = 0, None
        with suppress(OSError, ValueError):
            n_done = int(json.loads(done.read_text(encoding="utf-8")))
            kept = np.load(file, mmap_mode="r+")
        if kept is None or kept.shape != shape:
            done.unlink(missing_ok=True)  # not what it was begun as: made anew
            n_done, kept = 0, None  # Windows writes no file anew that is mapped
            kept = np.lib.format.open_memmap(
                file, mode="w+", dtype=np.float16, shape=shape
            )
        rest = [jobs[i : i + _BATCH] for i in range(n_done, len(jobs), _BATCH)]
        for batch, maps in zip(rest, self.batches(rest), strict=True):
            kept[n_done : n_done + len(batch)] = maps.clamp(-_MOST, _MOST).cpu().numpy()
            n_done += len(batch)
            kept.flush()
            write_json(done, n_done)
            progress(n_done, len(jobs), "augmented views")
        self._kept, self._row = kept, {job: row for row, job in enumerate(jobs)}

    def batches(self, batches: Sequence[Sequence[Job]]) -> Iterator[Any]:
        """Yield the maps of each batch, a float32 tensor on the network's device.

        Raises
        ------
        ImageError
            If an image can't be read.
        """
        if self._kept is not None:
            for batch in batches:
                rows = [self._row[job] for job in batch]
                yield self._tensor(self._kept[rows].astype(np.float32))
            return
        # The pixels of the next two batches are under way meanwhile.
        n_ahead = 2 * max(map(len, batches), default=0)
        pixels = in_order(self._pixels, chain(*batches), n_ahead, self.n_workers)
        for batch in batches:
            yield self._run(list(islice(pixels, len(batch))))

    def _run(self, pixels: list[NDArray[np.float32]]) -> Any:
        """Return what the frozen stages make of some images: a float32 tensor."""
        import torch

        if by_onnx := self._by_onnx:
            return self._tensor(in_blocks(by_onnx, np.stack(pixels), self.n_workers))
        batch = self._tensor(np.stack(pixels))
        kind = batch.device.type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda"):
            return self.network.head(batch).float()

    @loaded
    def _by_onnx(self) -> Callable[[NDArray[np.float32]], NDArray[np.float32]] | None:
        """Return a function that runs the frozen stages in ONNX Runtime, or None.

        It is about four times as fast as torch. The export takes as long as torch
        takes for some dozens of images, so for few images there is none.
        """
        device = next(self.network.whole.parameters()).device
        if len(self.paths) < _FEW or device.type != "cpu" or is_on("TLLBOOST_TORCH"):
            return None
        size, network = self.vectorizer.preprocessing.size, self.network
        head = module(lambda _, pixels: network.head(pixels), whole=network.whole)
        with suppress(Exception):  # what can't be exported is left to torch
            data = exported(head, size, lambda maps: maps)
            return runner(Path(), n_threads=1, what="maps", network=data)
        return None

    def _tensor(self, array: NDArray[np.float32]) -> Any:
        """Move an array to the network's device, channels last: faster on a CPU."""
        import torch

        tensor = torch.from_numpy(array)
        layout = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
        device = next(self.network.whole.parameters()).device
        return tensor.to(device, memory_format=layout)

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
