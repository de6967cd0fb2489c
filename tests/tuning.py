"""A small random network and made images to fine-tune it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from conftest import write_image
from PIL import Image

from tllboost.splits import Protocol, Split, SplitTable, make_splits, match_components

ARCH = "test_efficientnet"
SIZE = 64


class Tuning(NamedTuple):
    """Images of pairs, and one split of them."""

    paths: list[Path]
    split: Split

    @property
    def seen(self) -> list[Path | None]:
        """The images of training and validation; no others."""
        split = self.split
        test = {*split.test.left.tolist(), *split.test.right.tolist()}
        return [None if i in test else path for i, path in enumerate(self.paths)]


def random_network(file: Path, arch: str = ARCH) -> Path:
    """Save random weights of a small timm network."""
    import timm
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(arch, pretrained=False, num_classes=0)
    save_file(network.state_dict(), file)
    return file


def pairs_of_images(folder: Path, n_pairs: int = 24) -> tuple[list[Path], list[Path]]:
    """Write pairs that have shapes in common, and neither colours nor size."""
    folder.mkdir(parents=True, exist_ok=True)
    left, right = [], []
    for number in range(n_pairs):
        left.append(write_image(folder / f"{number:03d}_0.png", seed=number))
        pixels = np.asarray(Image.open(left[-1]))
        right.append(folder / f"{number:03d}_1.png")
        Image.fromarray(255 - np.roll(pixels, 1, axis=2)).resize((88, 88)).save(
            right[-1]
        )
    return left, right


def tuning(folder: Path, n_pairs: int = 24, **protocol: Any) -> Tuning:
    """Write images and split their pairs."""
    left, right = pairs_of_images(folder, n_pairs)
    lefts, rights = np.arange(n_pairs), np.arange(n_pairs, 2 * n_pairs)
    (split,) = make_splits(
        SplitTable(
            lefts,
            rights,
            np.ones(n_pairs, dtype=np.int8),
            match_components(2 * n_pairs, lefts, rights),
        ),
        protocol=Protocol(
            **{"n_distractors": 3, "validation_fraction": 0.25} | protocol
        ),
        seed=0,
    )
    return Tuning([*left, *right], split)
