"""Export a network of torch for ONNX Runtime, and check that it gives the same."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

__all__ = ["TooLargeError", "disagreement", "exported", "probe"]

_LARGEST = 1_800_000_000  # bytes of weights: a file of ONNX holds 2 GiB
_N_PROBES = 3  # not the two that it is exported with: the number must be free


class TooLargeError(ValueError):
    """The network is larger than a file of ONNX may be."""


def exported(network: Any, size: tuple[int, int], then: Callable[[Any], Any]) -> bytes:
    """Return a network as ONNX, from ``pixels`` to ``output``.

    Parameters
    ----------
    network : torch.nn.Module
        On the CPU, in evaluation mode.
    size : (int, int)
        Height and width of its input.
    then : callable
        What is done to its output, as part of the network.

    Raises
    ------
    Exception
        Any kind, where it holds what can't be exported.
    """
    import torch

    n_bytes = sum(one.numel() * one.element_size() for one in network.parameters())
    if n_bytes > _LARGEST:
        msg = f"its weights take {n_bytes:,} bytes"
        raise TooLargeError(msg)
    with TemporaryDirectory() as folder, torch.no_grad(), _quiet(), _plain_attention():
        file = Path(folder, "network.onnx")
        torch.onnx.export(
            _followed_by(network, then),
            (torch.zeros(2, 3, *size),),
            file,
            input_names=["pixels"],
            output_names=["output"],
            dynamic_axes={"pixels": {0: "n"}, "output": {0: "n"}},
            dynamo=False,  # the other exporter needs a library more
        )
        return file.read_bytes()


def probe(size: tuple[int, int]) -> np.ndarray:
    """Return the pictures that both must see alike: noise, always the same.

    Returns
    -------
    ndarray of shape (3, 3, height, width), float32
    """
    rng = np.random.default_rng(0)
    return rng.normal(size=(_N_PROBES, 3, *size)).astype(np.float32)


def disagreement(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest distance of two outputs of a picture, relative to its length.

    Infinite where they have different shapes or are not finite.

    Examples
    --------
    >>> disagreement(np.float32([[3, 4]]), np.float32([[3, 4.05]]))
    0.01
    """
    if one.shape != other.shape or not np.isfinite(one).all():
        return float("inf")
    rows, others = (each.reshape(len(each), -1) for each in (one, other))
    lengths = np.linalg.norm(rows, axis=1)
    apart = np.linalg.norm(rows - others, axis=1)
    worst = np.max(apart / np.where(lengths > 0, lengths, 1))
    return float(f"{worst:.3g}") if np.isfinite(worst) else float("inf")


def _followed_by(network: Any, then: Callable[[Any], Any]) -> Any:
    import torch

    class Followed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: Any) -> Any:
            return then(self.network(pixels))

    return Followed().eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from printing graphs that it can't export, and from warning."""
    with (
        warnings.catch_warnings(),
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Let attention be made of operators that ONNX has, not of one of torch's own."""
    import torch

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
