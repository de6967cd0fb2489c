"""What a run tested, and on what it trained: pairs by number, and the pictures' places.

Kept beside the cells, so that a report can be written from the folder alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tllboost.grid.data import GridData
from tllboost.splits import PairSet, Protocol
from tllboost.whole_file import whole_file, write_text

__all__ = ["Pictures", "Sides", "read_pictures", "read_sides", "write_sides"]

_PICTURES = "pictures.json"
_COLUMNS = ("left", "right", "label", "query", "weight", "component")


@dataclass(frozen=True)
class Pictures:
    """The pictures of a run.

    Attributes
    ----------
    ids : list of str, length n_images
        As the table names them.
    paths : list of (Path or None), length n_images
        Where they lay; None where a picture has no file.
    """

    ids: list[str]
    paths: list[Path | None]


@dataclass(frozen=True, eq=False)
class Sides:
    """The sides of one seed.

    Attributes
    ----------
    test : list of PairSet, one a fold
        Rows as those of the scores of each cell; indices into `Pictures`.
    training_matches : list of ndarray of shape (n_matches, 2), int64, one a fold
        Left and right of each match of the training side.
    """

    test: list[PairSet]
    training_matches: list[NDArray[np.int64]]


def write_sides(
    out: Path, data: GridData, protocol: Protocol, seeds: Sequence[int]
) -> None:
    """Write what every seed tested, and the names and places of all pictures."""
    table = data.table
    write_text(
        out / _PICTURES,
        json.dumps(
            {
                "ids": list(table.ids),
                "paths": [_place(path, out) for path in table.paths],
            }
        ),
    )
    for seed in seeds:
        arrays: dict[str, Any] = {}
        for fold, split in enumerate(data.splits(protocol, seed)):
            for name in _COLUMNS:
                arrays[f"test_{name}{fold}"] = getattr(split.test, name)
            train = split.train
            matches = np.stack([train.left, train.right], 1)[train.label == 1]
            arrays[f"training_matches{fold}"] = np.unique(matches, axis=0)
        with whole_file(_sides_path(out, seed)) as file:
            np.savez_compressed(file, **arrays)


def read_pictures(out: Path) -> Pictures | None:
    """Return the pictures of a run, or None where it does not say."""
    try:
        found = json.loads((out / _PICTURES).read_text(encoding="utf-8"))
        ids = [str(one) for one in found["ids"]]
        paths = [None if one is None else out / one for one in found["paths"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Pictures(ids, paths) if len(ids) == len(paths) else None


def read_sides(out: Path, seed: int) -> Sides | None:
    """Return the sides of a seed, or None where there are none that can be read."""
    try:
        with (
            _sides_path(out, seed).open("rb") as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            folds = sum(name.startswith("test_left") for name in arrays.files)
            test = [
                PairSet(*(arrays[f"test_{name}{fold}"] for name in _COLUMNS))
                for fold in range(folds)
            ]
            matches = [arrays[f"training_matches{fold}"] for fold in range(folds)]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return Sides(test, matches)


def _sides_path(out: Path, seed: int) -> Path:
    return out / "sides" / f"seed-{seed}.npz"


def _place(path: Path | None, out: Path) -> str | None:
    """Return a path as seen from the run's folder: both may move together."""
    if path is None:
        return None
    try:
        return os.path.relpath(path, out)
    except ValueError:  # another drive
        return str(path.absolute())
