"""The files of a finished run, written together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tllboost.grid.data import GridData
from tllboost.grid.headline import headline
from tllboost.grid.matrix_text import write_matrices
from tllboost.grid.outputs import environment, write_csv, write_json, write_results
from tllboost.grid.plan import Cell
from tllboost.grid.result import GridResult
from tllboost.splits import Protocol

__all__ = ["write_outputs", "write_splits", "write_summary"]


def write_splits(
    out: Path, data: GridData, protocol: Protocol, seeds: Sequence[int]
) -> None:
    """Write where each pair went, as a pair table that protocol "given" reads."""
    table = data.table
    rows = [
        (table.ids[a], table.ids[b], int(label), side, seed, fold)
        for seed in seeds
        for fold, split in enumerate(data.splits(protocol, seed))
        for a, b, label, side in zip(
            table.left, table.right, table.label, split.side, strict=True
        )
    ]
    header = ("left", "right", "label", "split", "seed", "fold")
    write_csv(out / "splits.csv", header, rows)


def write_outputs(result: GridResult, records: list[dict[str, Any]]) -> None:
    """Write the tables: results, matrix, failures and the environment."""
    out = result.out
    write_results(out / "results.csv", result.rows)
    write_matrices(out, result.rows, result.metric)
    write_json(out / "environment.json", environment())
    cells = [
        ("cell", Cell(**r["cell"]).name + f", seed {r['seed']}", r["error"])
        for r in records
        if r["status"] != "ok"
    ]
    pictures = [("picture", path, why) for path, why in result.failures.items()]
    write_csv(out / "failures.csv", ("what", "where", "why"), [*pictures, *cells])


def write_summary(result: GridResult, records: list[dict[str, Any]]) -> None:
    """Add the headline to the notes and write them, with what was chosen."""
    result.notes += headline(result.rows, records, result.chosen, result.metric)
    write_json(
        result.out / "summary.json",
        {
            "metric": result.metric,
            "protocol": result.rows[0]["protocol"],
            "chosen_on_validation": result.chosen,
            "lines": result.notes,
            "data": result.data,
            "leaks": result.leaks,
            "cells": [record["id"] for record in records],
        },
    )
