"""Projections fitted on planted pairs as wide as small images."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from makers import Planted, plant
from safetensors.numpy import save as save_tensors

from tllboost.projections import PROJECTIONS, make_projection
from tllboost.splits import PairSet

N_DIMS = 768  # as many as an image of 16 x 16 has numbers: siamese-cnn looks at those
CHAIN = "triplet?components=16&epochs=3/contrastive?components=8&epochs=3"
QUICK = {"siamese-cnn": "siamese-cnn?components=16&epochs=3"}
CROSSFIT = "crossfit?folds=3/infonce?components=16&epochs=3"
EVERY = [*(QUICK.get(name, f"{name}?epochs=3") for name in PROJECTIONS), CHAIN]
EVERY += [CROSSFIT]
"""Few epochs: enough wherever what is asked is not how well they learn."""
MAPS = [name for name in PROJECTIONS if name != "siamese-cnn"]


def learn(spec: str, planted: Planted, *, seed: int = 0, **changed: Any) -> Any:
    """Fit a projection on the two sides that it may see."""
    split = replace(planted.split, **changed)
    made = make_projection(spec, seed=seed, device="cpu", n_threads=1)
    assert made is not None
    return made.fit(planted.vectors, split.train, split.validation)


def kept(projection: Any) -> bytes:
    """Return what was learned as a file has it."""
    return save_tensors(projection.to_tensors())


def with_option(spec: str, option: str) -> str:
    """Add an option to each part of a name that is a map."""
    parts = spec.split("/")
    marks = ["&" if "?" in one else "?" for one in parts]
    return "/".join(
        one if one.startswith("crossfit") else f"{one}{mark}{option}"
        for one, mark in zip(parts, marks, strict=True)
    )


def images_of(pairs: PairSet) -> np.ndarray:
    return np.union1d(pairs.left, pairs.right)


@cache
def pixels(seed: int = 0) -> Planted:
    """Few pairs of vectors as wide as small images; nobody changes them."""
    return plant(90, n_dims=N_DIMS, n_signal=64, noise=0.5, seed=seed)


@cache
def learned(spec: str) -> Any:
    """Return a projection fitted on them, for tests that only look at it."""
    return learn(spec, pixels())
