"""What a store keeps, and what it refuses to be."""

from __future__ import annotations

import copy
import pickle
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import CLASSIC, ONNX, folder, keys, store, vectors

from tllboost.errors import StoreError, UsageError
from tllboost.store import VectorStore, default_store

# Fixtures.
__all__ = ["folder", "store"]

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
                with store:
                    pass
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
    with pytest.raises(UsageError, match=r"'cat\.jpg' is not a content hash"):
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
        with twin:
            assert twin.get(CLASSIC, keys(1))[1].all()


# What is no store of ours


def test_another_programs_index_is_refused_and_left_alone(folder: Path) -> None:
    folder.mkdir()
    path = folder / "vectors.sqlite"
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    content = path.read_bytes()
    with (
        pytest.raises(StoreError, match="SQLite file of another program"),
        VectorStore(folder),
    ):
        pass
    assert path.read_bytes() == content


def test_a_newer_store_is_refused_and_left_alone(folder: Path) -> None:
    with VectorStore(folder):
        pass
    with closing(sqlite3.connect(folder / "vectors.sqlite")) as other:
        other.execute("PRAGMA user_version = 3")
        other.execute("PRAGMA journal_mode = DELETE")
    content = (folder / "vectors.sqlite").read_bytes()
    with (
        pytest.raises(StoreError, match=r"version of tllboost \(format 3, not 2\)"),
        VectorStore(folder),
    ):
        pass
    assert (folder / "vectors.sqlite").read_bytes() == content


def test_a_file_of_garbage_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "vectors.sqlite").write_bytes(b"this is no database at all" * 100)
    with (
        pytest.raises(StoreError, match=r"not a database.*delete the folder"),
        VectorStore(folder),
    ):
        pass


def test_a_file_that_was_never_filled_is_taken_over(folder: Path) -> None:
    folder.mkdir()
    (folder / "vectors.sqlite").touch()
    with VectorStore(folder) as store:
        store.add(CLASSIC, keys(1), vectors(1))
        assert store.get(CLASSIC, keys(1))[1].all()


def test_a_store_where_a_file_lies_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(StoreError, match="can't be used"), VectorStore(path):
        pass
