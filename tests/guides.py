"""Play a page of the documentation: its blocks in order, in a folder of their own.

Shell blocks go line by line, the installed command in this process; a Python block that
names a file becomes that file, any other runs, as the cells of a notebook do. A block
of ``text`` after one of them is what it printed. ``benchmarks/guide_outputs.py`` writes
those blocks anew by this code.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "GUIDES",
    "SHARED",
    "WEIGHTS",
    "Block",
    "alike",
    "blocks_of",
    "parse_command",
    "play",
    "prepare",
    "runs_here",
    "shell_lines",
    "shown_after",
    "text_of",
]

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("TLLBOOST_SHARED") or ROOT.parent / "shared")
"""Where real images and weights lie, if they do: see docs/data.md. The variable may
name a folder that is not there, to see what happens without."""
OLD = tuple(map(int, version("scikit-learn").split(".")[:2])) < (1, 6)
_WRITTEN = (
    "README.md",
    "grid.md",  # these two run in test_readme_runs.py, a line at a time
    "networks.md",
    "commands.md",
    "first-run.md",
    "reliability.md",
    "scale-out.md",
)
GUIDES = [
    *sorted(one for one in ROOT.glob("docs/*.md") if one.name not in _WRITTEN),
    *sorted(ROOT.glob("docs/*.ipynb")),
]

WEIGHTS = ("mobilenetv2.onnx", "mobilenetv2_100.safetensors")
"""What lies in ../shared/weights and a guide may take for a user's own file."""

_BLOCK = re.compile(r"(?m)^```(\w+)([^\n]*)\n(.*?)^```$", flags=re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d*\.?\d+(e[+-]?\d+)?%?")


class Block(NamedTuple):
    """A fenced block: its language, what else stands beside it, its lines."""

    kind: str
    note: str
    text: str
    start: int
    end: int

    @property
    def file(self) -> str | None:
        """The file that the block is, by ``file=NAME`` beside its language."""
        named = re.search(r"\bfile=(\S+)", self.note)
        return named[1] if named else None


def text_of(page: Path) -> str:
    """Return a page; a notebook as one, with its code and outputs as blocks."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    parts = []
    for cell in filter(runs_here, json.loads(text)["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            source = f"```python\n{source}\n```"
            printed = "".join(line for one in cell["outputs"] for line in one["text"])
            source += f"\n\n```text\n{printed}```" if printed else ""
        parts.append(source)
    return "\n\n".join(parts) + "\n"


def runs_here(cell: dict[str, Any]) -> bool:
    """Tell whether the library is installed that a tag of a notebook's cell names."""
    tags = cell["metadata"].get("tags", ())
    return all(find_spec(tag.removeprefix("needs-")) for tag in tags)


def blocks_of(text: str) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    return [
        Block(one[1], one[2].strip(), one[3], one.start(3), one.end(3))
        for one in _BLOCK.finditer(text)
    ]


def shell_lines(text: str) -> list[str]:
    """Return the lines of all shell blocks, those that end in a backslash joined."""
    shell = "".join(one.text for one in blocks_of(text) if one.kind == "sh")
    return [line for line in re.sub(r"\\\n\s*", "", shell).splitlines() if line]


def parse_command(line: str) -> None:
    """Raise unless a line of ``tllboost`` names a command and options that there are.

    Parsing alone: options, how many arguments, their types. Nothing is run.
    """
    import typer

    from tllboost.cli.app import app

    words = shlex.split(line.partition(" > ")[0])[1:]
    if "--config" in words:  # reads its file at once, and only the reader has that
        at = words.index("--config")
        del words[at : at + 2]
    command, context = typer.main.get_command(app), None
    name = "tllboost"
    while hasattr(command, "commands"):
        context = command.make_context(name, words[:1], parent=context)
        name, *words = words
        command = command.get_command(context, name)
    command.make_context(name, words, parent=context)


def shown_after(text: str, block: Block) -> Block | None:
    """Return the block of output that follows a block, if one does."""
    following = [one for one in blocks_of(text) if one.start > block.end]
    if not following or following[0].kind != "text":
        return None
    between = text[block.end : following[0].start]
    return following[0] if re.fullmatch(r"```\s+```text\n", between) else None


def play(text: str) -> Iterator[tuple[Block, str]]:
    """Run the blocks of a page in the current folder; yield each with what it printed.

    Raises
    ------
    AssertionError
        If a command ends with an exit code that the block does not announce by
        ``exit=CODE``.
    """
    names: dict[str, Any] = {}
    for block in blocks_of(text):
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.kind == "sh":
            wanted = re.search(r"\bexit=(\d+)", block.note)
            yield block, _shell(block.text, int(wanted[1]) if wanted else 0)
        elif block.kind == "python":
            with _captured() as printed:
                exec(compile(block.text, "<guide>", "exec"), names)
            yield block, printed()


def alike(shown: str, printed: str) -> bool:
    """Tell whether a page shows what was printed, whatever the figures.

    Numbers, marks of ties, decisions and widths of columns move from one machine to the
    next, and so does which cell is chosen; ``…`` stands for anything.
    """
    pattern = ".*?".join(map(re.escape, _blurred(shown).split("…")))
    return re.fullmatch(pattern, _blurred(printed), flags=re.DOTALL) is not None


def prepare(page: Path, folder: Path) -> dict[str, str]:
    """Put beside a page's commands the files that it names; return their environment.

    Those are tables of committed runs, and shared weights.
    """
    text = text_of(page)
    for name in set(re.findall(r"results/[\w-]+/\w+\.(?:csv|json)", text)):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for name in WEIGHTS:
        if name in text:
            (folder / name).symlink_to(SHARED / "weights" / name)
    return {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TLLBOOST_OFFLINE": "0",  # pages may export these two
        "PYTHONPATH": "",
        "COLUMNS": "80",
        "NO_COLOR": "1",
        "TERM": "dumb",
    }


def _blurred(text: str) -> str:
    text = re.sub(r"(chosen on validation: ).*?(: \w+ [\d.]+ \[)", r"\1cell\2", text)
    text = re.sub(r"over the best cosine \([^)]*\)", "over the best cosine", text)
    if OLD:  # whose forests draw otherwise, so that other cells are flat
        text = re.sub(r"(?m)^.*(: the validation scores do not tell)", r"cells\1", text)
    text = re.sub(r"(?<=\d)[*=]", "", text).replace("no match", "match")
    text = re.sub(r"─+", "─", _NUMBER.sub("0", text))
    return re.sub(r"\s+", " ", text).strip()


def _shell(text: str, wanted: int) -> str:
    """Run the lines of a shell block; all must end well but the last, as announced."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    printed = []
    for number, line in enumerate(lines, start=1):
        code, output = _run(line)
        due = wanted if number == len(lines) else 0
        assert code == due, f"{line!r} ended with {code}, not {due}:\n{output}"
        printed.append(output)
    return "".join(printed)


def _run(line: str) -> tuple[int, str]:
    """Run one line: ``tllboost`` in this process, which saves the imports."""
    if exported := re.fullmatch(r"export (\w+)=(\S+)", line):
        os.environ[exported[1]] = exported[2]
        if exported[1] == "PYTHONPATH":
            sys.path.insert(0, str(Path.cwd()))
        return 0, ""
    if not line.startswith("tllboost "):
        done = subprocess.run(
            line, shell=True, capture_output=True, encoding="utf-8", check=False
        )
        return done.returncode, done.stdout + done.stderr
    command, _, file = line.partition(" > ")
    return _command(shlex.split(command), Path(file) if file else None)


def _command(words: list[str], file: Path | None) -> tuple[int, str]:
    """Return the exit code of a command and what it printed, less what `file` got."""
    from tllboost.cli import main

    before, sys.argv = sys.argv, words
    code = 0
    try:
        with _captured(file) as printed:
            try:
                main()
            except SystemExit as leaving:
                code = int(leaving.code or 0)
    finally:
        sys.argv = before
    return code, printed()


@contextlib.contextmanager
def _captured(file: Path | None = None) -> Iterator[Callable[[], str]]:
    """Catch what is printed, in the order of a terminal; standard output to `file`."""
    both = io.BytesIO()
    own = both if file is None else file.open("wb")
    out, err = (
        io.TextIOWrapper(one, encoding="utf-8", write_through=True)
        for one in (own, both)
    )
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield lambda: both.getvalue().decode()
    # What wraps them must not close the buffer under each other.
    out.detach()
    err.detach()
    if file is not None:
        own.close()
