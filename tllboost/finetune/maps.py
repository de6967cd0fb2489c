"""What the frozen stages make of pictures: kept in a file, or made as it is needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tllboost.finetune.pictures import Job, Pictures
from tllboost.finetune.stages import CutNetwork
from tllboost.whole_file import write_text

__all__ = ["KeptMaps", "LiveMaps", "Maps", "map_shape", "run_head"]

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

    def __init__(self, network: CutNetwork, pictures: Pictures) -> None:
        self.network = network
        self.pictures = pictures

    def batches(self, batches: Sequence[Sequence[Job]]) -> Iterator[Any]:
        """Yield the maps of each batch."""
        with closing(self.pictures.batches(batches)) as made:  # type: ignore[type-var]
            for pixels in made:
                yield run_head(self.network, pixels)


class KeptMaps:
    """Maps that are made once and kept in a file, as float16, memory-mapped.

    Parameters
    ----------
    network : CutNetwork
    pictures : Pictures
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
        pictures: Pictures,
        jobs: Sequence[Job],
        folder: Path,
        *,
        progress: Progress | None = None,
    ) -> None:
        self.network = network
        self.row = {job: row for row, job in enumerate(jobs)}
        self._file, self._done = folder / "maps.npy", folder / "maps.json"
        self.maps = self._opened((len(jobs), *map_shape(network, pictures)))
        n_done = self._n_done()
        rest = [jobs[i : i + _BATCH] for i in range(n_done, len(jobs), _BATCH)]
        with closing(pictures.batches(rest)) as made:  # type: ignore[type-var]
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


def map_shape(network: CutNetwork, pictures: Pictures) -> tuple[int, ...]:
    """Return the shape of one picture's map."""
    size = pictures.vectorizer.preprocessing.size
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
