"""What fine-tuning makes small, what judges an epoch, and when vectors are all one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.projections.stopping import Matches, find_loss
from tllboost.splits import PairSet
from tllboost.vectorizers.base import unit_rows

__all__ = ["are_alike", "info_nce", "ranking_loss"]

_TEMPERATURES = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
_ALIKE = 1e-3
_MOST = 1_000  # validation matches that are looked up among each other


def info_nce(left: Any, right: Any, component: Any, temperature: float) -> Any:
    """Return InfoNCE in both directions, each match told from the rest of its batch.

    Parameters
    ----------
    left, right : torch.Tensor of shape (n_matches, n_components)
    component : torch.Tensor of shape (n_matches,)
        Two matches of one component are no non-matches of each other.
    temperature : float
        What cosines are divided by.

    Returns
    -------
    torch.Tensor of shape ()

    References
    ----------
    van den Oord, Li & Vinyals (2018), Representation Learning with Contrastive
    Predictive Coding.
    """
    import torch
    from torch.nn.functional import cross_entropy, normalize

    score = normalize(left.float()) @ normalize(right.float()).T / temperature
    own = torch.arange(len(score), device=score.device)
    same = component[:, None] == component[None, :]
    same[own, own] = False
    score = score.masked_fill(same, float("-inf"))
    return (cross_entropy(score, own) + cross_entropy(score.T, own)) / 2


def ranking_loss(vectors: NDArray[np.float32], pairs: PairSet) -> float:
    """Return how badly the cosine ranks: cross-entropy of each list's match.

    The temperature is the one that suits best, so that vectors are judged by how they
    order candidates, not by how far apart they lie.

    Parameters
    ----------
    vectors : ndarray of shape (n_images, n_dims), float32
    pairs : PairSet
        With ranking lists; without any, its matches are looked up among each other.

    Examples
    --------
    >>> from tllboost.splits import Protocol, make_splits
    >>> left, right = np.arange(40), np.arange(40, 80)
    >>> component, label = np.tile(np.arange(40), 2), np.ones(40, np.int8)
    >>> (split,) = make_splits(left, right, label, component,
    ...                        protocol=Protocol(n_others=3), seed=0)
    >>> good = np.eye(40, dtype=np.float32)[component]
    >>> bool(ranking_loss(good, split.test) < 1e-9)
    True
    """
    listed = np.flatnonzero(pairs.query >= 0)
    unit = unit_rows(vectors)
    if not len(listed):
        # The old protocol of 2017 has pairs and no lists: matches among each other.
        matches = Matches(pairs, _MOST)
        similarity = unit[matches.left] @ unit[matches.right].T
        return find_loss(similarity, matches.component)
    order = listed[np.argsort(pairs.query[listed], kind="stable")]
    left, right = unit[pairs.left[order]], unit[pairs.right[order]]
    cosine = np.einsum("ij,ij->i", left, right, dtype=np.float64)
    label, query = pairs.label[order], pairs.query[order]
    starts = np.flatnonzero(np.r_[True, query[1:] != query[:-1]])
    return min(_list_loss(cosine / one, label, starts) for one in _TEMPERATURES)


def are_alike(vectors: NDArray[np.float32]) -> bool:
    """Tell whether vectors all point one way: the network has collapsed.

    Examples
    --------
    >>> are_alike(np.ones((3, 2), np.float32)), are_alike(np.eye(3, dtype=np.float32))
    (True, False)
    """
    unit = unit_rows(vectors)
    mean = unit_rows(unit.mean(axis=0, keepdims=True))
    return not np.max(1 - unit @ mean[0], initial=0.0) > _ALIKE  # NaN counts as alike


def _list_loss(
    score: NDArray[np.float64], label: NDArray[np.int8], starts: NDArray[np.int64]
) -> float:
    """Return the mean negative log-likelihood of the matches of each list."""
    length = np.diff(np.r_[starts, len(score)])
    highest = np.maximum.reduceat(score, starts)
    power = np.exp(score - np.repeat(highest, length))
    whole = highest + np.log(np.add.reduceat(power, starts))
    n_matches = np.maximum(np.add.reduceat(label.astype(np.float64), starts), 1)
    match = np.add.reduceat(score * label, starts) / n_matches
    return float(np.mean(whole - match))
