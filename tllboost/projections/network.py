"""The torch side of a Siamese map: a body, and a network joined to its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Network", "dense_layers", "siamese_network"]

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Network:
    """Torch modules: the map of one picture, and what joins two, if anything does."""

    body: Any
    joined: Any = None

    def parameters(self) -> Iterator[Any]:
        """Give all that is trained."""
        for module in self._modules:
            yield from module.parameters()

    def train(self, mode: bool) -> None:
        """Switch dropout on or off."""
        for module in self._modules:
            module.train(mode)

    def to(self, device: Any) -> Network:
        """Move to a device; return self."""
        for module in self._modules:
            module.to(device)
        return self

    @property
    def _modules(self) -> list[Any]:
        return [module for module in (self.body, self.joined) if module is not None]


def siamese_network(
    n_axes: int, n_outputs: int, *, depth: int, dropout: float, joined: Any = None
) -> Network:
    """Return the map of coordinates at its start, which keeps angles.

    Parameters
    ----------
    n_axes, n_outputs : int
        Width of what comes in and goes out; equal at depth 0.
    depth : int
        Fully connected layers; 0 has one weight an axis.
    dropout : float
        Of the coordinates.
    joined : torch.nn.Module, optional
        Trained along.
    """
    from torch import nn

    layers: list[Any] = [nn.Dropout(dropout)]
    if depth == 0:
        layers.append(_scale(n_axes))
    for n_in, n_out in pairwise([n_axes] + [n_outputs] * depth):
        layer = nn.Linear(n_in, n_out)
        # Rotated, not aligned with the axes: Adam then steps alike in every output,
        # which gained three points of top-2 over a start at the identity.
        nn.init.orthogonal_(layer.weight)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    if depth > 0:
        layers.pop()
    return Network(nn.Sequential(*layers), joined)


def _scale(n_axes: int) -> Any:
    """Return a layer of one weight an axis, and no other."""
    import torch
    from torch import nn

    class Scale(nn.Module):
        """Multiply each coordinate by a weight of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(n_axes))

        def forward(self, rows: Any) -> Any:
            return rows * self.scale

    return Scale()


def dense_layers(module: Any) -> list[Layer]:
    """Copy the layers as (weight (n_in, n_out), bias (n_out,)), float32."""
    layers = []
    for layer in module:
        if hasattr(layer, "scale"):
            scale = layer.scale.detach().cpu().numpy().astype(np.float32)
            layers.append((np.diag(scale), np.zeros_like(scale)))
        elif hasattr(layer, "weight"):
            weight, bias = layer.weight.detach().cpu(), layer.bias.detach().cpu()
            layers.append((weight.numpy().T.copy(), bias.numpy().copy()))
    return layers
