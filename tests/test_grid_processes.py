"""The processes that cells run in, and how they end."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import sys
import time
import weakref
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from tllboost.processes import Processes, end_idle, release_memory, sharing

METHODS = ["spawn"] if sys.platform == "win32" else ["spawn", "fork"]


def number_of_another() -> int:
    """Leave a warm process behind, and return who it is."""
    return Processes().call(os.getpid)


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
    while psutil.pid_exists(worker):
        assert time.monotonic() - finished < 30
        time.sleep(0.05)


class _Cycle:
    """Something that only the collector can free."""

    def __init__(self, n_bytes: int) -> None:
        self.own = self
        self.held = np.ones(n_bytes, dtype=np.uint8)


def test_memory_is_looked_for_only_where_a_cell_left_much() -> None:
    gc.disable()
    try:
        release_memory()
        small = weakref.ref(_Cycle(8))
        release_memory()
        assert small() is not None
        large = weakref.ref(_Cycle(256 << 20))
        release_memory()
        assert (small(), large()) == (None, None)
    finally:
        gc.enable()


def modules() -> list[str]:
    return [*sys.modules]


def test_a_process_that_is_started_beforehand_takes_the_first_call_without_pandas() -> (
    None
):
    end_idle()
    others = {*psutil.Process().children()}
    one = Processes(1)
    one.warm()
    (started,) = {*psutil.Process().children()} - others
    # Idle is who has told its id and waits for a request.
    while sum(started.cpu_times()[:2]) < 0.2 or started.status() != "sleeping":
        time.sleep(0.05)
    assert one.call(os.getpid) == started.pid
    loaded = one.call(modules)
    assert "sklearn.base" in loaded
    assert "pandas" not in loaded


@pytest.mark.skipif(sys.platform == "win32", reason="removes no file that is mapped")
def test_an_array_that_is_held_lies_in_one_file_for_all(tmp_path: Path) -> None:
    array = np.arange(2**19, dtype=np.float32).reshape(2**9, -1)
    small = np.ones(3)
    with sharing(tmp_path, hold=True) as hold, sharing(tmp_path) as share:
        held = hold(array)
        assert hold(small) is small
        assert isinstance(held, np.memmap)
        there, part = pickle.loads(pickle.dumps(share([held, held[:-1]])))
        assert there.filename == held.filename
        assert part.filename != held.filename
        np.testing.assert_array_equal(there, array)
        np.testing.assert_array_equal(part, array[:-1])
        assert len([*tmp_path.rglob("*.npy")]) == 2
    assert not [*tmp_path.iterdir()]
    np.testing.assert_array_equal(held, array)
