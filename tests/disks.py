"""Run grids on disks that are full, then have room, then can't be written.

    unshare --map-root-user --mount python disks.py FOLDER WHERE KILOBYTES…

The folder holds pairs and vectors, see killed_work.make_pairs. Each size is a disk of
its own, with the results on it, and the store too where WHERE is "both". What is told
is a line of JSON a command.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

from tllboost.cli import main as tllboost


def run(*arguments: object) -> tuple[int | str, str]:
    """Return the exit code of a command, and what it writes to standard error."""
    errors = io.StringIO()
    sys.argv = ["tllboost", *map(str, arguments)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            tllboost()
        except SystemExit as leaving:
            return leaving.code or 0, errors.getvalue()
    return "no exit", errors.getvalue()


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def main(folder: str, where: str, *sizes: str) -> None:
    root, disk = Path(folder), Path(folder, "disk")
    disk.mkdir()
    given = (root / "pairs.csv", "-v", f"vectors:{root / 'own.npz'}", "-m", "l1")
    how = ("-c", "naive-bayes", "--distractors", 4, "-j", 1, "-q", "--no-report")
    store = (disk if where == "both" else root) / "store"
    command = ("grid", *given, *how, "--out", disk / "out", "--store", store)
    for size in sizes:
        mount("-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk)
        for state, option in (("full", ()), ("room", "--resume"), ("ro", "--resume")):
            if state != "full":
                mount("-o", f"remount,{'size=10m' if state == 'room' else 'ro'}", disk)
            code, errors = run(*command, *([option] if option else []))
            found = disk / "out" / "matrix.csv"
            digest = hashlib.sha256(found.read_bytes()) if found.exists() else None
            told = {
                "size": int(size),
                "state": state,
                "code": code,
                "errors": errors,
                "matrix": digest and digest.hexdigest(),
                "parts": [path.name for path in disk.rglob("*.part")],
            }
            sys.stdout.write(json.dumps(told) + "\n")
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
