"""How many cores this process may use, and how to use one of them at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["one_blas_thread", "usable_cores"]


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


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep numpy's matrix products to the thread that asks for them.

    For many small ones, of pictures that are prepared on all cores: products that share
    out their rows as well would wait for each other, and their sums, in another order,
    make a vector hang on the number of cores. Networks keep their threads. While
    another thread holds a limit, threadpoolctl leaves this one without effect.

    Examples
    --------
    >>> import numpy as np
    >>> with one_blas_thread():
    ...     np.ones((2, 3)) @ np.ones(3)
    array([3., 3.])
    """
    from threadpoolctl import ThreadpoolController

    # The library that comes with numpy; torch may bring another one.
    of_numpy = ThreadpoolController().select(prefix="libscipy_openblas")
    with of_numpy.limit(limits=1):
        yield
