"""How many cores this process may use, which in a container is not all of them."""

from __future__ import annotations

import os

__all__ = ["usable_cores"]


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
