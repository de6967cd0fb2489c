"""Run a PyTorch network on batches of NumPy arrays, in float32, wherever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tllboost.errors import UsageError

__all__ = ["choose_device", "on_device", "run_maps", "run_network", "tap"]


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


def run_network(network: Any, batch: np.ndarray) -> np.ndarray:
    """Return one vector a picture.

    Parameters
    ----------
    network : torch.nn.Module
        On one device, in evaluation mode.
    batch : ndarray of shape (n_images, 3, height, width), float32

    Returns
    -------
    ndarray of shape (n_images, n_dims), float32
        Maps and token sequences are averaged over positions.
    """
    return _run(network, batch, _mean_over_positions)


def run_maps(network: Any, batch: np.ndarray) -> np.ndarray:
    """Return what the network gives, as it is.

    Parameters
    ----------
    network : torch.nn.Module
        One that ends in feature maps, on one device, in evaluation mode.
    batch : ndarray of shape (n_images, 3, height, width), float32

    Returns
    -------
    ndarray of shape (n_images, n_channels, n_rows, n_columns), float32
    """
    return _run(network, batch, lambda maps: maps)


def _run(network: Any, batch: np.ndarray, then: Callable[[Any], Any]) -> np.ndarray:
    import torch

    device = next(network.parameters()).device
    # TF32 keeps 10 bits of mantissa: vectors would depend on the machine.
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        pixels = torch.from_numpy(batch).to(device, memory_format=torch.channels_last)
        output: np.ndarray = then(network(pixels)).float().cpu().numpy()
    return output


def _mean_over_positions(output: Any) -> Any:
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
