"""A grid whose cells hang, grow and die, that is killed, stopped and started twice."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Run
from killed_work import grid_of, make_pairs
from reliability import count

from tllboost.errors import UsageError
from tllboost.grid.outputs import LOCK, locked
from tllboost.processes import Processes
from tllboost.splits import Protocol

HAS_KILL = hasattr(signal, "SIGKILL") and hasattr(os, "fork")
COSTS = {"vectorize_s", "project_s", "fit_s", "score_s", "peak_memory_mb"}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pairs(tmp_path_factory.mktemp("grid"))


def results_of(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in COSTS} for row in rows]


# Cells that go wrong


WRONG = {
    "HangsInC": "it took more than 8 s",
    "TakesMemory": "it took more than 600 MB",
    "Dies": "its process died",
}


def test_a_cell_that_goes_wrong_is_a_failed_row_and_the_rest_goes_on(
    pairs: Path, tmp_path: Path
) -> None:
    bad = [f"bad_heads:{head}" for head in WRONG]
    endless, out = "bad_heads:Endless", tmp_path / "out"
    result = grid_of(
        pairs,
        out,
        heads=["linear-svm", *bad],
        projections=["none", endless],
        backend=Processes(2, seconds=8, megabytes=600),
    )
    errors = {(row["projection"], row["head"]): row["error"] for row in result.rows}
    for head, reason in zip(bad, WRONG.values(), strict=True):
        assert errors.pop(("none", head)).startswith(reason)
        assert reason in (out / "failures.csv").read_text()
    for (projection, _), error in errors.items():
        wrong = "it took more than 8 s, the limit of a cell"
        assert error == (wrong if projection == endless else "")
    assert result.exit_code == 4
    assert result.chosen is not None
    assert not (out / ".shared").exists()
    assert not (out / LOCK).exists()


def test_what_died_once_is_tried_once_more(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = "bad_heads:DiesOnce"
    result = grid_of(pairs, tmp_path / "out", heads=[bad], backend=Processes(1))
    assert (tmp_path / "died").exists()
    assert [row["error"] for row in result.rows] == ["", ""]


@pytest.mark.parametrize("name", ["seconds", "megabytes"])
@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_limit_that_is_none_is_refused(name: str, limit: float) -> None:
    with pytest.raises(UsageError, match="must be above 0"):
        Processes(**{name: limit})


# One folder, one run


def test_a_folder_that_holds_a_run_is_refused_unless_told(
    pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    grid_of(pairs, out, resume=True)  # there is none: it starts
    before = (out / "results.csv").read_bytes()
    with pytest.raises(UsageError, match=r"--resume .*--overwrite"):
        grid_of(pairs, out)
    with pytest.raises(UsageError, match="not both"):
        grid_of(pairs, out, resume=True, overwrite=True)
    assert (out / "results.csv").read_bytes() == before
    resumed = grid_of(pairs, out, resume=True)
    assert (resumed.n_run, resumed.n_reused) == (0, 2)
    replaced = grid_of(pairs, out, overwrite=True)
    assert (replaced.n_run, replaced.n_reused) == (2, 0)


def test_the_command_refuses_a_folder_that_holds_a_run(
    run: Run, pairs: Path, tmp_path: Path
) -> None:
    vectors = f"vectors:{pairs.parent / 'own.npz'}"
    out = tmp_path / "out"
    command = (
        "grid",
        pairs,
        "-v",
        vectors,
        "-c",
        "cosine",
        "--out",
        out,
    )
    assert run(*command, "--quiet").returncode == 0
    done = run(*command)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--resume" in done.stderr
    assert "--overwrite" in done.stderr
    assert run(*command, "--resume").returncode == 0
    assert run(*command, "--overwrite").returncode == 0


def test_two_grids_into_one_folder_are_refused(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked(out):
        for how in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(UsageError, match=f"another grid.*{os.getpid()}.*wait"):
                grid_of(pairs, out, **how)
    assert not out.exists()
    assert grid_of(pairs, out).exit_code == 0


HOLDING = """
import sys, time
from pathlib import Path
from tllboost.grid.outputs import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not HAS_KILL, reason="no kill -9 here")
def test_a_lock_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, out], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=f"process {process.pid}"), locked(out):
            pass
        process.kill()
        process.wait()
    assert (out / LOCK).exists()
    with locked(out):
        pass
    assert not (out / LOCK).exists()
    count("kills survived")


def test_what_a_killed_run_left_is_no_strangers_and_is_swept(
    pairs: Path, tmp_path: Path
) -> None:
    left = [tmp_path / LOCK, tmp_path / ".run.toml.0123abcd.part"]
    for path in left:
        path.write_text("half")
    (tmp_path / ".shared").mkdir()
    (tmp_path / "cells").mkdir()
    with pytest.raises(UsageError, match="other files than a run's"):
        grid_of(pairs, tmp_path)
    (tmp_path / "cells").rmdir()
    grid_of(pairs, tmp_path)
    assert not any(path.exists() for path in left)
    assert not (tmp_path / ".shared").exists()


# Ctrl-C


@pytest.mark.skipif(not HAS_KILL, reason="no process groups here")
def test_ctrl_c_ends_a_hanging_grid_with_130_and_it_can_go_on(
    pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    vectors = f"vectors:{pairs.parent / 'own.npz'}"
    command = [sys.executable, "-m", "tllboost", "grid", str(pairs), "-v", vectors]
    options = ["-m", "l1", "-c", "naive-bayes", "-c", "bad_heads:HangsInC", "-j", "2"]
    with subprocess.Popen(
        [*command, *options, "--protocol", "kfold", "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever started the tests in the background ignores SIGINT, and children do.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    ) as process:
        try:
            deadline = time.monotonic() + 90
            while len(list(out.glob("cells/*.json"))) < 2:
                assert process.poll() is None, process.stderr
                assert time.monotonic() < deadline
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, errors
    assert "--resume" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert not (out / LOCK).exists()
    done = grid_of(pairs, out, resume=True, protocol=Protocol("kfold"))
    assert (done.n_run, done.n_reused) == (0, 2)


def test_a_warm_process_follows_to_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert Processes().call(os.getcwd) == str(tmp_path / name)
