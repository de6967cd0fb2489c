"""The layers of the LeNet-like network, and what it learns from a pair."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import UsageError
from tllboost.splits import PairSet

__all__ = [
    "SIDES",
    "as_images",
    "layer_shapes",
    "mean_loss",
    "pair_loss",
    "random_layers",
    "run_layers",
    "side_of",
]

Floats = NDArray[np.float32]
SIDES = range(16, 513)
"""Sides of a picture that can be looked at; below, nothing is left to pool."""

_ROWS = 256


def side_of(n_dims: int) -> int:
    """Return the side of the squares that vectors of `n_dims` numbers are."""
    side = math.isqrt(n_dims // 3)
    if 3 * side**2 != n_dims or side not in SIDES:
        msg = (
            f"siamese-cnn looks at pictures and got vectors of {n_dims} numbers: give "
            "the vectorizer pixels, of size 16 to 512"
        )
        raise UsageError(msg)
    return side


def layer_shapes(side: int, components: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array."""
    pooled = ((side - 4) // 2 - 4) // 2
    return {
        "conv1": (20, 3, 5, 5),
        "conv1_bias": (20,),
        "conv2": (50, 20, 5, 5),
        "conv2_bias": (50,),
        "dense": (components, 50 * pooled**2),
        "dense_bias": (components,),
    }


def random_layers(side: int, components: int) -> dict[str, Any]:
    """Return random weights, and those of the layer that joins two pictures."""
    import torch

    shapes = layer_shapes(side, components)
    shapes |= {"joined": (1, components), "joined_bias": (1,)}
    weights = {}
    for name, shape in shapes.items():
        fan_in = math.prod(shapes[name.removesuffix("_bias")][1:])
        # As wide as keeps the spread through ReLU (He et al., 2015): in the product of
        # two shrunken outputs there would be nothing left to learn from.
        width = 0.0 if name.endswith("bias") else math.sqrt(6 / fan_in)
        weights[name] = width * (2 * torch.rand(shape) - 1)
    return weights


def as_images(vectors: Floats) -> Floats:
    """Return pixels (n_images, 3, side, side) around zero."""
    side = side_of(vectors.shape[1])
    return (vectors.reshape(-1, 3, side, side) - 0.5).astype(np.float32)


def run_layers(weights: dict[str, Any], images: Any) -> Any:
    """Run the shared layers: (n_images, components)."""
    from torch.nn.functional import conv2d, linear, max_pool2d, relu

    maps = max_pool2d(relu(conv2d(images, weights["conv1"], weights["conv1_bias"])), 2)
    maps = max_pool2d(relu(conv2d(maps, weights["conv2"], weights["conv2_bias"])), 2)
    return relu(linear(maps.flatten(1), weights["dense"], weights["dense_bias"]))


def pair_loss(weights: dict[str, Any], images: Floats, pairs: PairSet) -> Any:
    """Return the weighted cross-entropy of some pairs, each picture run once."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, linear

    device = weights["joined"].device
    used, place = np.unique(np.append(pairs.left, pairs.right), return_inverse=True)
    rows = torch.from_numpy(images[used]).to(device)
    outputs = run_layers(weights, rows)[torch.from_numpy(place).to(device)]
    left, right = outputs.chunk(2)
    logits = linear(left * right, weights["joined"], weights["joined_bias"])[:, 0]
    label = torch.from_numpy(pairs.label.astype(np.float32)).to(device)
    weight = torch.from_numpy(pairs.weight.astype(np.float32)).to(device)
    return binary_cross_entropy_with_logits(logits, label, weight, reduction="sum")


def mean_loss(weights: dict[str, Any], images: Floats, pairs: PairSet) -> float:
    """Return the weighted mean cross-entropy over a side."""
    import torch

    blocks = np.array_split(np.arange(len(pairs)), math.ceil(len(pairs) / _ROWS))
    with torch.no_grad():
        total = sum(float(pair_loss(weights, images, pairs.take(b))) for b in blocks)
    return total / float(pairs.weight.sum())
