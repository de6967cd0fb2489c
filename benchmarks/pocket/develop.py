"""Measure a network by what it is chosen by: never by the test set of anything.

`development` ranks images that no training saw: held-out scenes by formula, and
regions of the photographs in scikit-image and scikit-learn beyond those that the demo
shows. `validation` takes the validation set, over five seeds, of the sets beside the
project, where they are.

Run it as ``python benchmarks/pocket/develop.py pocket.onnx``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from augment import Strength, instance_views, look_views
from images import make_bank
from net import normalised
from PIL import Image
from validation_sides import SETS, read_set, top2_on_validation

from tllboost.demo import make_scenes
from tllboost.grid.data import gather
from tllboost.vectorizers.onnx import OnnxVectorizer

__all__ = ["development", "validation"]

_N_SHOWN = 242  # scenes of the demo, and those it keeps out of its pairs
_N_PHOTOGRAPHS = 110
_N_DRAWN = 400
_SEED = 99  # of no training


def development(vectorizer: OnnxVectorizer, cache: Path) -> dict[str, float]:
    """Return how often an image's other view comes first among all others.

    Returns
    -------
    dict of str to float
        ``things``: scenes by formula on clutter; ``looks``: the same layouts drawn
        anew; ``photographs``: regions seen anew; ``covers``: regions on clutter of
        other regions.
    """
    size = vectorizer.preprocessing.size[0]
    bank, _ = make_bank(1000, seed=_SEED, size=128, cache=cache)
    drawn = _tensor(bank[:_N_DRAWN])
    clutter = _tensor(bank[500:600, 0])
    seen = _photographs(size)
    rng, strength = torch.Generator().manual_seed(_SEED), Strength()
    half = len(seen) // 2
    views = {
        "things": [
            instance_views(drawn[:, 0], clutter, size, strength, rng) for _ in range(2)
        ],
        "looks": [look_views(drawn[:, i], size, strength, rng) for i in range(2)],
        "photographs": [seen[:, 0], seen[:, 1]],
        "covers": [
            instance_views(seen[:half, 0], seen[half:, 0], size, strength, rng)
            for _ in range(2)
        ],
    }
    return {name: _first(vectorizer, *pair) for name, pair in views.items()}


def _photographs(size: int) -> torch.Tensor:
    """Return two views each of regions that the demo does not show."""
    n = _N_SHOWN + _N_PHOTOGRAPHS
    with tempfile.TemporaryDirectory() as folder:
        make_scenes(folder, n_scenes=n, n_views=2, size=size)
        images = [
            [
                np.asarray(Image.open(Path(folder, f"scene_{scene:04d}_{view}.jpg")))
                for view in range(2)
            ]
            for scene in range(_N_SHOWN + 1, n + 1)
        ]
    return _tensor(np.array(images))


def _tensor(images: np.ndarray) -> torch.Tensor:
    """Return images (..., height, width, 3) as (..., 3, height, width), 0 to 1."""
    return torch.from_numpy(np.array(images)).float().div(255).movedim(-1, -3)


def _first(
    vectorizer: OnnxVectorizer, left: torch.Tensor, right: torch.Tensor
) -> float:
    """Return the share of left images whose own right one is nearest of all."""
    one, other = (
        _unit(vectorizer.run(normalised(side).contiguous().numpy()))
        for side in (left, right)
    )
    return float(((one @ other.T).argmax(axis=1) == np.arange(len(one))).mean())


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def validation(
    vectorizers: dict[str, object], data: Path, *, store: Path | None = None
) -> dict[str, dict[str, float]]:
    """Return the top-2 accuracy of the cosine on the validation sets of the sets.

    Returns
    -------
    dict of str to dict
        By set, then by the vectorizer's name: the mean over five seeds.
    """
    found: dict[str, dict[str, float]] = {}
    for name in SETS:
        gathered = gather(read_set(data, name), vectorizers, store=store)
        found[name] = {
            label: top2_on_validation(_unit(one.vectors), gathered, name)
            for label, one in gathered.vectors.items()
        }
    return found


def main() -> None:
    """Print both measures of a network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/pocket"))
    given = parser.parse_args()
    vectorizer = OnnxVectorizer(given.network, fit="squash")
    for name, value in development(vectorizer, given.cache).items():
        print(f"{name}: {value:.3f}")
    if given.data.is_dir():
        for name, figures in validation({"pocket": vectorizer}, given.data).items():
            print(f"{name}, validation, top-2: {figures['pocket']:.3f}")


if __name__ == "__main__":
    main()
