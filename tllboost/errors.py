"""Text from strangers, as names of files are, in one line that moves no cursor.

Every exception that tllboost raises on purpose, with its exit code.

::

    TllboostError                        1  (only subclasses are raised)
    ├── UsageError (ValueError)          2  a wrong option or combination
    │   └── UnknownNameError             2  no such vectorizer, merge, head, …
    ├── MissingLibraryError (ImportError) 2 an optional library is not installed
    ├── DataError (ValueError)           3  bad input data
    │   ├── TableError                   3  a pair table or candidate table
    │   ├── ImageError                   3  one image can't be read
    │   └── WeightsError                 3  a network's weights: absent, wrong, offline
    ├── VerificationError (ValueError)   5  something stored is not what it says
    │   ├── BundleError                  5
    │   └── StoreError                   5
    └── ClusterError (ConnectionError)   4  a cluster was lost; what was done is kept

Each also inherits the builtin that a caller would catch. ``str(error)`` is one line
that says what was given, where, and what to do next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from math import inf
from os import PathLike


def printable(text: object) -> str:
    r"""Return text as it is if a terminal can only show it, else with escapes.

    Examples
    --------
    >>> printable("cat.jpg"), printable("two\nlines.jpg")
    ('cat.jpg', 'two\\nlines.jpg')
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii")
        for one in str(text)
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its name if it has none.

    A line that only announces the next ones is passed over.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.endswith(":")] or lines
    return printable(told[0][:160]) if told else type(error).__name__


class TllboostError(Exception):
    """Base of every error that tllboost raises on purpose."""

    exit_code = 1


class UsageError(TllboostError, ValueError):
    """A wrong option, or options that contradict each other."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that no registry knows."""


class MissingLibraryError(TllboostError, ImportError):
    """A library that this choice needs is not installed."""

    exit_code = 2


_PACKAGES = {
    "PIL": "pillow",
    "catboost": "'tllboost[catboost]'",
    "distributed": "'tllboost[dask]'",
    "lightgbm": "'tllboost[lightgbm]'",
    "matplotlib": "'tllboost[plot]'",
    "mlflow": "'tllboost[mlflow]'",
    "open_clip": "open_clip_torch",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}


def missing_library(module: str | None, what: str) -> MissingLibraryError:
    """Return the error for a library that is not installed: how to install it.

    Examples
    --------
    >>> print(missing_library("sklearn.svm", "head 'linear-svm'"))
    head 'linear-svm' needs 'sklearn', not installed: pip install scikit-learn
    """
    root = str(module).partition(".")[0]
    package = _PACKAGES.get(root, root)
    msg = f"{what} needs {root!r}, not installed: pip install {package}"
    return MissingLibraryError(msg)


def need(library: str, what: str) -> None:
    """Raise MissingLibraryError if a library that something needs is not installed."""
    if find_spec(library) is None:
        raise missing_library(library, what)


def check_range(name: str, value: float, least: float, most: float = inf) -> None:
    """Raise UsageError for a number below or above what it may be.

    Examples
    --------
    >>> check_range("n_folds", 1, 2)
    Traceback (most recent call last):
    tllboost.errors.UsageError: n_folds=1 must be at least 2
    """
    if not least <= value <= most:
        legal = f"is out of range; it must be {least} to {most}"
        legal = f"must be at least {least}" if most == inf else legal
        msg = f"{name}={value!r} {legal}"
        raise UsageError(msg)


WHY = "\0"
"""What stands in the text given to :func:`retold` for the reason; no path holds it."""


@contextmanager
def retold(
    text: str,
    kind: Callable[[str], Exception],
    caught: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Iterator[None]:
    """Turn errors of a library into one of ours, which says what was being done.

    Parameters
    ----------
    text : str
        The message, with :data:`WHY` where the library's own reason goes.
    kind : callable
        Makes the error from the message, as the classes here do.
    caught : type or tuple of type, default=Exception
        What is turned. Errors of ours pass as they are.

    Examples
    --------
    >>> with retold(f"pairs.csv: can't be read ({WHY})", DataError, OSError):
    ...     raise FileNotFoundError(2, "No such file or directory")
    Traceback (most recent call last):
    tllboost.errors.DataError: pairs.csv: can't be read (No such file or directory)
    """
    try:
        yield
    except TllboostError:
        raise
    except caught as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise kind(text.replace(WHY, why)) from error


class DataError(TllboostError, ValueError):
    """Input data that can't be used."""

    exit_code = 3


class TableError(DataError):
    """A table that can't be used; one problem a line, at most twenty shown.

    Parameters
    ----------
    path : path-like
        The table.
    problems : sequence of (int or None, str)
        Line number (1 is the header) and what is wrong there.
    """

    def __init__(
        self, path: str | PathLike[str], problems: Sequence[tuple[int | None, str]]
    ) -> None:
        lines = [
            f"{path}:{line}: {_short(text)}" if line else f"{path}: {_short(text)}"
            for line, text in problems[:20]
        ]
        if len(problems) > 20:
            lines.append(f"{path}: and {len(problems) - 20} more problems")
        super().__init__("\n".join(lines))


def _short(text: str) -> str:
    """Leave out the middle of what a cell of a megabyte would make of a message."""
    return text if len(text) <= 400 else f"{text[:300]} … {text[-90:]}"


class ImageError(DataError):
    """One image that can't be read.

    Parameters
    ----------
    path : path-like
        The image.
    reason : str
        Why it can't be read.
    """

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{printable(path)}: {reason}")

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Cross process borders whole: the default would pass the message alone."""
        return type(self), (self.path, self.reason)


class WeightsError(DataError):
    """Weights that are absent, don't fit the network, or can't be downloaded."""


class HubError(WeightsError):
    """Published weights that are neither in the local cache nor to be downloaded."""


class VerificationError(TllboostError, ValueError):
    """Something stored is not what it says it is."""

    exit_code = 5


class BundleError(VerificationError):
    """A bundle that must not be used."""


class StoreError(VerificationError):
    """A vector store that must not be used."""


class ClusterError(TllboostError, ConnectionError):
    """A cluster that was lost before all was done."""

    exit_code = 4
