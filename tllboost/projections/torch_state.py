"""Torch's threads and chances, changed for one training and put back after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["own_chance", "threads"]


@contextmanager
def threads(n_threads: int | None) -> Iterator[None]:
    """Let torch use that many threads, for as long as the block lasts.

    Parameters
    ----------
    n_threads : int or None
        None leaves what there is.
    """
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads or before)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def own_chance(seed: int, device: Any) -> Iterator[None]:
    """Seed torch and leave the caller's random state as it was.

    Parameters
    ----------
    seed : int
    device : torch.device
        Where chances are taken besides the CPU.
    """
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
