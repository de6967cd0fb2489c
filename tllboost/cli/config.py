"""A TOML file that says what flags say; flags beat it, it beats the defaults."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from tllboost.errors import DataError, UsageError

__all__ = ["NOT_IN_FILE", "as_toml", "config_text", "merge_config"]

NOT_IN_FILE = {
    "config": "names the file itself",
    "print_config": "prints what the file says",
    "quiet": "is of one call, and no result depends on it",
    "as_json": "is of one call, and no result depends on it",
    "resume": "a file that said so would go on with whatever lies there",
    "overwrite": "a file that said so would replace whatever lies there",
}
"""The options that only the command line takes, and why."""

# True of a machine, not of a run: read from a file, not written to one.
_LIMITS = {"cell_timeout", "cell_memory"}
_OF_MACHINE = {
    *("store", "jobs", "strict", "mlflow", "backend", "scheduler", "large"),
    *_LIMITS,
}
# Read from a file, not written to one: the vectorizers then hold @FILE already.
_PUT_ELSEWHERE = {"weights"}
_PATHS = {"pairs", "images", "left", "right", "out", "store", "weights"}
_LISTS = {"vectorizer", "projection", "merge", "head"}
_SWITCHES = {"offline", "anywhere", "strict", "report"}
_COUNTS = {"seeds", "jobs", "components", "large"}
_NUMBERS = {
    *("seed", "negatives", "hard_negatives", "others", "folds", "depth", "ensemble"),
    *("gallery", *_COUNTS),
}
_CELL_NEEDS, _CELL_MAY = ("name", "vectorizer", "head"), ("projection", "merge")
# What a run says of itself in run.toml.
_WRITTEN = {"run"}


def merge_config(
    path: Path | None, given: dict[str, Any], explicit: set[str]
) -> dict[str, Any]:
    """Return the options, with the file's values where no flag was given.

    Raises
    ------
    UsageError
        If the file has a key that is no option, or a value of the wrong kind, or a
        cell that is none.
    DataError
        If the file can't be read.
    """
    if path is None:
        return given
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path}: can't be read ({error.strerror})"
        raise DataError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not TOML ({error})"
        raise DataError(msg) from error
    known = sorted(set(given) - set(NOT_IN_FILE))
    merged = dict(given)
    for key, value in values.items():
        if key in _WRITTEN:
            continue
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            msg = f"{path}: unknown key {key!r}: {hint}known: {', '.join(known)}"
            raise UsageError(msg)
        if key not in explicit:
            merged[key] = _converted(path, key, value)
    return merged


def as_toml(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as ``run.toml`` keeps them: no None, paths as text.

    Examples
    --------
    >>> as_toml({"out": Path("results"), "store": None, "quiet": True})
    {'out': 'results'}
    """
    left_out = {*NOT_IN_FILE, *_OF_MACHINE, *_PUT_ELSEWHERE}
    return _as_text({k: v for k, v in options.items() if k not in left_out})


def config_text(options: dict[str, Any]) -> str:
    """Return options as a file that ``--config`` reads, with what is left open.

    Examples
    --------
    >>> print(config_text({"out": Path("results"), "jobs": 2, "store": None}), end="")
    out = "results"
    jobs = 2
    # not set: store
    """
    import tomli_w

    own = {key: value for key, value in options.items() if key in _OF_MACHINE}
    plain = {key: value for key, value in options.items() if key not in _OF_MACHINE}
    # TOML puts the tables, [alias] and [[cell]], behind everything else.
    values = {**as_toml(plain), **_as_text(own)}
    tables: dict[str, Any] = {
        key: values.pop(key) for key in ("alias", "cell") if key in values
    }
    open_ones = sorted(
        key
        for key, value in options.items()
        if value is None and key not in NOT_IN_FILE and key not in _PUT_ELSEWHERE
    )
    text = tomli_w.dumps(values)
    if open_ones:
        text += f"# not set: {', '.join(open_ones)}\n"
    return text + (f"\n{tomli_w.dumps(tables)}" if tables else "")


def _as_text(options: dict[str, Any]) -> dict[str, Any]:
    """Return what is set, paths as text."""
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in options.items()
        if value is not None
    }


def _check_cells(path: Path, cells: Any) -> None:
    """Refuse cells that are none, naming the first."""
    if not isinstance(cells, list):
        msg = f"{path}: cell must be tables: write [[cell]] above each"
        raise UsageError(msg)
    names: set[str] = set()
    for number, cell in enumerate(cells, 1):
        problem = _problem_of(cell)
        if not problem and cell["name"] in names:
            problem = f"another cell has the name {cell['name']!r} already"
        if problem:
            msg = f"{path}: cell number {number}: {problem}"
            raise UsageError(msg)
        names.add(cell["name"])


def _problem_of(cell: Any) -> str:
    """Return what is wrong with a cell, or nothing."""
    if not isinstance(cell, dict):
        return f"{cell!r} must be a table: write [[cell]] above it"
    known = f"known: {', '.join((*_CELL_NEEDS, *_CELL_MAY))}"
    for key, text in cell.items():
        if key not in (*_CELL_NEEDS, *_CELL_MAY):
            return f"unknown key {key!r}: {known}"
        if not isinstance(text, str) or not text:
            return f"{key} = {text!r} must be text"
    missing = [key for key in _CELL_NEEDS if key not in cell]
    return f"it has no {missing[0]}: {known}" if missing else ""


def _converted(path: Path, key: str, value: Any) -> Any:
    """Return a value of the kind that the option takes."""
    wanted, fits = "text", isinstance(value, str)
    if key in _LISTS:
        value = [value] if isinstance(value, str) else value
        fits = isinstance(value, list) and all(isinstance(v, str) for v in value)
        wanted = "text, or a list of text"
    elif key in _NUMBERS:
        wanted, fits = "a whole number", type(value) is int
        if key in _COUNTS:
            wanted, fits = "a whole number of at least 1", fits and value >= 1
        elif key != "seed":
            wanted, fits = "a whole number of at least 0", fits and value >= 0
    elif key in _LIMITS:
        wanted, fits = "a number above 0", type(value) in (int, float) and value > 0
        value = float(value) if fits else value
    elif key == "cell":
        _check_cells(path, value)
        fits = True
    elif key == "alias":
        wanted = "a table [alias] of vectorizers by their short names"
        fits = isinstance(value, dict)
        fits = fits and all(isinstance(text, str) for text in value.values())
    elif key in _SWITCHES:
        wanted, fits = "true or false", isinstance(value, bool)
    if not fits:
        msg = f"{path}: {key} = {value!r} must be {wanted}"
        raise UsageError(msg)
    return Path(value) if key in _PATHS else value
