"""Heads that are dense networks.

One is trained here, in torch: the fully connected head of the 2017 Holidays
experiments. The other was trained along with the contrastive projection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import UsageError
from tllboost.heads.base import (
    PairHead,
    Training,
    Validation,
    cosine_curve,
    refuse_lost,
    within_memory,
)
from tllboost.heads.fitted import Dense, FittedHead
from tllboost.merges import Layer

__all__ = ["JoinedHead", "MLPHead"]


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
    fitted_ : FittedHead
        The layers, and the curve from cosine to the log-odds that they add to; slope 0
        where the features don't know the cosine.

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

        training = Training(X, np.asarray(y), sample_weight)
        X, y, sample_weight, _ = within_memory(training, seed=self.random_state)
        features = np.array(X, dtype=np.float32)
        shift, scale = features.mean(axis=0), features.std(axis=0)
        scale[scale < 1e-9] = 1.0
        weight = np.ones(len(features)) if sample_weight is None else sample_weight
        slope, intercept = np.float64(0), np.float64(0)
        if hasattr(X, "cosine"):
            slope, intercept = map(np.float64, cosine_curve(X, y, weight, validation))
        start = FittedHead(None, slope, intercept)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            network = self._network(features.shape[1])
            features -= shift
            features /= scale
            columns = (
                features,
                np.asarray(y),
                weight / weight.mean(),
                start.decision_function(X),
            )
            tensors = [
                torch.from_numpy(c.astype(np.float32, copy=False)) for c in columns
            ]
            best, since = np.inf, 0
            for _epoch in self._epochs(network, *tensors):
                now = replace(start, part=Dense(_layers(network, shift, scale)))
                if validation is None:
                    self.fitted_ = now
                    continue
                margin = now.decision_function(validation.features)
                loss, since = validation.loss(margin), since + 1
                if loss < best:
                    best, since, self.fitted_ = loss, 0, now
                if since >= self.patience:
                    break
        if validation is not None:
            refuse_lost(self, best)
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
    fitted_ : FittedHead
        The network's layers.

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
        zero = np.float32(0)  # the score stays float32
        self.fitted_ = FittedHead(Dense(layers), zero, zero)
        return self


def _parts(merge: Any) -> list[str]:
    """Return the names that a merge is the sum of; none for somebody's function."""
    return [p.strip() for p in merge.split("+")] if isinstance(merge, str) else []
