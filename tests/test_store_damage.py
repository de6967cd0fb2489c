"""A store after kills, full disks and flipped bits, and in several processes."""

from __future__ import annotations

import signal
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import CLASSIC, ONNX, flip, folder, key, keys, run_python, store, vectors

from tllboost import store as module
from tllboost.errors import StoreError, UsageError
from tllboost.store import VectorStore

# Fixtures.
__all__ = ["folder", "store"]


# What a kill leaves


KILLED = """
import sys, hashlib
import numpy as np
from tllboost.store import VectorStore
with VectorStore(sys.argv[1]) as store:
    batch = 0
    while True:
        numbers = range(8 * batch, 8 * batch + 8)
        rows = np.array([np.random.default_rng(n).normal(size=4096) for n in numbers])
        keys = [hashlib.sha256(str(n).encode()).hexdigest() for n in numbers]
        store.add("classic|v1", keys, rows.astype(np.float32))
        print(batch, flush=True)
        batch += 1
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
@pytest.mark.parametrize("seconds", [0.0, 0.013, 0.1])
def test_kill_9_loses_no_batch_that_was_acknowledged(
    folder: Path, seconds: float
) -> None:
    with run_python(KILLED, folder) as process:
        assert process.stdout is not None
        for _ in range(3):
            acknowledged = int(process.stdout.readline())
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
    acknowledged = int(rest[-1]) if rest else acknowledged
    numbers = range(8 * (acknowledged + 1))
    with VectorStore(folder) as store:
        assert store.verify() == []
        got, found = store.get(CLASSIC, keys(*numbers))
        assert found.all()
        np.testing.assert_array_equal(got, vectors(*numbers, n_dims=4096))
        n_rows = store.info()[0]["n_rows"]
        assert n_rows in (len(numbers), len(numbers) + 8)


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
import numpy as np
from tllboost.errors import StoreError
from tllboost.store import VectorStore
with VectorStore(sys.argv[1]) as store:
    rows = np.ones((3, 30_000), np.float32)
    store.add("classic|v1", ["01" * 32], rows[:1])
    try:
        store.add("classic|v1", ["02" * 32, "03" * 32], rows[1:])
    except StoreError as error:
        print(error)
    print(store.get("classic|v1", ["01" * 32, "02" * 32])[1].tolist(), store.verify())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits here")
def test_a_full_disk_is_one_error_and_leaves_the_store_whole(folder: Path) -> None:
    with run_python(FULL, folder) as process:
        output, errors = process.communicate(timeout=60)
    assert errors == ""
    message, state = output.splitlines()
    path = str(folder / "vectors.sqlite")
    assert message.startswith(f"the store {path!r} can't be used (")
    assert state == "[True, False] []"


# What a disk does to it


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_flipped_bit_is_found_and_named(folder: Path, row: int) -> None:
    with VectorStore(folder) as store:
        store.add(CLASSIC, keys(0, 1, 2), vectors(0, 1, 2))
        store.add(ONNX, keys(0), vectors(9))
    flip(folder, row)
    others = [number for number in range(3) if number != row]
    with VectorStore(folder) as store:
        (problem,) = store.verify()
        assert key(row) in problem
        assert CLASSIC in problem
        assert "checksum" in problem
        with pytest.raises(StoreError, match=f"{key(row)}.*tllboost store prune"):
            store.get(CLASSIC, keys(0, 1, 2))
        assert store.get(CLASSIC, keys(*others))[1].all()
        assert store.get(ONNX, keys(0))[1].all()
        assert store.prune() == 1
        assert store.verify() == []
        got, found = store.get(CLASSIC, keys(0, 1, 2))
        assert found.tolist() == [number != row for number in range(3)]
        np.testing.assert_array_equal(got[others], vectors(*others))
        store.add(CLASSIC, keys(row), vectors(row))
        np.testing.assert_array_equal(
            store.get(CLASSIC, keys(0, 1, 2))[0], vectors(0, 1, 2)
        )


def test_a_damaged_vector_is_named_by_its_image(
    store: VectorStore, folder: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLED_SECONDS", -1)
    store.add(CLASSIC, store.hashes_of([image]), vectors(1))
    with store:
        pass
    flip(folder, 1)
    (problem,) = store.verify()
    assert str(image) in problem


def test_a_row_handed_to_another_image_is_found(
    store: VectorStore, folder: Path
) -> None:
    store.add(CLASSIC, keys(1, 2), vectors(1, 2))
    with closing(sqlite3.connect(folder / "vectors.sqlite")) as other, other:
        other.execute("CREATE TABLE mixed AS SELECT * FROM vectors")
        other.execute(
            "UPDATE vectors SET (checksum, vector) = (SELECT checksum, vector "
            "FROM mixed WHERE mixed.key <> vectors.key)"
        )
    assert len(store.verify()) == 2


def test_a_vector_handed_to_another_fingerprint_is_found(
    store: VectorStore, folder: Path
) -> None:
    store.add(CLASSIC, keys(1), vectors(1))
    store.add(ONNX, keys(2), vectors(2))
    with closing(sqlite3.connect(folder / "vectors.sqlite")) as other, other:
        other.execute("UPDATE vectors SET space = 2")
    with pytest.raises(StoreError, match="does not match its checksum"):
        store.get(ONNX, keys(1))
    assert len(store.verify()) == store.prune() == 1
    assert store.get(ONNX, keys(1, 2))[1].tolist() == [False, True]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(spot=st.integers(0, 3 * 16 - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, spot: int, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    with VectorStore(folder) as store:
        store.add(CLASSIC, keys(0, 1, 2), vectors(0, 1, 2))
    flip(folder, spot // 16, spot % 16, 1 << bit)
    with VectorStore(folder) as store:
        (problem,) = store.verify()
        assert key(spot // 16) in problem


def test_prune_drops_one_fingerprint_and_frees_its_space(
    store: VectorStore, folder: Path
) -> None:
    store.add(CLASSIC, keys(*range(99)), vectors(*range(99), n_dims=1000))
    store.add(ONNX, keys(1), vectors(1))
    assert store.prune(CLASSIC) == 99
    assert [entry["fingerprint"] for entry in store.info()] == [ONNX]
    with store:
        pass
    assert (folder / "vectors.sqlite").stat().st_size < 50_000
    assert store.get(ONNX, keys(1))[1].all()
    with pytest.raises(UsageError, match="nothing is stored under 'classic"):
        store.prune(CLASSIC)


def test_prune_drops_all_fingerprints_that_begin_as_told(store: VectorStore) -> None:
    for name in ("classic|1|a", "classic|1|ab", "classic|1|b", "classic|2|a"):
        store.add(name, keys(1, 2), vectors(1, 2))
    assert store.prune("classic|1|a") == 2  # a whole one: no other that begins so
    assert store.prune("classic|1|") == 4
    assert [entry["fingerprint"] for entry in store.info()] == ["classic|2|a"]
    with pytest.raises(UsageError, match="`tllboost store info` shows all"):
        store.prune("")
    assert len(store.info()) == 1


def test_prune_of_a_healthy_store_drops_nothing(store: VectorStore) -> None:
    store.add(CLASSIC, keys(1, 2), vectors(1, 2))
    assert store.prune() == 0
    assert store.get(CLASSIC, keys(1, 2))[1].all()


# Several at once

ADDING = """
import sys, hashlib
import numpy as np
from tllboost.store import VectorStore
first, last = int(sys.argv[2]), int(sys.argv[3])
with VectorStore(sys.argv[1]) as store:
    for start in range(first, last, 5):
        numbers = range(start, start + 5)
        keys = [hashlib.sha256(str(n).encode()).hexdigest() for n in numbers]
        rows = [np.random.default_rng(n).normal(size=64) for n in numbers]
        store.add("classic|v1", keys, np.array(rows, dtype=np.float32))
        assert store.get("classic|v1", keys)[1].all()
"""


def test_processes_that_make_and_fill_one_store_at_once(folder: Path) -> None:
    spans = [(0, 200), (100, 300), (0, 300)]
    processes = [run_python(ADDING, folder, *span) for span in spans]
    for process in processes:
        with process:
            assert process.communicate(timeout=120) == ("", "")
            assert process.returncode == 0
    with VectorStore(folder) as store:
        assert store.verify() == []
        got, found = store.get(CLASSIC, keys(*range(300)))
        assert found.all()
        np.testing.assert_array_equal(got, vectors(*range(300), n_dims=64))
        assert store.info()[0]["n_rows"] == 300


def test_readers_are_not_disturbed_by_pruning(folder: Path) -> None:
    with VectorStore(folder) as store:
        store.add(CLASSIC, keys(*range(50)), vectors(*range(50)))

    def read(_: int) -> bool:
        with VectorStore(folder) as reader:
            for _ in range(20):
                got, found = reader.get(CLASSIC, keys(*range(40)))
                if not found.all() or (got != vectors(*range(40))).any():
                    return False
        return True

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(read, number) for number in range(2)]
        with VectorStore(folder) as store:
            for number in range(49, 40, -1):
                damage(folder, number)
                assert store.prune() == 1
        assert all(future.result() for future in futures)


def damage(folder: Path, number: int) -> None:
    with (
        closing(sqlite3.connect(folder / "vectors.sqlite", timeout=60)) as other,
        other,
    ):
        query = "UPDATE vectors SET vector = zeroblob(16) WHERE key = ?"
        other.execute(query, (bytes.fromhex(key(number)),))


def test_a_store_held_by_another_process_for_too_long_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
    with VectorStore(folder) as store, VectorStore(folder) as other:
        assert other._connection is not None
        other._connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process has held it"):
            store.add(CLASSIC, keys(1), vectors(1))
        other._connection.execute("ROLLBACK")
        store.add(CLASSIC, keys(1), vectors(1))
        assert other.get(CLASSIC, keys(1))[1].all()
