"""The cells of a grid as jobs for workers, each cell written as it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tllboost.grid.cells import COSINE, Cell, parts_of
from tllboost.grid.learn import (
    AllLearned,
    one_line,
    prepared_splits,
    spaces_of,
)
from tllboost.grid.measure import Bench, best_of_folds, measure
from tllboost.grid.records import record_path, write_record, write_scores
from tllboost.processes import Job, release_memory
from tllboost.projections import NONE
from tllboost.splits import Protocol, Split

__all__ = ["cell_jobs", "failed"]

_SLOW = ("mlp", "random-forest", "xgboost")


def failed(cell: Cell, seed: int, cell_id: str, error: str) -> dict[str, Any]:
    """Return the record of a cell that came to nothing."""
    return {
        "id": cell_id,
        "cell": asdict(cell),
        "seed": seed,
        "status": "failed",
        "error": error,
    }


def cell_jobs(missing: Mapping[tuple[Cell, int], str], every: AllLearned) -> list[Job]:
    """Return jobs, each of cells that share features; the boosted ones share a matrix.

    Heads that take long are jobs of their own and come first: what is left for the
    end then takes little, and no worker waits long for another.

    Parameters
    ----------
    missing : mapping of (Cell, int) to str
        The id of each cell and seed.
    every : AllLearned
        What is done before them.
    """
    grid, data, out = every.grid, every.grid.data, every.grid.out
    groups: dict[tuple[Any, ...], list[tuple[str, Cell]]] = {}
    for (cell, seed), cell_id in missing.items():
        slow = next((n for n, s in enumerate(_SLOW) if cell.head.startswith(s)), 9)
        n_pairs = len(data.splits(seed)[0].train)
        is_large = grid.backend.is_large(cell.head, n_pairs)
        shared = (seed, cell.vectorizer, cell.projection, cell.features)
        groups.setdefault((slow, is_large, *shared), []).append((cell_id, cell))
    jobs = []
    for key in sorted(groups, key=lambda key: key[0]):
        _, is_large, seed, vectorizer, projection, _ = key
        cells = groups[key]
        files = [record_path(out, cell_id) for cell_id, _ in cells]
        for file in files:  # of a failure: a file says that its cell is done
            file.unlink(missing_ok=True)
        tuning, rest = parts_of(projection)
        learned = every.learned[vectorizer, projection, seed]
        costs = {"vectorize_s": data.vectors[vectorizer].seconds}
        costs["project_s"] = learned.seconds or float("nan")
        maps = [str(file.relative_to(out)) for file in learned.files]
        splits, protocol = data.splits(seed), data.protocol
        bases = every.bases(vectorizer, tuning, seed)
        jobs.append(
            Job(
                _run_cells,
                (cells, seed, protocol, rest, maps, costs, splits, bases),
                files,
                reads=learned.files,
                names=[f"{cell.name}, seed {seed}" for _, cell in cells],
                fail=partial(_fail, out, cells, seed),
                is_large=is_large,
            )
        )
    return jobs


def _fail(
    out: Path, cells: list[tuple[str, Cell]], seed: int, index: int, reason: str
) -> None:
    """Write the record of a cell whose process is gone."""
    cell_id, cell = cells[index]
    write_record(out, failed(cell, seed, cell_id, reason))


def _run_cells(
    out: Path,
    cells: list[tuple[str, Cell]],
    seed: int,
    protocol: Protocol,
    projection: str,
    maps: list[str],
    costs: dict[str, float],
    splits: list[Split],
    bases: list[Any],
) -> None:
    """Run cells of the same features, writing each as it ends."""
    reason, bench = "", None
    try:
        splits = prepared_splits(splits, bases, protocol.n_hard)
        features = cells[0][1].features
        spaces = spaces_of(bases, projection, [out / file for file in maps])
        bench = Bench(spaces, splits, features, seed)
    except Exception as error:
        reason = one_line(error)
    for cell_id, cell in cells:
        if record_path(out, cell_id).exists():  # before the process was killed
            continue
        record = failed(cell, seed, cell_id, reason)
        if bench is not None:
            try:
                figures, (test, validation) = measure(bench, cell.head)
                # A fold of the training set is not held out from its own projection.
                if protocol.name == "holidays2017" and cell.projection == NONE:
                    figures["best_of_folds"] = best_of_folds(bench, cell.head)
                write_scores(out, cell_id, test, validation)
                record |= {"status": "ok", **costs, **figures}
            except Exception as error:  # a cell that fails is a row, never a lost run
                record["error"] = one_line(error)
        if cell.head == COSINE:
            record["n_features"] = 1
        write_record(out, record)
        release_memory()
