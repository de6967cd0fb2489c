"""The processes that cells run in, and how they end."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import psutil
import pytest

from tllboost.grid.processes import elsewhere

METHODS = ["spawn"] if sys.platform == "win32" else ["spawn", "fork"]


def number_of_another() -> int:
    """Leave a warm process behind, and return who it is."""
    return elsewhere(os.getpid)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", METHODS)
def test_a_process_of_multiprocessing_ends_with_its_warm_workers(method: str) -> None:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        worker = pool.submit(number_of_another).result()
        assert psutil.pid_exists(worker)
        finished = time.monotonic()
    # They would wait for each other until the worker has been idle for long.
    assert time.monotonic() - finished < 30
    assert not psutil.pid_exists(worker)
