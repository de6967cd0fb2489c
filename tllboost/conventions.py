"""What users know from scikit-learn: `random_state`, `n_jobs`, `y`, `sample_weight`.

Everything that is fitted reads these four here, so they mean the same everywhere, and
asks validation so that what it chose can be chosen again on more pairs. numpy is
imported where it is used: the processes that decode images come by here too.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeVar

from tllboost.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


_LIBRARIES = (
    "numpy",
    "scikit-learn",
    "xgboost",
    "torch",
    "timm",
    "open_clip_torch",
    "onnxruntime",
    "scikit-image",
    "pillow",
    "safetensors",
    "skops",
)


def usable_cores() -> int:
    """Return the number of cores that this process may run on.

    ``TLLBOOST_CORES`` says so where several processes share a machine.

    Examples
    --------
    >>> usable_cores() >= 1
    True
    """
    if os.environ.get("TLLBOOST_CORES", "").isdecimal():
        return max(1, int(os.environ["TLLBOOST_CORES"]))
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def environment() -> dict[str, Any]:
    """Return the machine, and the versions of what figures and scores may depend on."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from tllboost import __version__

    versions = {"tllboost": __version__}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": versions,
    }


def n_threads_of(n_jobs: int | None) -> int | None:
    """Return a number of threads, of one that is counted as scikit-learn counts.

    Parameters
    ----------
    n_jobs : int or None
        -1 is every core, -2 every core but one; None leaves it to whoever is asked.

    Raises
    ------
    UsageError
        If it is 0, or no whole number.

    Examples
    --------
    >>> n_threads_of(-1) == usable_cores(), n_threads_of(3), n_threads_of(None)
    (True, 3, None)
    """
    if n_jobs is None:
        return None
    if not isinstance(n_jobs, Integral) or not n_jobs:
        msg = f"n_jobs={n_jobs!r} must be a number of threads, or -1 for all cores"
        raise UsageError(msg)
    return int(n_jobs) if n_jobs > 0 else max(1, usable_cores() + 1 + int(n_jobs))


def seed_of(random_state: Any) -> int:
    """Return the seed that a ``random_state`` means, from 0 to below 2³².

    Parameters
    ----------
    random_state : int, RandomState, Generator or None
        As in scikit-learn: an int of 0 or more gives the same results every time; one
        of numpy's generators is drawn from, so that it gives others every time; None
        draws from numpy's global one. An int of 2³² or more, which some libraries do
        not take, is hashed to a smaller one.

    Raises
    ------
    UsageError
        If it is none of these.

    Examples
    --------
    >>> seed_of(7), seed_of(2**32 - 1), seed_of(2**32) < 2**32
    (7, 4294967295, True)
    >>> import numpy as np
    >>> seed_of(np.random.default_rng(0)) == seed_of(np.random.default_rng(0))
    True
    """
    import numpy as np

    if isinstance(random_state, Integral) and int(random_state) >= 0:
        seed = int(random_state)
        if seed < 2**32:
            return seed
        return int(np.random.SeedSequence(seed).generate_state(1)[0])
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**32))
    if random_state is None or isinstance(random_state, np.random.RandomState):
        from sklearn.utils import check_random_state

        return int(check_random_state(random_state).randint(2**32, dtype=np.int64))
    msg = (
        f"random_state={random_state!r} must be an int of 0 or more, a RandomState or "
        "Generator of numpy, or None"
    )
    raise UsageError(msg)


def labels_of(y: ArrayLike, n_pairs: int) -> NDArray[np.int8]:
    """Return labels as 1 and 0, of numbers or booleans.

    Raises
    ------
    UsageError
        If there is not one a pair, or one is neither.

    Examples
    --------
    >>> labels_of([True, False, 1.0], 3).tolist()
    [1, 0, 1]
    """
    import numpy as np

    label = np.asarray(y)
    if label.shape != (n_pairs,):
        msg = f"y has shape {label.shape}; it must be ({n_pairs},): one label per pair"
        raise UsageError(msg)
    kinds = bool, int, float, np.generic
    for value in (label if label.dtype == object else np.unique(label)).tolist():
        if not (isinstance(value, kinds) and value in (0, 1)):
            msg = f"y holds {value!r}; a label is 1 (match) or 0 (no match)"
            raise UsageError(msg)
    return label.astype(np.int8)


def weights_of(sample_weight: ArrayLike | None, n_pairs: int) -> NDArray[np.float64]:
    """Return the weight of each pair: (n_pairs,), 1 where none are given.

    Raises
    ------
    UsageError
        If there is not one a pair, one is no number of 0 or more, or all are 0.

    Examples
    --------
    >>> weights_of(None, 2).tolist(), weights_of([1, 0], 2).tolist()
    ([1.0, 1.0], [1.0, 0.0])
    """
    import numpy as np

    if sample_weight is None:
        return np.ones(n_pairs)
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_pairs,) or not (weight.min() >= 0 < weight.sum() < np.inf):
        msg = f"sample_weight must be {n_pairs} numbers of 0 or more, not all of them 0"
        raise UsageError(msg)
    return weight


_Ask = TypeVar("_Ask", bound=Callable[..., Any])
_NOTE: ContextVar[Any] = ContextVar("note", default=(lambda ask: ask(), False))


def repeatable(ask: _Ask) -> _Ask:
    """Let :func:`noted` note and repeat what a function says of the validation set.

    What is fitted chooses by such functions alone: how many epochs or trees, which
    regularisation. One must not call another.
    """

    @functools.wraps(ask)
    def asked(*args: Any, **given: Any) -> Any:
        note, _ = _NOTE.get()
        return note(functools.partial(ask, *args, **given))

    return asked  # type: ignore[return-value]


def is_repeated() -> bool:
    """Tell whether what validation says is repeated, as in a fit on all pairs.

    It then depends on no fit: a head may ask for all of it first, and fit only what it
    leads to.

    Examples
    --------
    >>> with noted([], repeat=True):
    ...     is_repeated()
    True
    """
    return bool(_NOTE.get()[1])


@contextmanager
def noted(notes: list[Any], *, repeat: bool = False) -> Iterator[None]:
    """Note what validation says while something is fitted, or repeat what it said.

    Fitted again with the same answers, on pairs that were held out before too, it
    makes the same choices, though no pair is left to ask.

    Parameters
    ----------
    notes : list
        What is said is appended; with `repeat` it is read.
    repeat : bool, default=False

    Raises
    ------
    DataError
        If more is asked than was noted: other choices are to be made than then.

    Examples
    --------
    >>> ask, notes = repeatable(lambda number: number + 1), []
    >>> with noted(notes):
    ...     ask(1)
    2
    >>> with noted(notes, repeat=True):
    ...     ask(7)
    2
    """
    left = iter(notes)

    def note(ask: Callable[[], Any]) -> Any:
        if not repeat:
            notes.append(ask())
        for one in left:  # the one after that of the last call
            return one
        msg = "what validation chose can't be repeated on all pairs"
        raise DataError(msg)

    token = _NOTE.set((note, repeat))
    try:
        yield
    finally:
        _NOTE.reset(token)
