"""Heads that are dense networks.

One is trained here, in torch: the fully connected head of the 2017 Holidays
experiments. The other was trained along with the contrastive projection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from tllboost.dense import Adam, layers_of, own_chance, train
from tllboost.errors import UsageError
from tllboost.heads.base import (
    PairHead,
    Training,
    Validation,
    cosine_start,
    fits_memory,
    refuse_lost,
    within_memory,
)
from tllboost.heads.fitted import Dense, FittedHead, blocks_of
from tllboost.merges import merge_names


@dataclass(eq=False, repr=False, kw_only=True)
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
        Passes without gain on validation before training stops; 0 never stops and
        keeps the last.
    batch_size : int, default=32
    learning_rate, weight_decay : float, default=1e-3, 1e-3
        Of AdamW (Loshchilov & Hutter, 2019).
    random_state : int, RandomState, Generator or None, default=0

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

    hidden: tuple[int, ...] = (512, 128)
    dropout: float = 0.2
    n_epochs: int = 10
    patience: int = 3
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    random_state: Any = 0

    def learn(self, training: Training, validation: Validation | None) -> None:
        """Train; keep the best epoch on validation, or the last without one."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        training = within_memory(training._replace(query=None), seed=self.seed_)
        X, y, weight, _ = training
        features = np.array(X, dtype=np.float32)
        shift, scale = features.mean(axis=0), features.std(axis=0)
        scale[scale < 1e-9] = 1.0
        start = cosine_start(training, validation)
        features -= shift
        features /= scale
        columns = (features, y, weight / weight.mean(), start.decision_function(X))
        rows, label, share, offset = (
            torch.from_numpy(c.astype(np.float32, copy=False)) for c in columns
        )

        def scaled(block: Any) -> Any:
            return torch.from_numpy((block - shift) / scale)

        if validation is not None:
            # Made once, not for every epoch, and only where memory holds them.
            known = start.decision_function(validation.features)
            fits = fits_memory(validation)
            held = [*map(scaled, blocks_of(validation.features))] if fits else None
        with own_chance(self.seed_):
            network = self._network(features.shape[1])

            def losses() -> Iterator[Any]:
                for batch in torch.randperm(len(label)).split(self.batch_size):
                    margin = offset[batch] + network(rows[batch]).squeeze(1)
                    yield binary_cross_entropy_with_logits(
                        margin, label[batch], share[batch]
                    )

            def added(block: Any) -> Any:
                is_new = not network[-1].weight.any()  # it needs no product to add 0
                return 0 * block.sum(1) if is_new else network(block).squeeze(1)

            def validate() -> float:
                if validation is None:
                    return 0.0
                blocks = held or map(scaled, blocks_of(validation.features))
                with torch.no_grad():
                    margin = torch.cat([*map(added, blocks)]).numpy()
                return validation.loss(margin + known)

            def keep() -> None:
                """Copy the layers, the scaling of the columns folded into the first."""
                (weight, bias), *rest = layers_of(network)
                weight = weight / scale[:, None]
                part = Dense([(weight, bias - shift @ weight), *rest])
                self.fitted_ = replace(start, part=part)

            found = train(
                network,
                Adam(network.parameters(), self.learning_rate, self.weight_decay),
                losses,
                validate,
                keep,
                n_epochs=self.n_epochs,
                patience=self.patience if validation else 0,
            )
        refuse_lost(self, min(found))

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

    def learn(self, training: Training, validation: Any) -> None:
        """Take the network over that a projection trained along.

        Raises
        ------
        UsageError
            If there is no such network, or it reads other features.
        """
        X = training.features
        layers = list(getattr(X, "joined", None) or ())
        if not layers:
            msg = (
                "the head joined is a network that -p contrastive trains, and these "
                "pairs have none: give -p contrastive (of one member, and without "
                "joined=false), or another head"
            )
            raise UsageError(msg)
        n_features = len(layers[0][0])
        if merge_names(X.merge) != merge_names(MERGE) or X.shape[1] != n_features:
            msg = (
                f"the joined head reads {n_features} features of the merge {MERGE!r}, "
                f"got {X.shape[1]} of {X.merge!r}: give merge {MERGE!r}"
            )
            raise UsageError(msg)
        zero = np.float32(0)  # the score stays float32
        self.fitted_ = FittedHead(Dense(layers), zero, zero)
