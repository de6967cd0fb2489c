"""Pair tables for tests, and what reading them says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tllboost.errors import TableError
from tllboost.pairs import PairTable, read_pairs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the images a.jpg to f.jpg, as the reader sees it: by name."""
    images = tmp_path / "images"
    images.mkdir()
    for name in "abcdef":
        (images / f"{name}.jpg").touch()
    return images


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def table_of(tmp_path: Path, text: str, **options: object) -> PairTable:
    return read_pairs(write(tmp_path / "pairs.csv", text), **options)  # type: ignore[arg-type]


def problems_of(tmp_path: Path, text: str, **options: object) -> list[str]:
    """Return what is said about a table, a problem an item, without its path."""
    path = write(tmp_path / "pairs.csv", text)
    with pytest.raises(TableError) as caught:
        read_pairs(path, **options)  # type: ignore[arg-type]
    lines = str(caught.value).splitlines()
    assert all(line.startswith(str(path)) for line in lines)
    return [line.removeprefix(str(path)) for line in lines]


def rows_of(table: PairTable) -> list[tuple[object, ...]]:
    """Return the pairs by id, in a form that doesn't depend on the image list."""
    query = table.query if table.query is not None else [None] * table.n_pairs
    split = table.split if table.split is not None else [None] * table.n_pairs
    return [
        (table.ids[i], table.ids[j], int(y), q, s)
        for i, j, y, q, s in zip(
            table.left, table.right, table.label, query, split, strict=True
        )
    ]
