"""What docstrings say of defaults is what the code does."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import tllboost


def test_a_default_that_a_docstring_names_is_the_default() -> None:
    n_compared = 0
    for path in sorted(Path(tllboost.__file__).parent.rglob("[!_]*.py")):
        root = Path(tllboost.__file__).parents[1]
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        module = importlib.import_module(name)
        for one in vars(module).values():
            if getattr(one, "__module__", None) == name:
                inside = vars(one).values() if inspect.isclass(one) else ()
                for thing in (one, *inside):
                    if inspect.isclass(thing) or inspect.isfunction(thing):
                        n_compared += compare_defaults(thing)
    assert n_compared > 150


def compare_defaults(thing: Any) -> int:
    """Compare what a docstring says of a callable; return how many defaults it says."""
    doc = inspect.getdoc(thing) or ""
    told = re.findall(r"^([\w, ]+) : .*?default=(.+)$", doc, re.M)
    n_compared = 0
    for names, text in told:
        given = inspect.signature(thing).parameters
        try:
            said = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            continue  # in words
        known = names.split(", ")
        values = said if len(known) > 1 and isinstance(said, tuple) else [said] * 9
        for name, value in zip(known, values, strict=False):
            assert given[name].default == value, f"{thing.__qualname__}: {name}"
            n_compared += 1
    return n_compared
