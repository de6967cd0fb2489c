"""Errors are one line that says what to do, and no reader's going away is one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Run, write_image
from killed_work import make_image_pairs

COMMAND = (sys.executable, "-m", "tllboost")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gird"], "did you mean 'grid'? see tllboost --help"),
        (["grid", "--nope"], "no such option: --nope"),
        (["grid", "--seeds", "0"], "--seeds"),
        (["score"], "missing argument 'BUNDLE': see tllboost score --help"),
        (["bundle", "show"], "see tllboost bundle show --help"),
        (["list", "colours"], "'vectorizers', 'networks', 'projections'"),
        (["vectorize", "x", "-v"], "requires an argument"),
        (["demo", "--scenes", "many"], "see tllboost demo --help"),
        (["grid"], "--out FOLDER: see tllboost grid --help"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_that_says_where_to_look(
    run: Run, arguments: list[str], said: str
) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("tllboost: ")
    assert len(done.stderr.splitlines()) == 1
    assert said.lower() in done.stderr.lower()


@pytest.mark.parametrize("group", [(), ("store",), ("bundle",)])
def test_a_group_alone_shows_its_help_and_no_error(
    run: Run, group: tuple[str, ...]
) -> None:
    done = run(*group)
    assert "Usage: tllboost" in done.stdout + done.stderr
    assert "tllboost:" not in done.stderr


def test_our_bug_is_one_line_and_a_variable_shows_the_rest(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tllboost.merges.MERGES", None)
    done = run("list", "merges")
    assert done.returncode == 1
    assert done.stderr.startswith("tllboost: a bug of ours: TypeError: ")
    assert "TLLBOOST_TRACEBACK=1" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    monkeypatch.setenv("TLLBOOST_TRACEBACK", "1")
    assert "Traceback" in run("list", "merges").stderr


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(4):
        write_image(folder / f"{seed}.jpg", seed=seed)
    return folder


@pytest.mark.parametrize("place", ["file", "file/below"])
@pytest.mark.parametrize(
    "command",
    [
        "grid {pairs} --images {images} -c cosine --store {store} --out {place}",
        "vectorize {images} -v classic --store {place}",
        "vectorize {images} -v classic --store {store} --out {place}/v.npz",
        "demo --scenes 60 --out {place}/x",
        "check {pairs} --images {place}",
        "store verify --store {place}",
        "report {place}",
    ],
)
def test_a_place_that_is_none_is_one_line(
    run: Run, images: Path, tmp_path: Path, command: str, place: str
) -> None:
    (tmp_path / "file").write_text("a file, no folder")
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("left,right\n0,1\n2,3\n")
    words = command.format(
        images=images,
        pairs=pairs,
        store=tmp_path / "store",
        place=tmp_path / place,
    ).split()
    done = run(*words)
    assert done.returncode in (2, 3, 5), done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert str(tmp_path / "file") in done.stderr
    assert "a bug of ours" not in done.stderr


def read_no_more(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    """Run a command whose output nobody reads any more, as behind ``| head``."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            stdout=writer,
            check=False,
            **{"stderr": subprocess.PIPE, **options},  # type: ignore[call-overload]
        )
    finally:
        os.close(writer)


@pytest.mark.skipif(sys.platform == "win32", reason="has other pipes")
@pytest.mark.parametrize(
    "arguments", [("list",), ("--help",), ("grid", "--print-config")], ids=" ".join
)
def test_a_reader_that_has_seen_enough_is_no_error(arguments: tuple[str, ...]) -> None:
    done = read_no_more(*arguments)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="has other pipes")
def test_a_grid_is_finished_though_nobody_reads_its_matrix(tmp_path: Path) -> None:
    pairs, out = make_image_pairs(tmp_path), tmp_path / "out"
    done = read_no_more(
        *("grid", pairs, "--images", tmp_path, "-v", "pixels", "-c", "cosine"),
        *("--store", tmp_path / "store", "--out", out),
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0
    assert {"best.tllb", "matrix.csv", "report.html"} <= {p.name for p in out.iterdir()}


@pytest.mark.parametrize(
    "environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"]
)
def test_no_colour_where_none_is_wanted(environment: dict[str, str]) -> None:
    for arguments in (("--help",), ("list",), ("grid", "--nope")):
        done = subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            env={**os.environ, **environment},
            check=False,
        )
        assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="has other signals")
def test_ctrl_c_ends_vectorizing_in_one_line(tmp_path: Path) -> None:
    for seed in range(600):
        write_image(tmp_path / f"{seed}.png", seed=seed)
    store = str(tmp_path / "store")
    command = subprocess.Popen(
        [*COMMAND, "vectorize", str(tmp_path), "-v", "classic", "--store", store],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever started the tests in the background ignores SIGINT, and children do.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "store" / "vectors.sqlite").exists():
        assert command.poll() is None
        time.sleep(0.05)
    command.send_signal(signal.SIGINT)
    stdout, stderr = command.communicate(timeout=60)
    assert command.returncode == 130, stderr
    assert stdout == ""
    # Where it meets a library that makes an error of its own of it, less is said.
    assert re.fullmatch(r"(tllboost: )?interrupted(: the same command .*)?\n", stderr)


def test_an_error_that_a_library_makes_of_ctrl_c_is_no_bug() -> None:
    code = (
        "import os, signal, sys; import tllboost.cli as cli; import tllboost.cli.app\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def app(**given):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except KeyboardInterrupt as error:\n"
        "        raise ImportError('initialization failed') from error\n"
        "tllboost.cli.app.app = app\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "tllboost: interrupted\n")
