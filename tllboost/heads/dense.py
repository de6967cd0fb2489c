"""Dense layers as plain arrays: run in numpy, kept as safetensors."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.merges import Layer

__all__ = ["layer_arrays", "read_layers", "run_layers"]


def run_layers(layers: list[Layer], X: Any) -> NDArray[np.float32]:
    """Run a network of one output, ReLU between its layers, a block at a time.

    Parameters
    ----------
    layers : list of (ndarray, ndarray)
        Weight (n_in, n_out) and bias (n_out,) of each; the last has one output.
    X : array-like or PairFeatures of shape (n_pairs, n_features)

    Returns
    -------
    ndarray of shape (n_pairs,), float32

    Examples
    --------
    >>> layers = [(np.eye(2), np.zeros(2)), (np.ones((2, 1)), np.ones(1))]
    >>> run_layers(layers, np.float32([[1, -1], [1, 2]])).tolist()
    [2.0, 4.0]
    """
    scores = []
    for block in X.blocks() if hasattr(X, "blocks") else [np.asarray(X, np.float32)]:
        hidden = block
        for weight, bias in layers[:-1]:
            hidden = np.maximum(hidden @ weight + bias, 0)
        weight, bias = layers[-1]
        scores.append((hidden @ weight + bias)[:, 0])
    return np.concatenate(scores or [np.zeros(0, np.float32)])


def layer_arrays(layers: list[Layer]) -> dict[str, NDArray[np.float32]]:
    """Name the arrays of the layers, as safetensors keeps them.

    Examples
    --------
    >>> sorted(layer_arrays([(np.ones((2, 1)), np.ones(1))]))
    ['bias0', 'weight0']
    """
    arrays = {}
    for i, (weight, bias) in enumerate(layers):
        arrays[f"weight{i}"] = np.ascontiguousarray(weight)
        arrays[f"bias{i}"] = np.ascontiguousarray(bias)
    return arrays


def read_layers(arrays: dict[str, Any]) -> list[Layer]:
    """Take the layers back, once their shapes are known to fit each other.

    Raises
    ------
    ValueError
        If a layer is missing, or one does not take what the one before gives.
    """
    layers = [
        (arrays[f"weight{i}"], arrays[f"bias{i}"]) for i in range(len(arrays) // 2)
    ]
    shapes = [weight.shape for weight, _ in layers]
    fits = (
        bool(layers)
        and len(arrays) == 2 * len(layers)
        and all(len(shape) == 2 for shape in shapes)
        and all(bias.shape == weight.shape[1:] for weight, bias in layers)
        and all(before[1] == after[0] for before, after in pairwise(shapes))
        and shapes[-1][1] == 1
    )
    if not fits:
        msg = f"dense layers of shapes {shapes} do not fit each other"
        raise ValueError(msg)
    return layers
