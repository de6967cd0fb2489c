"""The hash of all that a cell's figures hang on: the name of its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tllboost import __version__
from tllboost.grid.data import GridData
from tllboost.grid.outputs import environment
from tllboost.grid.plan import Cell, digest
from tllboost.splits import Protocol

__all__ = ["cell_ids", "known"]


def cell_ids(
    cells: Sequence[Cell], seeds: Sequence[int], data: GridData, protocol: Protocol
) -> dict[tuple[Cell, int], str]:
    """Return the id of each cell and seed, cells first."""
    splits = {seed: data.split_digest(protocol, seed) for seed in seeds}
    return {
        (cell, seed): _cell_id(cell, seed, data, protocol, splits[seed])
        for cell in cells
        for seed in seeds
    }


def _cell_id(
    cell: Cell, seed: int, data: GridData, protocol: Protocol, split: str
) -> str:
    """Hash all that could change a cell's figures."""
    if cell.vectorizer in data.unavailable:
        return digest(asdict(cell), asdict(protocol), seed, data.digest, split)
    return digest(*known(data, cell.vectorizer, protocol, split), asdict(cell), seed)


def known(
    data: GridData, vectorizer: str, protocol: Protocol, split: str
) -> tuple[Any, ...]:
    """Return what all cells of a vectorizer hang on."""
    versions = environment()["versions"]
    used = ("numpy", "scikit-learn", "xgboost", "torch")
    return (
        __version__,
        {name: versions.get(name) for name in used},
        asdict(protocol),
        data.vectors[vectorizer].space,
        data.digest,
        split,
    )
