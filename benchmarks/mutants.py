"""Change the code that decides figures and data place by place: whether tests notice.

Run it as ``make mutants``: 200 changes of the modules below, drawn by a seed. For each
the test files of its module run until a test fails. A change that no test notices wants
a test, or a line in ``docs/mutants.txt`` that says why it changes nothing. Writes
``docs/mutants.md``. It takes a system that can fork, and the better part of an hour.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
KNOWN, PAGE = ROOT / "docs" / "mutants.txt", ROOT / "docs" / "mutants.md"
SECONDS = 300  # of CPU; a change may make a loop that has no end: that is noticed too
_BROKEN = 70  # what a run ends with that is none: anything but tests that fail
TESTS = {
    "metrics.py": "metrics",
    "calibration.py": "calibration",
    "conventions.py": "habits",
    "merges.py": "merges",
    "bilinear.py": "bilinear search",
    "scoring.py": "scorer ensemble",
    "rank.py": "search",
    "classifier.py": "classifier",
    "protocols.py": "splits",
    "splits/*.py": "splits hard_negatives",
    "heads/base.py": "heads heads_scale",
    "heads/linear.py": "heads heads_scale",
    "heads/boosting.py": "heads_boosting heads_wide",
    "heads/fitted.py": "heads heads_boosting bundle_forged",
    "heads/forest.py": "heads",
    "heads/mlp.py": "heads",
    "projections/[!s]*.py": "projection_losses projections_refused projections",
    "projections/siamese.py": "projection_losses projections_refused projections",
    "projections/siamese_cnn.py": "siamese_cnn projections_refused",
    "grid/cells.py": "grid_summary grid_learned_plan",
    "grid/data.py": "grid_notes grid_few",
    "grid/measure.py": "grid_summary",
    "grid/notes.py": "grid_notes grid_few",
    "grid/records.py": "grid_summary compare",
    "grid/summary.py": "grid_summary compare",
    "grid/best.py": "grid_summary grid_learned grid_networks",
    "pairs/*.py": "pairs groups check pair_problems candidates",
    "report/compare.py": "compare",
    "explain/training.py": "explain",
}
"""Modules of the package, and the files of tests/ that are run for each."""
HEAD = """# Do the tests bite?

`make mutants` changes the modules that decide figures and data, one place at a time,
and runs the tests of that module: an operator, a number, one of two names that are
easily mixed up, a condition, an argument. A change that a test notices is killed. One
that changes nothing that anybody could see is equivalent. One that is alive wants a
test.

`benchmarks/mutants.py` names the tests of each module. Changes: {drawn}.
"""
SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Pow: ast.Mult,
    ast.USub: ast.UAdd,
    ast.Not: ast.UAdd,
    ast.Invert: ast.UAdd,
}
TYPES = ("NDArray", "Callable", "Mapping", "Sequence", "dict", "list", "tuple")
NAMES = {
    "min": "max",
    "max": "min",
    "argmin": "argmax",
    "argmax": "argmin",
    "any": "all",
    "all": "any",
    "mean": "sum",
    "left": "right",
    "right": "left",
    "square": "abs",
    "sqrt": "abs",
    "minimum": "maximum",
    "maximum": "minimum",
    "search": "match",
    "union1d": "intersect1d",
    "floor": "ceil",
}


class Mutant(NamedTuple):
    """A change of a module: the bytes from start to end are replaced by others.

    ``key`` names it in docs/mutants.txt: numbers of lines move, their text rarely.
    """

    module: str
    line: int
    start: int
    end: int
    new: str
    key: str


def changes(node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Yield parts of a node, and the text that may stand there instead."""
    match node:
        case ast.BinOp(left, op, right) if type(op) in SWAPS:
            yield node, ast.unparse(ast.BinOp(left, SWAPS[type(op)](), right))
        case ast.Compare(left, [op], right) if type(op) in SWAPS:
            yield node, ast.unparse(ast.Compare(left, [SWAPS[type(op)]()], right))
        case ast.BoolOp(op, values):
            yield node, ast.unparse(ast.BoolOp(SWAPS[type(op)](), values))
        case ast.UnaryOp(op, operand) if type(op) in SWAPS:
            yield node, f"({ast.unparse(operand)})"
        case ast.Constant(bool(value)):
            yield node, str(not value)
        case ast.Constant(int(value) | float(value)):
            yield node, str(value + 1 if type(value) is int else value * 1.5)
        case ast.Name(name) | ast.Attribute(attr=name) if name in NAMES:
            if isinstance(node.ctx, ast.Load):
                text = ast.unparse(node)
                yield node, text.removesuffix(name) + NAMES[name]
        case ast.Subscript(value, _, ast.Load()) if ast.unparse(value) not in TYPES:
            yield node, ast.unparse(value)
        case ast.If(test) | ast.IfExp(test):
            yield test, f"(not ({ast.unparse(test)}))"
        case ast.Call(func, args, [*keywords, ast.keyword(arg)]) if arg != "strict":
            yield node, ast.unparse(ast.Call(func, args, keywords))


def mutants_of(path: Path) -> list[Mutant]:
    """Return all changes of a module: not of types, messages, or lists of names."""
    source = path.read_bytes()
    starts = [0, *(i + 1 for i, byte in enumerate(source) if byte == 10)]
    lines = source.decode().split("\n")
    module = path.relative_to(ROOT / "tllboost").as_posix()
    found: dict[tuple[int, int, str], Mutant] = {}

    def look(node: ast.AST) -> None:
        match node:
            case ast.Raise() | ast.JoinedStr() | ast.keyword(arg="strict"):
                return
            case ast.If(ast.Name("TYPE_CHECKING")):
                return
        for part, new in changes(node):
            start = starts[part.lineno - 1] + part.col_offset
            end = starts[(part.end_lineno or 0) - 1] + (part.end_col_offset or 0)
            old = " ".join(source[start:end].decode().split())
            line = lines[part.lineno - 1].strip()
            key = f"{module}: {old} -> {new}, in: {line}".replace(" | ", " / ")
            found[start, end, new] = Mutant(module, part.lineno, start, end, new, key)
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns", "decorator_list"):
                for one in value if isinstance(value, list) else [value]:
                    if isinstance(one, ast.AST):
                        look(one)

    look(ast.parse(source))
    return list(found.values())


def start(tree: Path, mutant: Mutant | None, tests: str) -> int:
    """Run tests on a copy of the project, in a fork of this process; return its id."""
    if mutant is not None:
        path = tree / "tllboost" / mutant.module
        source = path.read_bytes()
        path.with_suffix(".sound").write_bytes(source)
        changed = source[: mutant.start] + mutant.new.encode() + source[mutant.end :]
        path.write_bytes(changed)
    if process := os.fork():
        return process
    try:
        os.setsid()  # with the processes that tests start
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        os.chdir(tree)
        os.dup2(os.open(tree / "log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
        os.dup2(1, 2)
        sys.path.insert(0, str(tree))
        os.environ.update(PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="1")
        pytest = importlib.import_module("pytest")
        files = [f"tests/test_{name}.py" for name in [*tests.split(), "docstrings"]]
        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not shared"]
        os._exit(int(pytest.main([*options, *files])))
    finally:
        traceback.print_exc()
        os._exit(_BROKEN)


def verdicts(
    todo: list[tuple[Mutant | None, str]], trees: list[Path], ends: float
) -> Iterator[tuple[Mutant | None, str, bool]]:
    """Yield changes, their tests and whether they noticed, as many at once as trees."""
    todo, running, free = todo[::-1], {}, list(trees)
    while todo or running:
        if time.monotonic() > ends:
            todo.clear()
        while todo and free:
            mutant, tests = todo.pop()
            tree = free.pop()
            begun = time.monotonic()
            running[start(tree, mutant, tests)] = mutant, tests, tree, begun
        time.sleep(0.05)
        for process, (mutant, tests, tree, begun) in [*running.items()]:
            done, status = os.waitpid(process, os.WNOHANG)
            if not done and time.monotonic() - begun < 6 * SECONDS:
                continue
            if not done:
                os.killpg(process, signal.SIGKILL)
                _, status = os.waitpid(process, 0)
            code = os.waitstatus_to_exitcode(status)
            if code > 2:  # 1: a test failed, 2: its file could not be imported
                sys.exit(f"{tests} did not run: {(tree / 'log').read_text()[-2000:]}")
            del running[process]
            free.append(tree)
            if mutant is not None:
                path = tree / "tllboost" / mutant.module
                path.with_suffix(".sound").replace(path)
            yield mutant, tests, code != 0


def modules() -> dict[Path, str]:
    """Return each module of TESTS, and its tests."""
    found = {glob: sorted((ROOT / "tllboost").glob(glob)) for glob in TESTS}
    return {path: TESTS[glob] for glob, paths in found.items() for path in paths}


def read_known() -> dict[str, str]:
    """Return why some changes change nothing, by their keys."""
    lines = KNOWN.read_text(encoding="utf-8").splitlines()
    return dict(line.split(" | ") for line in lines if line)


def page(told: dict[str, dict[str, list[Mutant]]], drawn: str) -> str:
    """Return the page: rates by module, what is alive, what is equivalent and why."""
    rows, lists = [], {"alive": [], "equivalent": []}
    totals = [0, 0, 0]
    for module, found in sorted(told.items()):
        counts = [len(found.get(one, [])) for one in ("killed", "alive", "equivalent")]
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        rows.append((f"`{module}`", *counts))
        for verdict, listed in lists.items():
            listed += [one.key for one in found.get(verdict, [])]
    table = [
        "| module | killed | alive | equivalent | rate |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {killed} | {alive} | {same} | "
            + (f"{killed / (killed + alive):.0%} |" if killed + alive else "– |")
            for name, killed, alive, same in [*rows, ("**all**", *totals)]
        ),
    ]
    known = read_known()
    alive = [f"- `{key}`" for key in lists["alive"]] or ["None."]
    same = [f"- `{key}`: {known[key]}" for key in lists["equivalent"]] or ["None."]
    parts = [
        [HEAD.format(drawn=drawn), *table],
        ["", "## Alive", "", *alive],
        ["", "## Equivalent, and why", "", *same, ""],
    ]
    return "\n".join(line for part in parts for line in part)


def main() -> None:
    """Draw, run and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after")
    given = parser.parse_args()
    ends = time.monotonic() + 60 * given.minutes
    every = [(one, of) for path, of in modules().items() for one in mutants_of(path)]
    # By a hash of each: a change of the code leaves the draw of the rest as it was.
    every.sort(key=lambda one: sha256(f"{given.seed} {one[0].key}".encode()).digest())
    # One thread, so that a fork loses none; and what all tests import, imported once.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    for name in ("pytest", "scipy.optimize", "sklearn.metrics", "torch"):
        importlib.import_module(name)
    told: dict[str, dict[str, list[Mutant]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        trees = [Path(folder, str(number)) for number in range(given.jobs)]
        ignored = shutil.ignore_patterns("__pycache__", ".*", "results", "build")
        for tree in trees:
            shutil.copytree(ROOT, tree, ignore=ignored)
        equivalent, unsure = read_known(), {*modules().values()}
        for mutant, tests, noticed in verdicts(every[: given.mutants], trees, ends):
            verdict = "equivalent" if mutant.key in equivalent else "alive"
            verdict = "killed" if noticed else verdict
            of_module = told.setdefault(mutant.module, {})
            of_module.setdefault(verdict, []).append(mutant)
            print(f"{verdict:10} line {mutant.line}, {mutant.key}", flush=True)
            if not noticed:  # all of these tests passed
                unsure.discard(tests)
        # Of the others nobody knows yet whether they pass where nothing is changed.
        for _, tests, noticed in verdicts([(None, one) for one in unsure], trees, ends):
            if noticed:
                sys.exit(f"without any change, a test fails in {tests}")
    n_run = sum(len(some) for found in told.values() for some in found.values())
    text = page(told, f"{n_run} drawn from {len(every):,} by seed {given.seed}")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
