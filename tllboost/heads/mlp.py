"""The fully connected head of the 2017 Holidays experiments, in torch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from tllboost.heads.base import PairHead, Validation

__all__ = ["MLPHead"]


class MLPHead(PairHead):
    """Dense layers of 512 and 128 units, ReLU, dropout 0.2, trained by Adam.

    Columns are scaled to mean 0 and variance 1; the epoch of lowest validation loss is
    kept. Scoring needs no torch: two matrix products and a ReLU in numpy.

    Parameters
    ----------
    hidden : tuple of int, default=(512, 128)
        Width of each layer.
    dropout : float, default=0.2
        Share of units dropped in training.
    n_epochs : int, default=10
        Passes over the training pairs at most.
    batch_size : int, default=32
    learning_rate, weight_decay : float, default=1e-3, 1e-3
        Of AdamW (Loshchilov & Hutter, 2019).
    random_state : int, default=0

    Attributes
    ----------
    layers_ : list of (ndarray, ndarray)
        Weight (n_in, n_out) and bias (n_out,) of each layer, float32.

    Examples
    --------
    >>> X = np.float32([[0, 1], [1, 0], [0, 2], [2, 0]] * 8)
    >>> head = MLPHead(hidden=(8,), n_epochs=50, batch_size=4)
    >>> head = head.fit(X, np.array([0, 1] * 16))
    >>> head.predict(X[:4]).tolist()
    [0, 1, 0, 1]
    """

    def __init__(
        self,
        *,
        hidden: tuple[int, ...] = (512, 128),
        dropout: float = 0.2,
        n_epochs: int = 10,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-3,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: NDArray[np.integer],
        *,
        sample_weight: NDArray[np.float64] | None = None,
        validation: Validation | None = None,
        **_: Any,
    ) -> MLPHead:
        """Train; keep the best epoch on validation, or the last without one."""
        import torch

        features = np.array(X, dtype=np.float32)
        shift, scale = features.mean(axis=0), features.std(axis=0)
        scale[scale < 1e-9] = 1.0
        weight = np.ones(len(features)) if sample_weight is None else sample_weight
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            network = self._network(features.shape[1])
            columns = (
                torch.from_numpy((features - shift) / scale),
                torch.from_numpy(np.asarray(y, dtype=np.float32)),
                torch.from_numpy(np.asarray(weight / weight.mean(), dtype=np.float32)),
            )
            best = np.inf
            for _epoch in self._epochs(network, *columns):
                layers = _layers(network, shift, scale)
                if validation is None:
                    self.layers_ = layers
                    continue
                loss = validation.loss(_forward(layers, validation.features))
                if loss < best:
                    best, self.layers_ = loss, layers
        self.n_features_in_ = features.shape[1]
        return self

    def _network(self, n_features: int) -> Any:
        from torch import nn

        widths = (n_features, *self.hidden)
        layers: list[Any] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(self.dropout)]
        return nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def _epochs(self, network: Any, features: Any, label: Any, weight: Any) -> Any:
        """Train epoch by epoch, yielding after each."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits as loss

        optimiser = torch.optim.AdamW(
            network.parameters(), self.learning_rate, weight_decay=self.weight_decay
        )
        for epoch in range(self.n_epochs):
            network.train()
            for rows in torch.randperm(len(label)).split(self.batch_size):
                optimiser.zero_grad()
                margin = network(features[rows]).squeeze(1)
                loss(margin, label[rows], weight[rows]).backward()
                optimiser.step()
            yield epoch

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Return the log-odds, uncalibrated: (n_pairs,) float32."""
        return _forward(self.layers_, X)

    def to_members(self) -> dict[str, bytes]:
        """Return the layers as safetensors."""
        arrays = {}
        for i, (weight, bias) in enumerate(self.layers_):
            arrays[f"weight{i}"] = np.ascontiguousarray(weight)
            arrays[f"bias{i}"] = np.ascontiguousarray(bias)
        return {"head.safetensors": save(arrays)}

    def from_members(self, members: dict[str, bytes]) -> MLPHead:
        """Take the layers back."""
        arrays = load(members["head.safetensors"])
        self.layers_ = [
            (arrays[f"weight{i}"], arrays[f"bias{i}"]) for i in range(len(arrays) // 2)
        ]
        self.n_features_in_ = len(self.layers_[0][0])
        return self


def _layers(
    network: Any, shift: NDArray[np.float32], scale: NDArray[np.float32]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Copy the dense layers, the scaling of the columns folded into the first."""
    dense = [layer for layer in network if hasattr(layer, "weight")]
    layers = [
        (layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy().copy())
        for layer in dense
    ]
    weight, bias = layers[0]
    weight = weight / scale[:, None]
    layers[0] = weight, bias - shift @ weight
    return layers


def _forward(
    layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]], X: Any
) -> NDArray[np.float32]:
    """Run the network in numpy, a block at a time."""
    scores = []
    for block in X.blocks() if hasattr(X, "blocks") else [np.asarray(X, np.float32)]:
        hidden = block
        for weight, bias in layers[:-1]:
            hidden = np.maximum(hidden @ weight + bias, 0)
        weight, bias = layers[-1]
        scores.append((hidden @ weight + bias)[:, 0])
    return np.concatenate(scores or [np.zeros(0, np.float32)])
