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

import io
import json
import os
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tllboost import __version__
from tllboost.conventions import environment
from tllboost.files import write_bytes, write_json
from tllboost.grid.cells import Cell, digest
from tllboost.grid.data import Grid, GridData
from tllboost.grid.measure import ScoredSet
from tllboost.grid.outputs import write_csv
from tllboost.grid.summary import COSTS
from tllboost.splits import PairSet

Scores = dict[str, list[NDArray[np.float64]]]


def record_path(out: Path, cell_id: str) -> Path:
    """Return where the record of a cell lies."""
    return out / "cells" / f"{cell_id}.json"


def write_scores(
    out: Path, cell_id: str, test: ScoredSet, validation: ScoredSet
) -> None:
    """Write the calibrated log-odds of the pairs of each fold, float32.

    Beside them, unless it is no numbers, what :func:`read_held_out` returns.
    """
    arrays = {
        f"{name}{fold}": log_odds.astype(np.float32)
        for name, of in (("test", test), ("validation", validation))
        for fold, log_odds in enumerate(of.log_odds)
    }
    said = validation.said
    if said is not None and all(isinstance(one, float | np.ndarray) for one in said):
        arrays["held_out"] = np.concatenate([validation.first, test.first])
        arrays |= {f"said{at}": np.asarray(one) for at, one in enumerate(said)}
    # In memory first: to close an archive on a full disk prints an ignored exception.
    held = io.BytesIO()
    np.savez(held, **arrays)  # type: ignore[arg-type]
    write_bytes(out / "scores" / f"{cell_id}.npz", held.getbuffer())


def read_scores(out: Path, cell_id: str) -> Scores | None:
    """Return log-odds of "test" and "validation", an array a fold.

    None where there is no file, or none that can be read: the cell is run again.
    """
    found = _read_arrays(out / "scores" / f"{cell_id}.npz")
    if found is None:
        return None
    wide = {name: array.astype(np.float64) for name, array in found.items()}
    return {
        name: [wide[f"{name}{i}"] for i in range(len(wide)) if f"{name}{i}" in wide]
        for name in ("test", "validation")
    }


def read_held_out(out: Path, cell_id: str) -> tuple[list[Any], Any]:
    """Return what is needed to fit the first fold of a cell again, on all pairs.

    Returns
    -------
    said : list of float or ndarray
        What its validation set said.
    score : ndarray of shape (n_pairs,), float64, or None
        Of its validation and test pairs, as the head gave them; None where that is not
        known.
    """
    found = _read_arrays(out / "scores" / f"{cell_id}.npz") or {}
    if "held_out" not in found:
        return [], None
    names = [f"said{at}" for at in range(len(found)) if f"said{at}" in found]
    return [found[name][()] for name in names], found["held_out"]


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
    write_json(record_path(out, record["id"]), record)


def read_record(out: Path, cell_id: str) -> dict[str, Any] | None:
    """Return a record, or None where there is none, or none that can be used.

    A file that is no record of this cell (edited, half copied) counts as none: the cell
    is run again. Which metrics a record has, and how many resamples, is not asked; its
    figures are numbers, or None where there was no finite one.
    """
    try:
        record = json.loads(record_path(out, cell_id).read_text(encoding="utf-8"))
        texts = [*asdict(Cell(**record["cell"])).values(), record["error"]]
        is_own = record["id"] == cell_id and type(record["seed"]) is int
        is_own &= {*map(type, texts)} == {str}
        if record["status"] == "ok":
            drawn = [*record["resampled"].values()]
            numbers = [*record["figures"].values(), *record["validation"].values()]
            numbers += chain(map(record.get, COSTS), *drawn)
            is_own &= {*map(type, drawn)} <= {list}
            is_own &= {*map(type, numbers)} <= {int, float, type(None)}
            is_own &= all(one is None or -(2**63) < one < 2**63 for one in numbers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if is_own and record["status"] in ("ok", "failed") else None


_IMAGES = "images.json"
_COLUMNS = ("left", "right", "label", "query", "weight", "component")


def write_splits(grid: Grid) -> None:
    """Write what every seed tested, and the names and places of all images.

    ``splits.csv`` says where each pair went: a pair table that protocol "given" reads.
    """
    out, table = grid.out, grid.data.table
    paths: list[str | None] = []
    for path in table.paths:
        try:  # as seen from the run's folder: both may move together
            paths.append(None if path is None else os.path.relpath(path, out))
        except ValueError:  # another drive
            paths.append(str(Path(path or "").absolute()))
    write_json(out / _IMAGES, {"ids": table.ids, "paths": paths})
    rows = []
    for seed in grid.seeds:
        arrays: dict[str, Any] = {}
        for fold, split in enumerate(grid.data.splits(seed)):
            for name in _COLUMNS:
                arrays[f"test_{name}{fold}"] = getattr(split.test, name)
            columns = (table.left, table.right, table.label, split.names)
            rows += [
                (table.ids[left], table.ids[right], int(label), name, seed, fold)
                for left, right, label, name in zip(*columns, strict=True)
            ]
        held = io.BytesIO()
        np.savez_compressed(held, **arrays)
        write_bytes(out / "splits" / f"seed-{seed}.npz", held.getbuffer())
    header = ("left", "right", "label", "split", "seed", "fold")
    write_csv(out / "splits.csv", header, rows)


def read_images(out: Path) -> tuple[list[str], list[Path | None]] | None:
    """Return the images of a run, or None where it does not say.

    Returns
    -------
    ids : list of str, length n_images
        As the table names them.
    paths : list of (Path or None), length n_images
        Where they lay; None where an image has no file.
    """
    try:
        found = json.loads((out / _IMAGES).read_text(encoding="utf-8"))
        ids = [str(one) for one in found["ids"]]
        paths = [None if one is None else out / one for one in found["paths"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (ids, paths) if len(ids) == len(paths) else None


def read_splits(out: Path, seed: int) -> list[PairSet] | None:
    """Return what each fold of a seed tested, or None where that can't be read.

    Rows are those of the scores of each cell; indices are into the images of the run.
    """
    found = _read_arrays(out / "splits" / f"seed-{seed}.npz")
    if found is None:
        return None
    folds = range(sum(name.startswith("test_left") for name in found))
    try:
        return [
            PairSet(*(found[f"test_{name}{i}"] for name in _COLUMNS)) for i in folds
        ]
    except KeyError:
        return None


def cell_ids(grid: Grid) -> dict[tuple[Cell, int], str]:
    """Return the id of each cell and seed, cells first: all that its figures are of."""
    data, spaces = grid.data, grid.data.spaces  # an unavailable vectorizer has none
    splits = {seed: data.split_digest(seed) for seed in grid.seeds}
    return {
        (cell, seed): digest(
            *known(data, spaces.get(cell.vectorizer), splits[seed]), asdict(cell), seed
        )
        for cell in grid.plan.cells
        for seed in grid.seeds
    }


def known(data: GridData, space: str | None, split: str) -> tuple[Any, ...]:
    """Return what all cells of some vectors depend on, given the hash of a split.

    `space` is what the vectors are stored under.
    """
    versions = environment()["versions"]
    used = ("numpy", "scikit-learn", "xgboost", "torch")
    return (
        __version__,
        {name: versions.get(name) for name in used},
        asdict(data.protocol),
        space,
        data.digest,
        split,
    )
