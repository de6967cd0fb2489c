"""A grid, and any command, whose disk takes nothing more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from killed_work import make_pairs
from reliability import count

TESTS = Path(__file__).parent
SIZES = {"results": (8, 12, 64, 104), "both": (20, 60)}
NAMESPACE = ("unshare", "--map-root-user", "--mount")


@pytest.fixture
def namespace() -> tuple[str, ...]:
    """A command in front of others that lets them mount disks of their own."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here: no disk of one's own can be made")
    trial = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(trial, capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a disk of their own")
    return NAMESPACE


@pytest.mark.parametrize("where", ["results", "both"])
def test_a_full_or_read_only_disk_stops_a_grid_in_one_line_and_it_goes_on(
    namespace: tuple[str, ...], tmp_path: Path, where: str
) -> None:
    make_pairs(tmp_path)
    sizes = SIZES[where]
    script = [sys.executable, TESTS / "disks.py", tmp_path, where, *map(str, sizes)]
    done = subprocess.run(
        [*namespace, *map(str, script)],
        capture_output=True,
        text=True,
        check=False,
        cwd=TESTS,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == 3 * len(sizes)
    stopped_at = set()
    for one in told:
        assert one["parts"] == [], one
        if one["state"] == "room":
            assert (one["code"], one["errors"]) == (0, ""), one
            continue
        assert one["errors"].count("\n") == 1, one
        said = one["errors"].split(str(tmp_path / "disk") + "/")[1]
        if one["state"] == "ro":
            assert one["code"] == 3, one
            assert "out: can't be written (Read-only file system)" in said
        elif said.startswith("store"):
            assert one["code"] == 5, one
            assert "free some space" in said
        else:
            assert one["code"] == 3, one
            assert "can't be written (No space left on device)" in said
        if one["state"] == "full":
            stopped_at.add(said.split("/")[0 if said.startswith("store") else 1][:5])
        count("bad disks tried")
    wanted = {"results": {"image", "split", "cells"}, "both": {"store"}}
    assert stopped_at >= wanted[where]
    matrices = {one["matrix"] for one in told if one["state"] != "full"}
    assert len(matrices) == 1
    assert None not in matrices
    count("results compared", len(sizes))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("command", [("list",), ("--help",), ("--version",)])
def test_output_that_goes_to_a_full_disk_is_one_line(command: tuple[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tllboost", *command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr == (
        "tllboost: can't write the output (No space left on device)\n"
    )
    count("bad disks tried")
