"""Dense layers as plain arrays: run in numpy, kept as safetensors.

The fully connected head of the 2017 Holidays experiments, in torch.

The classification network that the contrastive projection trained along.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from tllboost.calibration import Calibration
from tllboost.errors import UsageError
from tllboost.heads.base import (
    PairHead,
    Training,
    Validation,
    cosine_curve,
    cosine_of,
    refuse_lost,
    within_memory,
)
from tllboost.merges import Layer

__all__ = ["JoinedHead", "MLPHead", "layer_arrays", "read_layers", "run_layers"]


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


class MLPHead(PairHead):
    """Dense layers of 512 and 128 units, ReLU, dropout 0.2, trained by Adam.

    The network's output is added to the log-odds of the cosine, where the features
    know it, and starts at zero: before the first epoch the head is the baseline. The
    epoch of lowest validation loss is kept, that one included. Columns are scaled to
    mean 0 and variance 1. Scoring needs no torch: matrix products and a ReLU in numpy.

    Parameters
    ----------
    hidden : tuple of int, default=(512, 128)
        Width of each layer.
    dropout : float, default=0.2
        Share of units dropped in training.
    n_epochs : int, default=10
        Passes over the training pairs at most.
    patience : int, default=3
        Passes without gain on validation before training stops.
    batch_size : int, default=32
    learning_rate, weight_decay : float, default=1e-3, 1e-3
        Of AdamW (Loshchilov & Hutter, 2019).
    random_state : int, default=0

    Attributes
    ----------
    layers_ : list of (ndarray, ndarray)
        Weight (n_in, n_out) and bias (n_out,) of each layer, float32.
    baseline_ : Calibration
        Curve from cosine to the log-odds that the network adds to; slope 0 where the
        features don't know the cosine.

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
        patience: int = 3,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-3,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.n_epochs = n_epochs
        self.patience = patience
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
        **_ignored: Any,
    ) -> MLPHead:
        """Train; keep the best epoch on validation, or the last without one.

        Of more pairs than 256 MiB hold the features of, as many are drawn.
        """
        import torch

        side = Training(X, np.asarray(y), sample_weight)
        X, y, sample_weight, _ = within_memory(side, seed=self.random_state)
        features = np.array(X, dtype=np.float32)
        shift, scale = features.mean(axis=0), features.std(axis=0)
        scale[scale < 1e-9] = 1.0
        weight = np.ones(len(features)) if sample_weight is None else sample_weight
        self.baseline_ = Calibration(0.0, 0.0)
        if hasattr(X, "cosine"):
            self.baseline_ = cosine_curve(X, y, weight, validation)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            network = self._network(features.shape[1])
            features -= shift
            features /= scale
            columns = (
                features,
                np.asarray(y),
                weight / weight.mean(),
                _offset(self.baseline_, X),
            )
            tensors = [
                torch.from_numpy(c.astype(np.float32, copy=False)) for c in columns
            ]
            best, since = np.inf, 0
            for _epoch in self._epochs(network, *tensors):
                layers = _layers(network, shift, scale)
                if validation is None:
                    self.layers_ = layers
                    continue
                held_out = validation.features
                margin = run_layers(layers, held_out) + _offset(
                    self.baseline_, held_out
                )
                loss, since = validation.loss(margin), since + 1
                if loss < best:
                    best, since, self.layers_ = loss, 0, layers
                if since >= self.patience:
                    break
        if validation is not None:
            refuse_lost(self, best)
        self.n_features_in_ = features.shape[1]
        return self

    def _network(self, n_features: int) -> Any:
        from torch import nn

        widths = (n_features, *self.hidden)
        layers: list[Any] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(self.dropout)]
        last = nn.Linear(widths[-1], 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(*layers, last)

    def _epochs(
        self, network: Any, features: Any, label: Any, weight: Any, offset: Any
    ) -> Iterator[int]:
        """Train epoch by epoch, yielding before the first and after each."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits as loss

        optimiser = torch.optim.AdamW(
            network.parameters(), self.learning_rate, weight_decay=self.weight_decay
        )
        yield 0
        for epoch in range(1, self.n_epochs + 1):
            for rows in torch.randperm(len(label)).split(self.batch_size):
                optimiser.zero_grad()
                margin = offset[rows] + network(features[rows]).squeeze(1)
                loss(margin, label[rows], weight[rows]).backward()
                optimiser.step()
            yield epoch

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Return the log-odds, uncalibrated: (n_pairs,) float64."""
        return run_layers(self.layers_, X) + _offset(self.baseline_, X)

    def to_members(self) -> dict[str, bytes]:
        """Return the layers as safetensors."""
        arrays = layer_arrays(self.layers_)
        arrays["baseline"] = np.array(self.baseline_, dtype=np.float64)
        return {"head.safetensors": save(arrays)}

    def from_members(self, members: dict[str, bytes]) -> MLPHead:
        """Take the layers back."""
        arrays = load(members["head.safetensors"])
        self.baseline_ = Calibration(*arrays.pop("baseline").tolist())
        self.layers_ = read_layers(arrays)
        self.n_features_in_ = len(self.layers_[0][0])
        return self


def _offset(baseline: Calibration, X: Any) -> NDArray[np.float64]:
    """Return the log-odds that the network adds to: (n_pairs,) float64."""
    if not baseline.slope:
        return np.full(len(X), baseline.intercept)
    return baseline.log_odds(cosine_of(X))


def _layers(
    network: Any, shift: NDArray[np.float32], scale: NDArray[np.float32]
) -> list[Layer]:
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


MERGE = "dot+l1"


class JoinedHead(PairHead):
    """The network joined to the two halves of a Siamese network, as it was trained.

    The "full network" of the Totally-Looks-Like write-up: ``-p contrastive`` trains a
    map and a network on pairs of its outputs together, and this head scores with that
    network. It learns nothing further, and reads the merge ``dot+l1`` alone: product
    and absolute difference, as the network did in training.

    Attributes
    ----------
    layers_ : list of (ndarray, ndarray)
        Weight (n_in, n_out) and bias (n_out,) of each layer, float32.

    Examples
    --------
    >>> from tllboost.merges import PairFeatures
    >>> layers = [(np.float32([[2], [0], [-1], [0]]), np.float32([0.5]))]
    >>> vectors = np.float32([[1, 2], [3, 4]])
    >>> pairs = PairFeatures(vectors, [0], [1], "dot+l1", joined=layers)
    >>> JoinedHead().fit(pairs, [1]).decision_function(pairs).tolist()
    [4.5]
    """

    def fit(self, X: Any, y: Any, **_: Any) -> JoinedHead:
        """Take the network over.

        Parameters
        ----------
        X : PairFeatures of shape (n_pairs, 2 · n_components)
            Of a projection that trained a network along.
        y : ignored

        Raises
        ------
        UsageError
            If there is no such network, or it reads other features.
        """
        layers = list(getattr(X, "joined", None) or ())
        if not layers:
            msg = (
                "the joined head is the network that -p contrastive trains along, and "
                "these pairs have none: give -p contrastive, of one member and without "
                "joined=false, or another head"
            )
            raise UsageError(msg)
        n_features = len(layers[0][0])
        if _parts(X.merge) != _parts(MERGE) or X.shape[1] != n_features:
            msg = (
                f"the joined head reads {n_features} features of the merge {MERGE!r}, "
                f"got {X.shape[1]} of {X.merge!r}: give merge {MERGE!r}"
            )
            raise UsageError(msg)
        self.layers_ = layers
        self.n_features_in_ = n_features
        return self

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Return the network's log-odds of a match: (n_pairs,) float32."""
        return run_layers(self.layers_, X)

    def to_members(self) -> dict[str, bytes]:
        """Return the layers as safetensors."""
        return {"head.safetensors": save(layer_arrays(self.layers_))}

    def from_members(self, members: dict[str, bytes]) -> JoinedHead:
        """Take the layers back."""
        self.layers_ = read_layers(load(members["head.safetensors"]))
        self.n_features_in_ = len(self.layers_[0][0])
        return self


def _parts(merge: Any) -> list[str]:
    """Return the names that a merge is the sum of; none for somebody's function."""
    return [p.strip() for p in merge.split("+")] if isinstance(merge, str) else []
