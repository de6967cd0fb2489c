"""Progress: what a watcher sees, and the silence where nobody watches."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from killed_work import make_image_pairs
from rich.console import Console

from tllboost.cli.streams import bars_on, progress_bar
from tllboost.grid.run import run_grid
from tllboost.pairs import read_pairs
from tllboost.processes import Processes


def terminal(width: int = 80) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=width,
        legacy_windows=False,
        _environ={"TERM": "xterm-256color"},
    )


def drawn(console: Console) -> list[str]:
    """Return every line that was drawn, without colours and cursor movements."""
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", text))


def test_a_bar_tells_how_many_and_how_long() -> None:
    console = terminal()
    with bars_on(console) as progress:
        assert progress is not None
        bars = progress
        now = iter(range(1000))
        bars.get_time = lambda: float(next(now))
        for done in range(0, 90, 10):
            progress(done, 100, "classic")
        bars.refresh()
    text = "\n".join(drawn(console))
    assert "classic" in text
    assert re.search(r"80/100", text)
    assert re.search(r"0:00:\d\d left", text)


def test_what_the_store_held_already_does_not_count_as_fast() -> None:
    console = terminal()
    with bars_on(console) as progress:
        assert progress is not None
        bars = progress
        now = iter(range(1000))
        bars.get_time = lambda: float(next(now))
        for done in range(100_000, 100_005):
            progress(done, 200_000, "classic")
        (task,) = bars.tasks
        assert 0 < task.speed <= 1


def test_cells_at_work_stand_below_the_bar_by_name() -> None:
    console = terminal()
    names = ["classic × none × dot × xgboost, seed 0", "odd\x1b[2Jname [bold]" * 9]
    with bars_on(console) as progress:
        assert progress is not None
        progress(1, 8, "cells")
        progress.running(names)
        progress.refresh()
        progress.running([])
    lines = drawn(console)
    assert f"  {names[0]}" in lines
    assert any(line.startswith("  odd\\x1b[2Jname [bold]") for line in lines)
    assert max(map(len, lines)) <= 80


def test_many_cells_at_work_are_counted() -> None:
    console = terminal()
    with bars_on(console) as progress:
        assert progress is not None
        progress(0, 30, "cells")
        progress.running([f"cell {i}" for i in range(20)])  # type: ignore[attr-defined]
        progress.refresh()
    assert "  and 12 more" in drawn(console)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_bar_fits_its_terminal(width: int) -> None:
    console = terminal(width)
    with bars_on(console) as progress:
        assert progress is not None
        progress(0, 1400, "onnx:mobilenetv2_100?views=whole,centre,grey")
        progress(700, 1400, "onnx:mobilenetv2_100?views=whole,centre,grey")
        progress(3, 9, "cells")
    lines = drawn(console)
    assert max(map(len, lines)) <= width
    assert any("700/1400" in line for line in lines)


class Watched(io.StringIO):
    """A standard error that somebody watches."""

    def isatty(self) -> bool:
        return True


def test_nobody_is_told_in_a_pipe_in_silence_or_on_a_dumb_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with progress_bar() as piped:  # pytest holds standard error, no terminal
        assert piped is None
    monkeypatch.setattr(sys, "stderr", Watched())
    monkeypatch.setenv("TERM", "xterm-256color")
    with progress_bar() as watched:
        assert watched is not None
    with progress_bar(quiet=True) as quiet:
        assert quiet is None
    monkeypatch.setenv("TERM", "dumb")
    with progress_bar() as dumb:
        assert dumb is None


class Recorded:
    """A progress that keeps what it was told."""

    def __init__(self) -> None:
        self.bars: dict[str, tuple[int, int]] = {}
        self.names: set[str] = set()

    def __call__(self, done: int, total: int, what: str) -> None:
        self.bars[what] = (done, total)

    def running(self, names: Sequence[str]) -> None:
        self.last = list(names)
        self.names |= set(names)


def test_a_grid_tells_which_cells_run(tmp_path: Path) -> None:
    pairs = make_image_pairs(tmp_path)
    progress = Recorded()
    run_grid(
        read_pairs(pairs, images=pairs.parent),
        ["pixels"],
        merges=["dot"],
        heads=["cosine", "bad_heads:Slow"],
        out=tmp_path / "out",
        store=tmp_path / "store",
        backend=Processes(1),
        progress=progress,
    )
    bars = {"pixels": (80, 80), "cells": (2, 2), "best.tllb": (1, 1)}
    assert progress.bars == bars
    assert progress.names <= {
        "pixels × none × none × cosine, seed 0",
        "pixels × none × dot × bad_heads:Slow, seed 0",
    }
    assert progress.names
    assert progress.last == []


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_a_watched_command_draws_bars_and_a_piped_one_does_not(tmp_path: Path) -> None:
    import pty

    (tmp_path / "images").mkdir()
    make_image_pairs(tmp_path / "images", n_pairs=10).unlink()
    command = [
        *(sys.executable, "-m", "tllboost", "vectorize", tmp_path / "images"),
        *("-v", "pixels"),
    ]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    watched = subprocess.run(
        [*command, "--store", tmp_path / "one"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment,
        check=True,
    )
    os.close(theirs)
    seen = b""
    while chunk := _read(ours):
        seen += chunk
    os.close(ours)
    assert b"20/20" in seen
    piped = subprocess.run(
        [*command, "--store", tmp_path / "two"],
        capture_output=True,
        env=environment,
        check=True,
    )
    assert piped.stderr == b""
    for done in (watched, piped):
        assert b"20 computed" in done.stdout
        assert b"\x1b" not in done.stdout


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed and all is read
        return b""
