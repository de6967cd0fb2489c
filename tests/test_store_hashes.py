"""The hashes of files that a store remembers."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import write_image
from stores import folder, store

from tllboost import store as module
from tllboost.errors import ImageError
from tllboost.store import VectorStore

# Fixtures.
__all__ = ["folder", "store"]


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
