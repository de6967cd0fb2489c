from __future__ import annotations

import copy
import hashlib
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import write_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tllboost import store as module
from tllboost.errors import ImageError, StoreError, UsageError
from tllboost.store import VectorStore, default_store

CLASSIC, ONNX = "classic|v1", "onnx|sha256:12ab"


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def keys(*numbers: int) -> list[str]:
    return [key(number) for number in numbers]


def vectors(*numbers: int, n_dims: int = 4) -> np.ndarray:
    """Rows that tell their numbers."""
    rows = [np.random.default_rng(number).normal(size=n_dims) for number in numbers]
    return np.array(rows, dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[VectorStore]:
    with VectorStore(folder) as opened:
        yield opened


def flip(folder: Path, number: int, spot: int = 5, bit: int = 1) -> None:
    """Flip a bit of a stored vector where it lies on the disk."""
    path = folder / "vectors.sqlite"
    content = bytearray(path.read_bytes())
    content[content.index(vectors(number).tobytes()) + spot] ^= bit
    path.write_bytes(content)


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


# What it keeps


def test_what_was_added_comes_back_in_the_order_asked_for(store: VectorStore) -> None:
    store.add(CLASSIC, keys(1, 2, 3), vectors(1, 2, 3))
    got, found = store.get(CLASSIC, keys(3, 9, 1, 3))
    assert found.tolist() == [True, False, True, True]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[[0, 2, 3]], vectors(3, 1, 3))
    assert not got[1].any()


def test_an_unknown_fingerprint_has_nothing(store: VectorStore) -> None:
    got, found = store.get(CLASSIC, keys(1, 2))
    assert got.shape == (2, 0)
    assert found.tolist() == [False, False]
    assert store.get(CLASSIC, [])[0].shape == (0, 0)


def test_another_fingerprint_never_gets_a_vector(store: VectorStore) -> None:
    store.add(CLASSIC, keys(1), vectors(1))
    store.add(ONNX, keys(2), vectors(2, n_dims=7))
    assert not store.get(ONNX, keys(1))[1].any()
    assert not store.get(CLASSIC + " ", keys(1))[1].any()
    assert not store.get(CLASSIC.upper(), keys(1))[1].any()
    assert store.get(ONNX, keys(2))[0].shape == (1, 7)


def test_vectors_are_there_when_opened_again(folder: Path) -> None:
    with VectorStore(folder) as store:
        store.add(CLASSIC, keys(1), vectors(1))
    with VectorStore(folder) as store:
        np.testing.assert_array_equal(store.get(CLASSIC, keys(1))[0], vectors(1))
        store.add(CLASSIC, keys(2), vectors(2))
        got, found = store.get(CLASSIC, keys(1, 2))
    assert found.all()
    np.testing.assert_array_equal(got, vectors(1, 2))


def test_a_stored_vector_stays_as_it_is(store: VectorStore) -> None:
    store.add(CLASSIC, keys(1), vectors(1))
    store.add(CLASSIC, keys(1, 2, 2), vectors(7, 2, 2))
    np.testing.assert_array_equal(store.get(CLASSIC, keys(1, 2))[0], vectors(1, 2))
    assert store.info()[0]["n_rows"] == 2


def test_more_keys_than_one_query_takes(store: VectorStore) -> None:
    numbers = range(1700)
    store.add(CLASSIC, keys(*numbers), vectors(*numbers))
    got, found = store.get(CLASSIC, keys(*reversed(numbers)))
    assert found.all()
    np.testing.assert_array_equal(got, vectors(*reversed(numbers)))


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([CLASSIC, ONNX]),
            st.lists(st.integers(0, 12), unique=True, max_size=6),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_the_store_agrees_with_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, list[int], bool]],
) -> None:
    model: dict[tuple[str, int], np.ndarray] = {}
    with VectorStore(tmp_path_factory.mktemp("store")) as store:
        for step, (fingerprint, numbers, reopen) in enumerate(steps):
            block = vectors(*(100 * step + number for number in numbers))
            store.add(fingerprint, keys(*numbers), block.reshape(-1, 4))
            for number, row in zip(numbers, block, strict=True):
                model.setdefault((fingerprint, number), row)
            if reopen:
                store.close()
        for fingerprint in (CLASSIC, ONNX):
            got, found = store.get(fingerprint, keys(*range(13)))
            for number in range(13):
                row = model.get((fingerprint, number))
                assert found[number] == (row is not None)
                if row is not None:
                    np.testing.assert_array_equal(got[number], row)
        assert store.verify() == []


@pytest.mark.parametrize("shape", [(2, 4), (4,), (1, 0), (1, 2, 2)])
def test_vectors_of_a_wrong_shape_are_refused(
    store: VectorStore, shape: tuple[int, ...]
) -> None:
    with pytest.raises(UsageError, match="for 1 keys"):
        store.add(CLASSIC, keys(1), np.ones(shape))


def test_other_dimensions_under_one_fingerprint_are_refused(store: VectorStore) -> None:
    store.add(CLASSIC, keys(1), vectors(1))
    with pytest.raises(StoreError, match=r"has vectors of 4 dimensions .* got 5"):
        store.add(CLASSIC, keys(2), vectors(2, n_dims=5))
    assert store.get(CLASSIC, keys(1, 2))[1].tolist() == [True, False]


def test_a_key_that_is_no_hash_is_refused(store: VectorStore) -> None:
    with pytest.raises(UsageError, match=r"'cat\.jpg' is no content hash"):
        store.get(CLASSIC, ["cat.jpg"])


def test_info_says_what_is_stored(store: VectorStore) -> None:
    assert store.info() == []
    store.add(CLASSIC, keys(1, 2), vectors(1, 2))
    (entry,) = store.info()
    assert entry.pop("created").startswith("20")
    assert entry == {
        "fingerprint": CLASSIC,
        "n_dims": 4,
        "n_rows": 2,
        "n_bytes": 32,
    }


def test_the_default_store_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLLBOOST_STORE", "elsewhere")
    assert default_store() == Path("elsewhere")
    monkeypatch.delenv("TLLBOOST_STORE")
    assert default_store().parts[-2:] == ("tllboost", "store")


def test_a_copy_of_an_open_store_opens_its_own_index(store: VectorStore) -> None:
    store.add(CLASSIC, keys(1), vectors(1))
    for twin in (copy.deepcopy(store), pickle.loads(pickle.dumps(store))):
        assert not twin.is_open
        with twin:
            assert twin.get(CLASSIC, keys(1))[1].all()


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
    store.close()
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
    store.close()
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


# What is no store of ours


def test_another_programs_index_is_refused_and_left_alone(folder: Path) -> None:
    folder.mkdir()
    path = folder / "vectors.sqlite"
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    content = path.read_bytes()
    with pytest.raises(StoreError, match="SQLite file of another program"):
        VectorStore(folder).open()
    assert path.read_bytes() == content


def test_a_newer_store_is_refused_and_left_alone(folder: Path) -> None:
    with VectorStore(folder):
        pass
    with closing(sqlite3.connect(folder / "vectors.sqlite")) as other:
        other.execute("PRAGMA user_version = 3")
        other.execute("PRAGMA journal_mode = DELETE")
    content = (folder / "vectors.sqlite").read_bytes()
    with pytest.raises(StoreError, match=r"version of tllboost \(format 3, not 2\)"):
        VectorStore(folder).open()
    assert (folder / "vectors.sqlite").read_bytes() == content


def test_a_store_of_an_older_tllboost_is_left_alone_and_named_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir()
    (folder / "index.sqlite").write_bytes(b"of another format")
    for _ in range(2):
        with VectorStore(folder) as store:
            store.add(CLASSIC, keys(1), vectors(1))
    (message,) = caplog.messages
    assert message.startswith(f"{folder}: the vectors that an older tllboost stored")
    assert (folder / "index.sqlite").read_bytes() == b"of another format"


def test_a_file_of_garbage_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "vectors.sqlite").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StoreError, match=r"not a database.*delete the folder"):
        VectorStore(folder).open()


def test_a_file_that_was_never_filled_is_taken_over(folder: Path) -> None:
    folder.mkdir()
    (folder / "vectors.sqlite").touch()
    with VectorStore(folder) as store:
        store.add(CLASSIC, keys(1), vectors(1))
        assert store.get(CLASSIC, keys(1))[1].all()


def test_a_store_where_a_file_lies_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(StoreError, match="can't be read or written"):
        VectorStore(path).open()


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


# Hashes that it remembers


@pytest.fixture
def remembers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLED_SECONDS", -1)


@pytest.fixture
def no_hashing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def refuse(path: object) -> str:
        raise AssertionError(path)

    return lambda: monkeypatch.setattr(module, "content_hash", refuse)


def test_a_hash_is_the_sha256_of_the_bytes(store: VectorStore, image: Path) -> None:
    expected = hashlib.sha256(image.read_bytes()).hexdigest()
    good, bad = store.hashes_of([image, image.parent / "none.jpg"])
    assert good == expected
    assert "No such file" in str(bad)


@pytest.mark.usefixtures("remembers_at_once")
def test_an_unchanged_file_is_hashed_once(
    folder: Path,
    image: Path,
    no_hashing: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with VectorStore(folder) as store:
        known = store.hashes_of([image])
    no_hashing()
    with VectorStore(folder) as store:
        assert store.hashes_of([image]) == known
        monkeypatch.chdir(image.parent)
        assert store.hashes_of([image.name]) == known


@pytest.mark.usefixtures("remembers_at_once")
def test_a_changed_file_of_the_same_size_and_time_is_hashed_again(
    store: VectorStore, image: Path
) -> None:
    before, status = store.hashes_of([image]), image.stat()
    content = bytearray(image.read_bytes())
    content[-3] ^= 1
    time.sleep(0.02)  # a tick of the file system's clock
    image.write_bytes(content)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.hashes_of([image]) != before


def test_a_file_changed_a_moment_ago_is_not_remembered(
    store: VectorStore, image: Path
) -> None:
    store.hashes_of([image])
    assert store._connection is not None
    count = store._connection.execute("SELECT count(*) FROM files").fetchone()[0]
    assert count == 0


@pytest.mark.usefixtures("remembers_at_once")
def test_prune_forgets_files_that_are_gone(store: VectorStore, tmp_path: Path) -> None:
    paths = [write_image(tmp_path / f"{n}.jpg", seed=n) for n in range(3)]
    store.hashes_of(paths)
    paths[1].unlink()
    store.prune()
    assert store._connection is not None
    rows = store._connection.execute("SELECT path FROM files ORDER BY path").fetchall()
    assert [os.fsdecode(path) for (path,) in rows] == [str(paths[0]), str(paths[2])]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text here")
@pytest.mark.usefixtures("remembers_at_once")
def test_a_name_that_is_no_text_is_remembered_too(
    store: VectorStore, tmp_path: Path, no_hashing: Callable[[], None]
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jpg"))
    path.write_bytes(b"bytes")
    known = store.hashes_of([path])
    no_hashing()
    assert store.hashes_of([path]) == known


def test_hashes_of_reports_bad_files_in_their_places(
    store: VectorStore, image: Path
) -> None:
    good, bad, again = store.hashes_of([image, image.parent, image])
    assert isinstance(bad, ImageError)
    assert good == again == hashlib.sha256(image.read_bytes()).hexdigest()
    assert store.hashes_of([]) == []
