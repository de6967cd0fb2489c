"""Stores for tests: keys and vectors that tell their numbers, damage on the disk."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tllboost.store import VectorStore

CLASSIC, ONNX = "classic|v1", "onnx|sha256:12ab"


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def keys(*numbers: int) -> list[str]:
    return [key(number) for number in numbers]


def vectors(*numbers: int, n_dims: int = 4) -> np.ndarray:
    """Rows that tell their numbers."""
    rows = [np.random.default_rng(number).normal(size=n_dims) for number in numbers]
    return np.array(rows, dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[VectorStore]:
    with VectorStore(folder) as opened:
        yield opened


def flip(folder: Path, number: int, spot: int = 5, bit: int = 1) -> None:
    """Flip a bit of a stored vector where it lies on the disk."""
    path = folder / "vectors.sqlite"
    content = bytearray(path.read_bytes())
    content[content.index(vectors(number).tobytes()) + spot] ^= bit
    path.write_bytes(content)


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
