"""What every test may ask for: the shared images and weights, small made images."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

# Before numpy, torch and xgboost read them: tests share the cores with other tests, and
# threads that wait for each other by spinning make a fit fifty times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# A process of tests starts one worker: each further one imports all libraries anew.
os.environ.setdefault("TLLBOOST_CORES", "1")

import numpy as np
import pytest
from browser import chromium, open_page, tab
from guides import SHARED
from hypothesis import settings
from PIL import Image
from reliability import VARIABLE, write_counts

from tllboost.heads import HEADS

# Fixtures that every test may ask for.
__all__ = ["chromium", "open_page", "tab"]

# No deadline: a busy machine is not a bug. The same examples in every run.
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("suite")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave what the tests counted where it was asked for, one file a process."""
    if folder := os.environ.get(VARIABLE):
        write_counts(folder, os.environ.get("PYTEST_XDIST_WORKER", "alone"))


class Done(NamedTuple):
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def table(self) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.stdout)))

    @property
    def json(self) -> Any:
        def refuse(word: str) -> None:
            pytest.fail(f"{word} is no JSON")

        return json.loads(self.stdout, parse_constant=refuse)


Run = Callable[..., Done]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that are others without the folder beside the checkout."""
    for item in items:
        if {"shared", "shared_or_made"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("shared")


_LARGE = [one for one in ("torch", "timm", "open_clip") if find_spec(one) is None]
_MISSES = re.compile(rf"(named|needs|install) '?({'|'.join(_LARGE)})\b")


def skip_without_torch(report: Any) -> Any:
    """Skip what failed for a large library that is not installed, and names it.

    Where all are installed, as `make test` has them, nothing is skipped.
    """
    if _LARGE and report.failed:
        told = [report.longreprtext, *(text for _, text in report.sections)]
        if any(map(_MISSES.search, told)):
            report.outcome = "skipped"
            report.longrepr = (report.nodeid, 0, f"without {', '.join(_LARGE)}")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    return skip_without_torch((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    return skip_without_torch((yield))


HEADS_HERE = [n for n, one in HEADS.items() if all(map(find_spec, one.needs))]
"""Names of heads whose libraries are installed: those of extras may not be."""


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Run ``tllboost`` as a shell would, away from the user's store and cache."""
    from tllboost.cli import main

    monkeypatch.delenv("TLLBOOST_STORE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")

    def run_command(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["tllboost", *map(str, arguments)])
        monkeypatch.setenv("TLLBOOST_MAX_PIXELS", "")  # which an option sets
        capfd.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main()
        return Done(leaving.value.code or 0, *capfd.readouterr())

    return run_command


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and real weights that lies beside the project."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real images and weights of ../shared, not there")
    return SHARED


@pytest.fixture(scope="session")
def shared_or_made() -> Path:
    """The same folder, there or not: what runs makes images of its own without."""
    return SHARED


@pytest.fixture(scope="session")
def tll(shared: Path) -> Path:
    """1,400 real pairs of the Totally-Looks-Like challenge."""
    return shared / "data" / "tll"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """One small JPEG of smooth colour, unlike any other seed's."""
    return write_image(tmp_path / "image.jpg", seed=0)


def flip_a_bit(store: Path) -> None:
    """Damage one of the vectors in the folder of a store."""
    with closing(sqlite3.connect(store / "vectors.sqlite")) as opened, opened:
        row, content = opened.execute("SELECT rowid, vector FROM vectors").fetchone()
        damaged = bytes([content[0] ^ 1]) + content[1:]
        opened.execute("UPDATE vectors SET vector = ? WHERE rowid = ?", (damaged, row))


def write_image(path: Path, *, seed: int, size: tuple[int, int] = (96, 80)) -> Path:
    """Write a smooth random image: few low frequencies a channel."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return path
