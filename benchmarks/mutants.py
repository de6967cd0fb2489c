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
import traceback
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from multiprocessing.pool import ThreadPool
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
KNOWN, PAGE = ROOT / "docs" / "mutants.txt", ROOT / "docs" / "mutants.md"
SECONDS = 300  # of CPU; a change may make a loop that has no end: that is noticed too
_BROKEN = 70  # what a run ends with that is none: anything but tests that fail
TESTS = {
    "metrics.py": "metrics",
    "calibration.py": "calibration",
    "conventions.py": "habits",
    "merges.py": "merges",
    "heads/bilinear.py": "bilinear search",
    "scoring.py": "scorer ensemble classifier cli_score_rank",
    "rank.py": "search",
    "classifier.py": "classifier bundle",
    "protocols.py": "splits",
    "splits/*.py": "splits hard_negatives",
    "heads/base.py heads/linear.py": "heads heads_scale",
    "heads/boosting.py": "heads_boosting heads_wide",
    "heads/fitted.py": "heads heads_boosting bundle_forged",
    "heads/forest.py heads/mlp.py": "heads heads_scale heads_joined",
    "projections/[!s]*.py projections/siamese.py": "projection_losses "
    "projections_refused projections",
    "projections/siamese_cnn.py": "siamese_cnn projections_refused",
    "grid/cells.py": "grid_summary grid_learned_plan",
    "grid/data.py": "grid_notes grid_few",
    "grid/measure.py": "grid_summary",
    "grid/records.py": "grid_summary compare report",
    "grid/summary.py": "grid_summary compare",
    "grid/best.py": "grid_summary grid_learned ensemble grid_networks",
    "similar/*.py": "similar",
    "check.py": "check",
    "pairs/*.py": "pairs groups pair_problems candidates fault_tables",
    "report/compare.py": "compare",
}
"""Modules of the package, and the files of tests/ that are run for each."""
HEAD = """# Do the tests notice errors?

`make mutants` changes the modules that decide figures and data, one place at a time,
and runs the tests of the changed module. It changes an operator, a number, one of two
names that are easily confused, a condition or an argument. A change that a test notices
is *killed*. A change without a visible effect is *equivalent*. One that stays *alive*
needs a test.

`benchmarks/mutants.py` names the tests of each module. Changes: {drawn}.

| module | killed | alive | equivalent | rate |
|---|---|---|---|---|"""


def swaps(both_ways: str, one_way: str) -> dict[str, str]:
    """Return what each word stands for, of words in pairs."""
    words = [*both_ways.split(), *both_ways.split()[::-1], *one_way.split()]
    return dict(zip(words[::2], words[1::2], strict=True))


SWAPS: dict[type, Any] = {
    getattr(ast, one): getattr(ast, other)
    for one, other in swaps(
        "Lt LtE Gt GtE Eq NotEq Is IsNot In NotIn And Or Add Sub Mult Div BitAnd BitOr",
        "Pow Mult USub UAdd Not UAdd Invert UAdd",
    ).items()
}
NAMES = swaps(
    "min max argmin argmax any all left right minimum maximum",
    "mean sum square abs sqrt abs search match union1d intersect1d floor ceil",
)
TYPES = ("NDArray", "Callable", "Mapping", "Sequence", "dict", "list", "tuple")


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
                yield node, ast.unparse(node).removesuffix(name) + NAMES[name]
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


def notices(tree: Path, mutant: Mutant | None, tests: str) -> bool:
    """Tell whether tests fail on a copy of the project, in a fork of this process."""
    path = tree / "tllboost" / (mutant.module if mutant else "__init__.py")
    sound = path.read_bytes()
    if mutant:
        new = mutant.new.encode()
        path.write_bytes(sound[: mutant.start] + new + sound[mutant.end :])
    if not (process := os.fork()):
        try:
            os.setsid()  # with the processes that tests start
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            signal.alarm(6 * SECONDS)
            os.chdir(tree)
            os.dup2(os.open("log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
            os.dup2(1, 2)
            sys.path.insert(0, str(tree))
            os.environ.update(PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="1")
            files = [f"tests/test_{one}.py" for one in [*tests.split(), "docstrings"]]
            files.append(str(path.relative_to(tree)))  # its examples
            options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not shared"]
            pytest = importlib.import_module("pytest")
            os._exit(int(pytest.main([*options, *files])))
        finally:
            traceback.print_exc()
            os._exit(_BROKEN)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    path.write_bytes(sound)
    if code > 2:  # 1: a test failed, 2: its file could not be imported
        msg = f"{tests} did not run: {(tree / 'log').read_text()[-2000:]}"
        raise RuntimeError(msg)
    return code != 0


def modules() -> dict[Path, str]:
    """Return each module of TESTS, and its tests."""
    globs = {glob: tests for globs, tests in TESTS.items() for glob in globs.split()}
    found = {glob: sorted((ROOT / "tllboost").glob(glob)) for glob in globs}
    return {path: globs[glob] for glob, paths in found.items() for path in paths}


def read_known() -> dict[str, str]:
    """Return why some changes change nothing, by their keys."""
    lines = KNOWN.read_text(encoding="utf-8").splitlines()
    return dict(line.split(" | ") for line in lines if line)


def page(told: dict[str, list[Mutant]], drawn: str) -> str:
    """Return the page: rates by module, what is alive, what is equivalent and why."""
    counts = [Counter(f"`{one.module}`" for one in ones) for ones in told.values()]
    for count in counts:
        count["**all**"] = count.total()
    lines, known = [HEAD.format(drawn=drawn)], read_known()
    names = {name for count in counts for name in count}
    for name in sorted(names, key=lambda name: (name == "**all**", name)):
        n_killed, n_alive, n_same = (count[name] for count in counts)
        rate = f"{n_killed / (n_killed + n_alive):.0%}" if n_killed + n_alive else "–"
        lines.append(f"| {name} | {n_killed} | {n_alive} | {n_same} | {rate} |")
    alive = [f"- `{one.key}`" for one in told["alive"]] or ["None."]
    same = [f"- `{one.key}`: {known[one.key]}" for one in told["equivalent"]]
    lines += ["", "## Alive", "", *alive, "", "## Equivalent, and why", ""]
    return "\n".join([*lines, *(same or ["None."]), ""])


def main() -> None:
    """Draw, run and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("mutants", 200), ("seed", 0), ("jobs", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--after",
        type=Path,
        help="output of an earlier run: what it killed is so",
    )
    given = parser.parse_args()
    before = given.after.read_text(encoding="utf-8") if given.after else ""
    lines = [line for line in before.splitlines() if line.startswith("killed")]
    killed = {line.partition(", ")[2] for line in lines}
    every = [(one, of) for path, of in modules().items() for one in mutants_of(path)]
    # By a hash of each: a change of the code leaves the draw of the rest as it was.
    every.sort(key=lambda one: sha256(f"{given.seed} {one[0].key}".encode()).digest())
    # One thread, so that a fork loses none; and what all tests import, imported once.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    for name in ("pytest", "scipy.optimize", "sklearn.metrics", "torch"):
        importlib.import_module(name)
    told: dict[str, list[Mutant]] = {"killed": [], "alive": [], "equivalent": []}
    equivalent, unsure = read_known(), {*modules().values()}
    trees: SimpleQueue[Path] = SimpleQueue()

    def tried(one: tuple[Mutant | None, str]) -> tuple[Mutant | None, str, bool]:
        if one[0] and one[0].key in killed:
            return *one, True
        tree = trees.get()
        noticed = notices(tree, *one)
        trees.put(tree)
        return *one, noticed

    with tempfile.TemporaryDirectory() as folder, ThreadPool(given.jobs) as pool:
        ignored = shutil.ignore_patterns("__pycache__", ".*", "results", "build")
        for number in range(given.jobs):
            trees.put(shutil.copytree(ROOT, Path(folder, f"{number}"), ignore=ignored))
        for one, tests, noticed in pool.imap(tried, every[: given.mutants]):
            verdict = "equivalent" if one.key in equivalent else "alive"
            verdict = "killed" if noticed else verdict
            told[verdict].append(one)
            print(f"{verdict:10} line {one.line}, {one.key}", flush=True)
            if not noticed:  # all of these tests passed
                unsure.discard(tests)
        # Of the others nobody knows yet whether they pass where nothing is changed.
        for _, tests, noticed in pool.imap(tried, [(None, one) for one in unsure]):
            if noticed:
                sys.exit(f"without any change, a test fails in {tests}")
    drawn = f"{sum(map(len, told.values()))} drawn from {len(every):,}"
    PAGE.write_text(page(told, f"{drawn} by seed {given.seed}"), encoding="utf-8")


if __name__ == "__main__":
    main()
