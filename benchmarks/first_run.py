"""Write docs/first-run.md: two sessions of a new user, run anew, nothing typed in.

    python benchmarks/first_run.py

On the photographs of ukbench and on the pairs of Totally-Looks-Like, from
``../shared``, each in a folder of its own. It takes about ten minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

from fetch_data import SHARED

from tllboost.files import write_text

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "first-run.md"
_MINUTE = 60

Session = list[tuple[str, list[str]]]
# What is thought, and what is typed then.
PHOTOGRAPHS: Session = [
    (
        "A folder of photographs, four of each thing. The first four digits of a name "
        "say which. Two of the things are put away for later, as new images. The "
        "README has a pattern for such names, and says to look first.",
        [
            "ls images | head -5",
            "mkdir new && mv images/0012* images/0013* new",
            r"tllboost check images --groups '^(\d{4})'",
        ],
    ),
    (
        "Twelve groups, nothing broken. So, the grid, with nothing more said:",
        [r"tllboost grid images --groups '^(\d{4})' --out results/mine"],
    ),
    (
        "A note says why these figures mean little: hardly any group is tested. It "
        "advises `--protocol kfold`, which tests each group once.",
        [
            r"tllboost grid images --groups '^(\d{4})' --protocol kfold "
            "--out results/folds",
            "ls results/folds",
        ],
    ),
    (
        "`report.html` opens in a browser. In the terminal, another metric:",
        ["tllboost report results/folds --metric roc_auc"],
    ),
    (
        "Now the new images: two of one thing, and two of different things.",
        [
            "tllboost score results/folds/best.tllb new/001200.jpg new/001201.jpg",
            "tllboost score results/folds/best.tllb new/001200.jpg new/001300.jpg",
        ],
    ),
    (
        "Why that score? `pair.html` shows it on the images.",
        [
            "tllboost explain results/folds/best.tllb new/001200.jpg new/001201.jpg "
            "--out pair.html"
        ],
    ),
    (
        "And which of the new images look most like the first:",
        ["tllboost rank results/folds/best.tllb new/001200.jpg --among new --top 5"],
    ),
]
CHALLENGE: Session = [
    (
        "The pairs of the challenge, and a table of its form: 20 queries with 20 "
        "candidates each, none of which is among the pairs.",
        [
            "ls",
            "head -3 pairs.csv",
            "tllboost check pairs.csv --left left --right right",
        ],
    ),
    (
        "The second command is the grid, again with nothing more said.",
        ["tllboost grid pairs.csv --left left --right right --out results/mine"],
    ),
    (
        "The third ranks the candidates of each query by the cell that validation "
        "chose, and writes the submission.",
        [
            "tllboost rank results/mine/best.tllb "
            "--candidates challenge/candidates.csv "
            "--left challenge/left --right challenge/right --out submission.csv",
            "head -3 submission.csv | cut -c 1-72",
        ],
    ),
]

HEAD = """\
# A first run

Two new users have images and the README. One goes from a folder to a matrix, a report,
a scored pair and an explanation of the score; the other makes a submission for the
Totally-Looks-Like challenge in three commands. These are real sessions, written by
`python benchmarks/first_run.py` on a machine with {n_cores} cores. Nothing in them was
typed in afterwards. What else can be done with images of your own is in
[your-own-images.md](your-own-images.md).

## A folder of photographs

{n} photographs of the ukbench set.
"""

MIDDLE = """\
These groups are few, and easy: most matches are found, so the grid can't tell its cells
apart. The new images show only that the way works. How good a cell is on your own
images, a grid of those must say.

## A submission in three commands

{n} pairs of the Totally-Looks-Like challenge.
"""


def session(said: Session, folder: Path) -> list[str]:
    """Run a session in a folder; return its lines in Markdown."""
    lines = []
    for thought, commands in said:
        lines += [textwrap.fill(thought, 88), "", "```console"]
        for command in commands:
            start = time.monotonic()
            lines += [f"$ {_wrapped(command)}", *_run(command, folder)]
            seconds = time.monotonic() - start
            if seconds > 1:
                lines.append(f"[{_said(seconds)}]")
        lines += ["```", ""]
    return lines


def _run(command: str, folder: Path) -> list[str]:
    """Return what a command prints, in the order of a terminal."""
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=_environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=True,
    )
    return [line.rstrip() for line in done.stdout.strip("\n").splitlines()]


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of a user who has nothing stored yet."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TLLBOOST_STORE": str(folder / ".store"),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "80",
        "TERM": "dumb",
        "NO_COLOR": "1",
    }


def _wrapped(command: str) -> str:
    """Break a long command where an option begins."""
    lines = [""]
    for word in command.split(" "):
        if word.startswith("-") and len(lines[-1]) + len(word) > 60:
            lines[-1] += " \\"
            lines.append("    ")
        lines[-1] += word if lines[-1].strip() == "" else f" {word}"
    return "\n".join(lines)


def _said(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds // _MINUTE:.0f} min {seconds % _MINUTE:.0f} s"


def main() -> None:
    """Run both sessions, and write the page."""
    data = SHARED / "data"
    n_images = len(list((data / "ukbench").glob("*.jpg")))
    n_pairs = len((data / "tll" / "pairs.csv").read_text("utf-8").splitlines()) - 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(data / "ukbench", folder / "images")
        lines = [HEAD.format(n=n_images, n_cores=os.cpu_count())]
        lines += session(PHOTOGRAPHS, folder)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for one in (data / "tll").iterdir():
            (folder / one.name).symlink_to(one.resolve())
        (folder / "challenge").symlink_to((data / "tll-challenge").resolve())
        lines += [MIDDLE.format(n=n_pairs), *session(CHALLENGE, folder)]
    write_text(PAGE, "\n".join(lines))


if __name__ == "__main__":
    main()
