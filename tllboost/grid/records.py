"""A finished cell and seed as files that outlive the version that wrote them.

A record is a JSON file: the cell, its figures, resamples and costs. Beside it lie the
scores of its test and validation pairs, and, once a seed, what was tested and on what
was trained, so that a report can be written from the folder alone.

Records are read from files that may be edited, and by later versions than wrote them.
:func:`read_record` checks types alone: a metric that a record lacks, or resamples in
another number, are no error. Whoever reads a record takes figures through
:func:`tllboost.grid.summary.figure` and ``draws``, where what is missing is NaN or an
empty array.

The id of a record is the hash of all that a cell's figures depend on.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tllboost import __version__
from tllboost.files import finite, whole_file, write_text
from tllboost.grid.cells import Cell, digest
from tllboost.grid.data import Grid, GridData
from tllboost.grid.measure import ScoredSet
from tllboost.grid.outputs import environment
from tllboost.splits import PairSet

__all__ = [
    "RunImages",
    "RunSplits",
    "cell_ids",
    "is_finished",
    "known",
    "read_images",
    "read_record",
    "read_scores",
    "read_splits",
    "record_path",
    "write_record",
    "write_scores",
    "write_splits",
]

_NUMBERS = (
    *("n_train_pairs", "n_test_queries", "n_candidates", "n_features", "threshold"),
    *("vectorize_s", "project_s", "fit_s", "score_s", "best_of_folds"),
    "peak_memory_mb",
)


def is_record(found: Any) -> bool:
    """Tell whether something read from JSON is a record, of whichever cell.

    Which metrics it holds, and how many resamples, is not asked.

    Examples
    --------
    >>> cell = {"vectorizer": "a", "projection": "none", "merge": "dot", "head": "b"}
    >>> record = {"id": "1", "cell": cell, "seed": 0, "status": "failed", "error": "x"}
    >>> is_record(record)
    True
    >>> is_record(record | {"status": "ok"})
    False
    """
    match found:
        case {
            "id": str(),
            "seed": int() as seed,
            "error": str(),
            "status": status,
            "cell": {
                "vectorizer": str(),
                "projection": str(),
                "merge": str(),
                "head": str(),
                **others,
            },
        } if not others and not isinstance(seed, bool):
            return status == "failed" or (status == "ok" and _is_measured(found))
    return False


def _is_measured(found: dict[str, Any]) -> bool:
    """Tell whether all figures are numbers, or none where there was no finite one."""
    tables: list[Any] = [
        found.get(name) for name in ("figures", "validation", "resampled")
    ]
    if not all(isinstance(table, dict) for table in tables):
        return False
    figures, validation, resampled = (list(dict(one).values()) for one in tables)
    numbers = [*figures, *validation, *map(found.get, _NUMBERS)]
    return all(map(_are_numbers, (numbers, *resampled)))


def _are_numbers(found: Any) -> bool:
    """Tell of thousands of numbers, without a call a number."""
    if not isinstance(found, list) or {*map(type, found)} - {int, float, type(None)}:
        return False
    numbers = [number for number in found if number is not None]
    return not numbers or (
        min(numbers) > -(2**63)
        and max(numbers) < 2**63
        and all(map(math.isfinite, numbers))
    )


Scores = dict[str, list[NDArray[np.float64]]]


def record_path(out: Path, cell_id: str) -> Path:
    """Return where the record of a cell lies."""
    return out / "cells" / f"{cell_id}.json"


def scores_path(out: Path, cell_id: str) -> Path:
    """Return where the scores of a cell lie."""
    return out / "scores" / f"{cell_id}.npz"


def write_scores(
    out: Path, cell_id: str, test: ScoredSet, validation: ScoredSet
) -> None:
    """Write the calibrated log-odds of the pairs of each fold, float32."""
    arrays = {
        f"{name}{fold}": log_odds.astype(np.float32)
        for name, of in (("test", test), ("validation", validation))
        for fold, log_odds in enumerate(of.log_odds)
    }
    with whole_file(scores_path(out, cell_id)) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_scores(out: Path, cell_id: str) -> Scores | None:
    """Return log-odds of "test" and "validation", an array a fold.

    None where there is no file, or none that can be read: the cell is run again.
    """
    found = _read_arrays(scores_path(out, cell_id))
    if found is None:
        return None
    wide = {name: array.astype(np.float64) for name, array in found.items()}
    return {
        name: [wide[f"{name}{i}"] for i in range(len(wide)) if f"{name}{i}" in wide]
        for name in ("test", "validation")
    }


def _read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """Return the arrays of a file, None where it is none that can be read."""
    try:
        # Opened here: np.load leaves a file open that is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def write_record(out: Path, record: dict[str, Any]) -> None:
    """Write a record under its ``id``."""
    write_text(record_path(out, record["id"]), json.dumps(finite(record)))


def read_record(out: Path, cell_id: str) -> dict[str, Any] | None:
    """Return a record, or None where there is none, or none that can be used.

    A file that is no record of this cell (edited, half copied) counts as none: the cell
    is run again.
    """
    try:
        record = json.loads(record_path(out, cell_id).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not is_record(record) or record["id"] != cell_id:
        return None
    return dict(record)


def is_finished(out: Path, cell_id: str, metric: str) -> bool:
    """Tell whether a cell needs no run: it succeeded, and was measured by a metric.

    A failed one is tried again. One that an earlier version measured without another
    metric than that is kept: its figures hold, and what it lacks shows as missing.
    """
    record = read_record(out, cell_id)
    if record is None or record["status"] != "ok" or metric not in record["figures"]:
        return False
    return read_scores(out, cell_id) is not None


_IMAGES = "images.json"
_COLUMNS = ("left", "right", "label", "query", "weight", "component")


@dataclass(frozen=True)
class RunImages:
    """The images of a run.

    Attributes
    ----------
    ids : list of str, length n_images
        As the table names them.
    paths : list of (Path or None), length n_images
        Where they lay; None where an image has no file.
    """

    ids: list[str]
    paths: list[Path | None]


@dataclass(frozen=True, eq=False)
class RunSplits:
    """The splits of one seed, one a fold.

    Attributes
    ----------
    test : list of PairSet, one a fold
        Rows as those of the scores of each cell; indices into `Images`.
    training_matches : list of ndarray of shape (n_matches, 2), int64, one a fold
        Left and right of each match of the training set.
    """

    test: list[PairSet]
    training_matches: list[NDArray[np.int64]]


def write_splits(grid: Grid) -> None:
    """Write what every seed tested, and the names and places of all images."""
    out, table = grid.out, grid.data.table
    paths = [_place(path, out) for path in table.paths]
    write_text(out / _IMAGES, json.dumps({"ids": list(table.ids), "paths": paths}))
    for seed in grid.seeds:
        arrays: dict[str, Any] = {}
        for fold, split in enumerate(grid.data.splits(seed)):
            for name in _COLUMNS:
                arrays[f"test_{name}{fold}"] = getattr(split.test, name)
            train = split.train
            matches = np.stack([train.left, train.right], 1)[train.label == 1]
            arrays[f"training_matches{fold}"] = np.unique(matches, axis=0)
        with whole_file(_splits_path(out, seed)) as file:
            np.savez_compressed(file, **arrays)


def read_images(out: Path) -> RunImages | None:
    """Return the images of a run, or None where it does not say."""
    try:
        found = json.loads((out / _IMAGES).read_text(encoding="utf-8"))
        ids = [str(one) for one in found["ids"]]
        paths = [None if one is None else out / one for one in found["paths"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return RunImages(ids, paths) if len(ids) == len(paths) else None


def read_splits(out: Path, seed: int) -> RunSplits | None:
    """Return the splits of a seed, or None where there are none that can be read."""
    found = _read_arrays(_splits_path(out, seed))
    if found is None:
        return None
    folds = range(sum(name.startswith("test_left") for name in found))
    try:
        return RunSplits(
            [PairSet(*(found[f"test_{name}{i}"] for name in _COLUMNS)) for i in folds],
            [found[f"training_matches{i}"] for i in folds],
        )
    except KeyError:
        return None


def _splits_path(out: Path, seed: int) -> Path:
    return out / "splits" / f"seed-{seed}.npz"


def _place(path: Path | None, out: Path) -> str | None:
    """Return a path as seen from the run's folder: both may move together."""
    if path is None:
        return None
    try:
        return os.path.relpath(path, out)
    except ValueError:  # another drive
        return str(path.absolute())


def cell_ids(grid: Grid) -> dict[tuple[Cell, int], str]:
    """Return the id of each cell and seed, cells first: all that its figures are of."""
    data, protocol = grid.data, asdict(grid.data.protocol)
    splits = {seed: data.split_digest(seed) for seed in grid.seeds}
    return {
        (cell, seed): digest(asdict(cell), protocol, seed, data.digest, splits[seed])
        if cell.vectorizer in data.unavailable
        else digest(*known(data, cell.vectorizer, splits[seed]), asdict(cell), seed)
        for cell in grid.plan.cells
        for seed in grid.seeds
    }


def known(data: GridData, vectorizer: str, split: str) -> tuple[Any, ...]:
    """Return what all cells of a vectorizer depend on, given the hash of a split."""
    versions = environment()["versions"]
    used = ("numpy", "scikit-learn", "xgboost", "torch")
    return (
        __version__,
        {name: versions.get(name) for name in used},
        asdict(data.protocol),
        data.spaces[vectorizer],
        data.digest,
        split,
    )
