"""Planted pairs, and every head fitted on them once."""

from __future__ import annotations

from functools import cache
from typing import Any

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


class Scripted(Validation):
    """A validation set whose losses are given, one after the other."""

    def __new__(cls, told: list[float], *columns: Any) -> Scripted:
        made = super().__new__(cls, *columns)
        made.told = iter(told)
        made.n_asked = 0
        return made

    def loss(self, score: np.ndarray) -> float:
        self.n_asked += 1
        return next(self.told)

    def losses(self, score: np.ndarray) -> np.ndarray:
        return np.full(4, self.loss(score))
