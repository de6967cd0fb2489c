"""Measure the house: how many rooms, how much code, what a pair table meets in it.

    python benchmarks/house.py                     the package as it stands
    python benchmarks/house.py --follow            one pair table, through a profiler
    python benchmarks/house.py ../older/tllboost   another checkout's

Code lines are those that hold code: no docstring, comment or blank line. A room is a
module or folder at the top of the package; floors are the longest chain of imports
between rooms. Imports inside functions count; those for type checkers do not.
"""

from __future__ import annotations

import argparse
import ast
import functools
import io
import json
import os
import statistics
import sys
import tempfile
import tokenize
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1] / "tllboost"
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
Graph = dict[str, set[str]]


def measure(package: Path = PACKAGE) -> dict[str, Any]:
    """Return the figures of a package's folder, by name.

    Examples
    --------
    >>> measure()["cycles"]
    []
    """
    files = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts): path
        for path in sorted(package.rglob("*.py"))
    }
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}
    texts = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    imports = {name: _imports(name, tree, files) for name, tree in trees.items()}
    rooms: Graph = {}
    for name, found in imports.items():
        for room in filter(None, [_room(name)]):
            others = {_room(one) for one in found} - {room, ""}
            rooms.setdefault(room, set()).update(others)
    lengths = sorted(
        node.end_lineno - node.lineno + 1
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    )
    sizes = {name: len(text.splitlines()) for name, text in texts.items()}
    return {
        "modules": len(files),
        "code_lines": sum(code_lines(text) for text in texts.values()),
        "cycles": _cycles(imports),
        "rooms": len(rooms),
        "floors": _floors(rooms),
        "one_importer": sum(
            sum(name in found for found in imports.values()) == 1 for name in imports
        ),
        "functions": len(lengths),
        "function_median": statistics.median(lengths),
        "function_p90": lengths[int(0.9 * len(lengths))],
        "longest_function": lengths[-1],
        "largest_file": max(sizes.values()),
    }


def code_lines(text: str) -> int:
    """Count the lines of a module that hold code.

    Examples
    --------
    >>> code_lines('"Of what it is."' + chr(10) + "x = 1  # one" + chr(10))
    1
    """
    documents: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            first = node.body[0]
            documents |= set(range(first.lineno, (first.end_lineno or 0) + 1))
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            held |= set(range(token.start[0], token.end[0] + 1))
    return len(held - documents)


def _imports(name: str, tree: ast.AST, files: dict[str, Path]) -> set[str]:
    """Return the modules that one imports; a package's own parts are not counted."""
    found: set[str] = set()
    for node in _run_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {one.name: f"{node.module}.{one.name}" for one in node.names}
            found |= {to if to in files else node.module for to in whole.values()}
    inside = name + "."
    return {
        one
        for one in found & set(files) - {name}
        if not (files[one].name == "__init__.py" and inside.startswith(one + "."))
    }


def _run_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, but not what only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _run_nodes(node)


def _room(module: str) -> str:
    return [*module.split("."), ""][1]


def _reached(graph: Graph, start: str) -> set[str]:
    """Return all that can be reached from a node, in one step or more."""
    seen: set[str] = set()
    todo = list(graph.get(start, ()))
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            todo += graph.get(one, ())
    return seen


def _cycles(graph: Graph) -> list[list[str]]:
    """Return the sets of nodes that reach each other."""
    reached = {name: _reached(graph, name) for name in graph}
    circles = {
        tuple(sorted(to for to in reached[name] if name in reached.get(to, ())))
        for name in graph
        if name in reached[name]
    }
    return [list(circle) for circle in sorted(circles)]


def _floors(rooms: Graph) -> int:
    """Return how many rooms the longest chain has; 0 where there is a cycle."""
    if _cycles(rooms):
        return 0

    @functools.cache
    def floor(room: str) -> int:
        return 1 + max((floor(below) for below in rooms.get(room, ())), default=0)

    return max(floor(room) for room in rooms)


class Trace:
    """Which functions of the package are called, and how often the module changes."""

    def __init__(self, package: Path = PACKAGE) -> None:
        self._package = f"{package}{os.sep}"
        self.functions: set[tuple[str, str, int]] = set()
        self.changes = 0
        self._last = ""

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        """Note a call; modules, class bodies and comprehensions are none."""
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(self._package):
            return
        if not code.co_filename.endswith(".py"):  # a page's template
            return
        if code.co_name.startswith("<") or not code.co_flags & 1:  # CO_OPTIMIZED
            return
        place = (code.co_filename, code.co_qualname, code.co_firstlineno)
        self.functions.add(place)
        if code.co_filename != self._last:
            self.changes += 1
            self._last = code.co_filename

    def figures(self) -> dict[str, int]:
        """Return the three figures, by name."""
        return {
            "functions": len(self.functions),
            "modules": len({name for name, _, _ in self.functions}),
            "changes_of_module": self.changes,
        }


def follow(package: Path = PACKAGE, n_scenes: int = 40) -> dict[str, int]:
    """Follow one pair table from ``tllboost grid`` to ``matrix.csv``.

    The bundled demo's scenes, `classic`, the merge `l1`, the heads `logistic` and
    `xgboost`, one worker; what the first thread of the parent process calls.

    Returns
    -------
    dict
        Functions and modules visited, and how often a call led into another module.
    """
    sys.path.insert(0, str(package.parent))
    try:
        from tllboost.demo import make_scenes
    except ImportError:  # where an older checkout has it
        from tllboost.demo import make_scenes
    from tllboost.cli import main

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = make_scenes(folder / "images", n_scenes=n_scenes, n_views=2)
        os.environ["TLLBOOST_STORE"] = str(folder / "store")
        sys.argv = [
            *("tllboost", "grid", str(pairs), "--images", str(pairs.parent)),
            *("-v", "classic", "-m", "l1", "-c", "logistic", "-c", "xgboost"),
            *("--out", str(folder / "out"), "-j", "1", "--quiet"),
        ]
        trace = Trace(package)
        silent = io.StringIO()
        with redirect_stdout(silent), redirect_stderr(silent):
            # Called as each function begins, and asked for nothing of what it does.
            sys.settrace(trace)
            try:
                main()
            except SystemExit as leaving:
                if leaving.code:
                    raise RuntimeError(silent.getvalue()) from leaving
            finally:
                sys.settrace(None)
        if not (folder / "out" / "matrix.csv").is_file():
            msg = "the grid wrote no matrix.csv"
            raise RuntimeError(msg)
    return trace.figures()


def main() -> None:
    """Print the figures as JSON, a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", nargs="?", type=Path, default=PACKAGE)
    parser.add_argument("--follow", action="store_true", help="profile one pair table")
    given = parser.parse_args()
    package = given.package.resolve()
    print(json.dumps(follow(package) if given.follow else measure(package), indent=1))


if __name__ == "__main__":
    main()
