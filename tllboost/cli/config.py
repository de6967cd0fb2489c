"""A TOML file that says what flags say; flags beat it, it beats the defaults.

The file's values become the defaults of the command's own options (``default_map``), so
that kinds and limits are those that the options declare.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_origin

import typer

from tllboost.cli.options import kinds_of
from tllboost.cli.streams import plainly
from tllboost.errors import DataError, UsageError
from tllboost.registry import did_you_mean

_CELL_NEEDS, _CELL_MAY = {"name", "vectorizer", "head"}, {"projection", "merge"}
# How TOML may spell the kinds of options, and what to ask for where it does not.
_SPELLED: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    list: ((str,), "text, or a list of text"),
}


def config_of(group: Any) -> Callable[..., Path | None]:
    """Return what ``--config`` calls: a file may give each option of a group.

    Its values become the defaults of the command. The tables ``[alias]`` and
    ``[[cell]]`` are kept beside them; ``[run]``, which a run writes into its
    ``run.toml``, is skipped.

    Raises
    ------
    UsageError
        If the file has a key that is no option, or a value of the wrong kind.
    DataError
        If the file can't be read.
    """
    known = sorted({"alias", "cell", *(one.name for one in fields(group))})

    def read(context: typer.Context, path: Path | None) -> Path | None:
        if path is None:
            return None
        try:
            # The paths in it need not be text.
            values = tomllib.loads(path.read_text("utf-8-sig", "surrogateescape"))
        except (OSError, ValueError) as error:  # the latter: not TOML
            reason = getattr(error, "strerror", None) or error
            msg = f"{path}: can't be read as TOML ({reason})"
            raise DataError(msg) from error
        values.pop("run", None)
        kinds = kinds_of(context.command)
        options = {one.name: one for one in context.command.params}
        for key, value in values.items():
            if key == "alias":
                fits = isinstance(value, dict) and all(map(_is_text, value.values()))
                problem = "" if fits else f"alias = {value!r} must be a table [alias]"
            elif key == "cell":
                problem = _problem_of_cells(value)
            elif key in known:
                if get_origin(kinds[key]) is list and isinstance(value, str):
                    values[key] = value = [value]
                problem = _problem_of(value, context, options[key], kinds[key])
            else:
                hint = did_you_mean(key, known)
                problem = f"unknown key {key!r}: {hint}known: {', '.join(known)}"
            if problem:
                msg = f"{path}: {problem}"
                raise UsageError(msg)
        context.default_map = values
        return path

    return read


def _problem_of(value: Any, context: Any, option: Any, kind: Any) -> str:
    """Return what is wrong with the value of an option, or nothing."""
    types, wanted = _SPELLED.get(get_origin(kind) or kind, ((str,), "text"))
    each = value if isinstance(value, list) and get_origin(kind) is list else [value]
    if not all(type(one) in types for one in each):
        return f"{option.name} = {value!r} must be {wanted}"
    try:
        option.process_value(context, value)
    except Exception as error:
        # Of the command line's library, whose name differs between its versions.
        if not hasattr(error, "message"):
            raise
        return f"{option.name} = {value!r}: {plainly(error.message)}"
    return ""


def _problem_of_cells(cells: Any) -> str:
    """Return what is wrong with the first cell that is none, or nothing."""
    if not isinstance(cells, list):
        return "cell must be tables: write [[cell]] above each"
    names: set[str] = set()
    for number, cell in enumerate(cells, 1):
        problem = ""
        if not isinstance(cell, dict):
            problem = f"{cell!r} must be a table"
        elif wrong := [key for key, value in cell.items() if not _is_text(value)]:
            problem = f"{wrong[0]} = {cell[wrong[0]]!r} must be text"
        elif unknown := cell.keys() - {*_CELL_NEEDS, *_CELL_MAY}:
            problem = f"unknown key {min(unknown)!r}"
        elif missing := _CELL_NEEDS - cell.keys():
            problem = f"it has no {min(missing)}"
        elif cell["name"] in names:
            problem = f"another has the name {cell['name']!r}"
        if problem:
            known = ", ".join(sorted({*_CELL_NEEDS, *_CELL_MAY}))
            return f"cell number {number}: {problem}; known: {known}"
        names.add(cell["name"])
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
