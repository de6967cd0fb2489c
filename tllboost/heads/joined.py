"""The classification network that the contrastive projection trained along."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from tllboost.errors import UsageError
from tllboost.heads.base import PairHead
from tllboost.heads.dense import layer_arrays, read_layers, run_layers

__all__ = ["JoinedHead"]

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
