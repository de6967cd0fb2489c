"""Turn a choice into the thing: a name, a ``package.module:attr`` path, or the object.

One registry a kind (vectorizers, merges, heads). Entries are import paths, so that
listing the names imports none of the libraries behind them.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from tllboost.errors import UnknownNameError, UsageError, missing_library

__all__ = ["Entry", "Registry", "did_you_mean", "import_path", "lies_here", "path_of"]


class Entry(NamedTuple):
    """Where a named thing lives, what it is in one line, and libraries it needs."""

    path: str
    description: str
    needs: Sequence[str] = ()


def import_path(path: str, *, kind: str = "object") -> Any:
    """Return the object behind ``package.module:attr``.

    Parameters
    ----------
    path : str
        For example ``"sklearn.svm:SVC"``.
    kind : str, default="object"
        What is looked for, for the message.

    Raises
    ------
    UnknownNameError
        If the module or its attribute does not exist.
    MissingLibraryError
        If the module exists and needs a library that is not installed.

    Examples
    --------
    >>> import_path("math:sqrt")(9.0)
    3.0
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or module_name.startswith("."):
        msg = f"unknown {kind} {path!r}: its module must come before the colon"
        raise UnknownNameError(msg)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(missing + "."):
            msg = f"unknown {kind} {path!r}: there is no module {missing!r} to import"
            if lies_here(missing):
                msg += "; it lies in this folder, where Python looks with PYTHONPATH=."
            raise UnknownNameError(msg) from error
        raise missing_library(missing, f"{kind} {path!r}") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        msg = f"unknown {kind} {path!r}: module {module_name!r} has no {attribute!r}"
        raise UnknownNameError(msg) from error


def path_of(thing: Any) -> str:
    """Return the import path of a class or function, or of the class of an object.

    Examples
    --------
    >>> path_of(Entry), path_of(Entry("math:pi", "pi"))
    ('tllboost.registry:Entry', 'tllboost.registry:Entry')
    >>> path_of(did_you_mean)
    'tllboost.registry:did_you_mean'
    """
    kind = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{kind.__module__}:{kind.__qualname__}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question about the nearest of the known names, empty if none is near.

    Examples
    --------
    >>> did_you_mean("resnet5", ["resnet50", "vgg16"])
    "did you mean 'resnet50'? "
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def lies_here(module: str) -> bool:
    """Tell whether a module lies in the current folder, importable or not.

    A command, unlike ``python -m``, does not look there: a folder of images may hold
    a stranger's code.

    Examples
    --------
    >>> lies_here("no_such_module")
    False
    """
    root = module.partition(".")[0]
    return Path(f"{root}.py").is_file() or Path(root, "__init__.py").is_file()


def _arguments(thing: Any) -> dict[str, str]:
    """Return the arguments of an estimator as text, but for its seed and threads."""
    own = thing.get_params(deep=False).items()
    return {key: repr(one) for key, one in own if key not in ("random_state", "n_jobs")}


class Registry(dict[str, Entry]):
    """Named things of one kind, imported when asked for.

    Parameters
    ----------
    kind : str
        The word for one of them in messages, for example ``"head"``.
    entries : dict of str to Entry
        The built-in names.

    Examples
    --------
    >>> numbers = Registry("number", {"pi": Entry("math:pi", "circle over diameter")})
    >>> round(numbers.resolve("pi"), 2)
    3.14
    >>> numbers.resolve("math:tau") > 6
    True
    >>> numbers.resolve(42)
    42
    """

    def __init__(self, kind: str, entries: dict[str, Entry]) -> None:
        super().__init__(entries)
        self.kind = kind

    def __missing__(self, name: str) -> Entry:
        raise self.unknown(name)

    def resolve(self, choice: Any) -> Any:
        """Return the thing that `choice` names, or `choice` itself if no string.

        Raises
        ------
        UnknownNameError
            If `choice` is a string that names nothing.
        MissingLibraryError
            If it needs a library that is not installed.
        """
        if not isinstance(choice, str):
            return choice
        if choice not in self and ":" in choice:
            return import_path(choice, kind=self.kind)
        for library in self[choice].needs:
            if find_spec(library) is None:
                raise missing_library(library, f"{self.kind} {choice!r}")
        return import_path(self[choice].path, kind=self.kind)

    def name_of(self, choice: Any) -> str:
        """Return the name of an object or function: :meth:`resolve` gives it back.

        An object is the same as what its class makes without arguments, whatever its
        seed and threads, which whoever makes it sets.

        Raises
        ------
        UsageError
            If there is no such name: another process could not make it again.

        Examples
        --------
        >>> import math
        >>> Registry("one", {"root": Entry("math:sqrt", "a root")}).name_of(math.sqrt)
        'root'
        """
        path, is_same = path_of(choice), False
        with suppress(AttributeError, TypeError, UnknownNameError):
            found = import_path(path)
            is_same = found is choice or _arguments(found()) == _arguments(choice)
        if not is_same or path.startswith("__main__:"):
            msg = (
                f"{self.kind} {path!r} can't be made again by this name alone, and "
                "run.toml and worker processes get no more: put a class with these "
                "arguments as its defaults into a module, and give package.module:Class"
            )
            raise UsageError(msg)
        return next((name for name, one in self.items() if one.path == path), path)

    def unknown(self, name: str) -> UnknownNameError:
        """Return the error for a name that is not known, with the nearest one."""
        msg = (
            f"unknown {self.kind} {name!r}: {did_you_mean(str(name), self)}known: "
            f"{', '.join(self)}; or package.module:Name for your own"
        )
        return UnknownNameError(msg)
