"""Planted pairs, and every head fitted on them once."""

from __future__ import annotations

from functools import cache

import numpy as np
from makers import Planted, features_of, fit, plant

from tllboost.heads.base import Validation
from tllboost.scoring import PairScorer


@cache
def planted() -> Planted:
    return plant(120, n_dims=16, n_signal=4, noise=0.4)


@cache
def fitted(head: str) -> PairScorer:
    return fit(planted(), head, n_threads=1)


def scores(head: str) -> np.ndarray:
    return fitted(head).score(features_of(planted()))


def validation_of(data: Planted) -> Validation:
    pairs = data.split.validation
    return Validation(features_of(data, "validation"), pairs.label, pairs.weight)


def noise_of_pairs(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return columns that say nothing: products of dimensions that never agree."""
    return left[:, 4:10] * right[:, 10:16]


def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    train = planted().split.train
    return np.asarray(features_of(planted(), "train")), train.label, train.weight
