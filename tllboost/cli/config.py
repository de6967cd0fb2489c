"""A TOML file that says what flags say; flags beat it, it beats the defaults.

The file's values become the defaults of the command's own options (``default_map``), so
that kinds and limits are those that the options declare.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, get_origin

import typer

from tllboost.cli.options import kinds_of
from tllboost.errors import DataError, UsageError

__all__ = ["NOT_IN_FILE", "config_text", "plain", "read_config"]

NOT_IN_FILE = {
    "config": "names the file itself",
    "print_config": "prints what the file says",
    "quiet": "is of one call, and no result depends on it",
    "as_json": "is of one call, and no result depends on it",
    "resume": "a file that said so would go on with whatever lies there",
    "overwrite": "a file that said so would replace whatever lies there",
}
"""The options that only the command line takes, and why."""

_CELL_NEEDS, _CELL_MAY = ("name", "vectorizer", "head"), ("projection", "merge")
# How TOML may spell the kinds of options, and what to ask for where it does not.
_SPELLED: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    list: ((str,), "text, or a list of text"),
}


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the values of a file the defaults of the options of a command.

    The tables ``[alias]`` and ``[[cell]]`` are kept beside them, and ``[run]``, which a
    run writes into its ``run.toml``, is passed over.

    Raises
    ------
    UsageError
        If the file has a key that is no option, or a value of the wrong kind.
    DataError
        If the file can't be read.
    """
    if path is None:
        return None
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path}: can't be read ({error.strerror})"
        raise DataError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not TOML ({error})"
        raise DataError(msg) from error
    values.pop("run", None)
    options = {one.name: one for one in context.command.params}
    kinds = kinds_of(context.command)
    known = sorted({"alias", "cell", *kinds} - {"context", *NOT_IN_FILE})
    for key, value in values.items():
        if key == "alias":
            problem = _problem_of_aliases(value)
        elif key == "cell":
            problem = _problem_of_cells(value)
        elif key in known:
            if get_origin(kinds[key]) is list and isinstance(value, str):
                values[key] = value = [value]
            problem = _problem_of_value(context, options[key], kinds[key], value)
        else:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            problem = f"unknown key {key!r}: {hint}known: {', '.join(known)}"
        if problem:
            msg = f"{path}: {problem}"
            raise UsageError(msg)
    context.default_map = values
    return path


def _problem_of_value(context: Any, option: Any, kind: Any, value: Any) -> str:
    """Return what is wrong with the value of an option, or nothing."""
    types, wanted = _SPELLED.get(get_origin(kind) or kind, ((str,), "text"))
    is_list = get_origin(kind) is list and isinstance(value, list)
    if not all(type(one) in types for one in (value if is_list else [value])):
        return f"{option.name} = {value!r} must be {wanted}"
    try:
        option.process_value(context, value)
    except Exception as error:
        # Of the command line's library, whose name differs between its versions.
        if not hasattr(error, "message"):
            raise
        reason = error.message.replace("Value error, ", "").rstrip(".")
        return f"{option.name} = {value!r}: {reason}"
    return ""


def _problem_of_aliases(value: Any) -> str:
    if isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
        return ""
    return f"alias = {value!r} must be a table [alias] of vectorizers by short names"


def _problem_of_cells(cells: Any) -> str:
    """Return what is wrong with the first cell that is none, or nothing."""
    known = (*_CELL_NEEDS, *_CELL_MAY)
    if not isinstance(cells, list) or not all(isinstance(one, dict) for one in cells):
        return "cell must be tables: write [[cell]] above each"
    names = [cell.get("name") for cell in cells]
    for number, cell in enumerate(cells):
        wrong = [
            *(f"unknown key {key!r}" for key in cell if key not in known),
            *(f"{k} = {v!r} must be text" for k, v in cell.items() if not _is_text(v)),
            *(f"it has no {key}" for key in _CELL_NEEDS if key not in cell),
        ]
        if wrong:
            return f"cell number {number + 1}: {wrong[0]}: known: {', '.join(known)}"
        if cell["name"] in names[:number]:
            return f"cell number {number + 1}: another has the name {cell['name']!r}"
    return ""


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as TOML can hold them: those that are set, paths as text.

    Examples
    --------
    >>> plain({"out": Path("results"), "store": None, "seeds": 3})
    {'out': 'results', 'seeds': 3}
    """
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in options.items()
        if value is not None
    }


def config_text(options: dict[str, Any], tables: dict[str, Any]) -> str:
    """Return options as a file that ``--config`` reads, and those that are not set.

    Parameters
    ----------
    options : dict
        Values by name, None where one is left open.
    tables : dict
        ``alias`` and ``cell``: TOML puts tables behind everything else.

    Examples
    --------
    >>> options = {"out": Path("results"), "jobs": 2, "store": None}
    >>> print(config_text(options, {"alias": {"a": "classic"}}), end="")
    out = "results"
    jobs = 2
    # not set: store
    <BLANKLINE>
    [alias]
    a = "classic"
    """
    import tomli_w

    text = tomli_w.dumps(plain(options))
    not_set = sorted(key for key, value in options.items() if value is None)
    if not_set:
        text += f"# not set: {', '.join(not_set)}\n"
    return text + (f"\n{tomli_w.dumps(tables)}" if tables else "")
