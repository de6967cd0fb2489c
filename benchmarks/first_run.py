"""Write docs/first-run.md: a session of a new user, run anew, nothing typed in.

Run it as ``python benchmarks/first_run.py IMAGES NETWORK.onnx`` with a folder of
images whose names begin with a group of four digits. It takes a few minutes.
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

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "first-run.md"
_MINUTE = 60

# What the user thinks, and then types.
SESSION: list[tuple[str, list[str]]] = [
    (
        "The folder has four photographs of each object. The first four digits of a "
        "file name say which object. Two objects are kept back as new images. The "
        "README has a pattern for such names, and advises to run `check` first.",
        [
            "ls images | head -5",
            "mkdir new && mv images/0012* images/0013* new",
            r"tllboost check images --groups '^(\d{4})'",
        ],
    ),
    (
        "Twelve groups, and no problems. Now the grid of the README:",
        [
            r"tllboost grid images --groups '^(\d{4})' -v classic -m dot -m l1 "
            "-c cosine -c logistic -c xgboost --out results/mine"
        ],
    ),
    (
        "All figures are equal. A note says why they mean little: very few groups are "
        "tested. It advises `--protocol kfold`, which tests each group once. The next "
        "grid does so, and adds a small ONNX network, `net.onnx`.",
        [
            r"tllboost grid images --groups '^(\d{4})' -v classic -v onnx:net.onnx "
            "-m dot -m l1 -c cosine -c logistic -c xgboost "
            "--protocol kfold --out results/folds",
            "ls results/folds",
        ],
    ),
    (
        "`report.html` opens in a browser. In the terminal, another metric:",
        ["tllboost report results/folds --metric roc_auc"],
    ),
    (
        "Now two pairs of new images: one object twice, and two different objects.",
        [
            "tllboost score results/folds/best.tllb new/001200.jpg new/001201.jpg",
            "tllboost score results/folds/best.tllb new/001200.jpg new/001300.jpg",
        ],
    ),
    (
        "Why this score? `pair.html` shows it on the images.",
        [
            "tllboost explain results/folds/best.tllb new/001200.jpg new/001201.jpg "
            "--out pair.html"
        ],
    ),
    (
        "Which of the new images look most like the first?",
        ["tllboost rank results/folds/best.tllb new/001200.jpg --among new --top 5"],
    ),
]

HEAD = """\
# A first run

A new user with a folder of images follows the README to a matrix, a report, a scored
pair and an explanation of the score. The images are {n} photographs of the ukbench
set. The session is real: `python benchmarks/first_run.py` runs it and writes this
page. [your-own-images.md](your-own-images.md) explains the steps.
"""

FOOT = """\
## What this run shows

Twelve groups are few, and these are easy: the network finds nearly every match, so the
grid can't tell its heads apart. The new images show only that the commands work. Run a
grid on your own images to see how good a cell is there.
"""


def session(folder: Path) -> list[str]:
    """Run the session in a folder; return its lines in Markdown."""
    lines = []
    for thought, commands in SESSION:
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


def main() -> int:
    """Run the session on what is named, and write the page."""
    images, network = (Path(name).resolve() for name in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        for image in images.glob("*.jpg"):
            shutil.copyfile(image, folder / "images" / image.name)
        (folder / "net.onnx").symlink_to(network)
        lines = session(folder)
    head = HEAD.format(n=sum(1 for _ in images.glob("*.jpg")))
    PAGE.write_text("\n".join([head, *lines, FOOT]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
