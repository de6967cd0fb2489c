"""Run a PyTorch network on batches of NumPy arrays, in float32, wherever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tllboost.errors import UsageError

__all__ = ["choose_device", "mean_over_positions", "on_device", "run", "tap"]


def choose_device(device: str) -> Any:
    """Return the ``torch.device`` for ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises
    ------
    UsageError
        If there is no such device here.
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    here = {"cpu": True, "cuda": cuda, "mps": mps}
    if not here.get(device.split(":")[0], False):
        legal = ", ".join(["auto", *(name for name, there in here.items() if there)])
        msg = f"device {device!r} is not to be had here; choose one of {legal}"
        raise UsageError(msg)
    return torch.device(device)


def on_device(network: Any, device: str) -> Any:
    """Return `network` ready to be run: in evaluation mode, frozen, moved."""
    import torch

    network.eval().requires_grad_(False)
    # On a CPU convolutions run at twice the speed of the default layout (40 to 22).
    return network.to(choose_device(device), memory_format=torch.channels_last)


def run(
    network: Any,
    batch: np.ndarray,
    then: Callable[[Any], Any],
    *,
    precision: str = "float32",
) -> np.ndarray:
    """Return what a network makes of pictures.

    Parameters
    ----------
    network : torch.nn.Module
        On one device, in evaluation mode.
    batch : ndarray of shape (n_images, 3, height, width), float32
    then : callable
        What is done to its output, on the device.
    precision : {"float32", "bfloat16", "float16"}, default="float32"
        Of what torch may do in less than float32.

    Returns
    -------
    ndarray of shape (n_images, ...), float32
    """
    import torch

    device = next(network.parameters()).device
    less = torch.autocast(
        device.type, getattr(torch, precision), enabled=precision != "float32"
    )
    # TF32 keeps 10 bits of mantissa: vectors would depend on the machine.
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False), less:
        pixels = torch.from_numpy(batch)
        if device.type == "cuda":  # from there it is copied beside other work
            pixels = pixels.pin_memory()
        pixels = pixels.to(device, non_blocking=True, memory_format=torch.channels_last)
        output: np.ndarray = then(network(pixels)).float().cpu().numpy()
    return output


def mean_over_positions(output: Any) -> Any:
    """Return maps and token sequences averaged over positions, vectors as they are."""
    if output.ndim == 4:
        return output.mean(dim=(2, 3))
    return output.mean(dim=1) if output.ndim == 3 else output


def tap(network: Any, layer: str) -> Any:
    """Return a network that runs `network` and returns the output of an inner layer.

    Raises
    ------
    AttributeError
        If there is no such layer.
    """
    import torch

    class Tapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.caught: Any = None
            network.get_submodule(layer).register_forward_hook(self.catch)

        def catch(self, module: Any, inputs: Any, output: Any) -> None:
            self.caught = output

        def forward(self, pixels: Any) -> Any:
            self.network(pixels)
            caught, self.caught = self.caught, None
            return caught

    return Tapped()
