"""What is handed to a worker, and how it is done there."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Mapping
from contextlib import chdir, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tllboost.errors import UsageError

__all__ = ["Died", "Job", "perform", "versions"]

# Figures hang on these; the fingerprint of a vectorizer speaks for its own library.
_LIBRARIES = ("tllboost", "numpy", "scikit-learn", "xgboost")
# A worker with many threads is given many jobs. Numerical libraries count the threads
# of the whole process, and so would its peak of memory be of them all.
_ALONE = threading.Lock()


@dataclass(frozen=True, eq=False)
class Job:
    """A function to call on some worker, once or, where one is lost, again.

    Attributes
    ----------
    function : callable
        Of a module that workers can import. What it does must be harmless twice.
    arguments : tuple
        What `Cluster.keep` gave stands for the value that it was given, also in lists.
    name : str, default=""
        For people.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    name: str = ""


@dataclass(frozen=True)
class Died:
    """The outcome of a job that took down every worker that tried it."""

    reason: str


@cache
def versions() -> dict[str, str]:
    """Return the versions of what makes figures what they are.

    Examples
    --------
    >>> sorted(versions())
    ['numpy', 'python', 'scikit-learn', 'tllboost', 'xgboost']
    """
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{name: _version(name) for name in _LIBRARIES}}


def perform(
    wanted: Mapping[str, str],
    folder: str,
    function: Callable[..., Any],
    arguments: list[Any],
) -> Any:
    """Call a function here, on a worker.

    Parameters
    ----------
    wanted : mapping of str to str
        The versions where the job comes from.
    folder : str
        What relative paths are relative to, where it is to be had here.
    function : callable
    arguments : list

    Raises
    ------
    UsageError
        If other versions are installed here.
    """
    here = versions()
    for name, one in wanted.items():
        if here[name] != one:
            msg = (
                f"the Dask worker on {platform.node()} has {name} {here[name]}, and "
                f"{one} is here: install the same on all machines"
            )
            raise UsageError(msg)
    with _ALONE, chdir(folder) if os.path.isdir(folder) else nullcontext():
        return function(*arguments)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(none)"
