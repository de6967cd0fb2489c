"""Images that fail take no other with them, and are told one by one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from colour_grid import Grid, expected, n_own_threads, write_images
from conftest import write_image
from PIL import Image

from tllboost import vectorizing
from tllboost.errors import UsageError, WeightsError
from tllboost.images import decoders
from tllboost.store import VectorStore
from tllboost.vectorizers import FusionVectorizer
from tllboost.vectorizers.classic import PixelVectorizer
from tllboost.vectorizing import vectorize


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return write_images(tmp_path / "images")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def break_in_every_way(paths: list[Path]) -> dict[int, str]:
    """Spoil some images; return the reason due to each."""
    paths[1].unlink()
    paths[2].write_bytes(paths[2].read_bytes()[:600])
    paths[5].write_bytes(b"")
    paths[8].unlink()
    paths[8].mkdir()
    due = {1: "No such file", 2: "truncated", 5: "empty", 8: "is a folder"}
    if hasattr(os, "mkfifo"):
        paths[9].unlink()
        os.mkfifo(paths[9])
        due[9] = "not a regular file"
    return due


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_each_bad_image_is_reported_and_the_rest_goes_on(
    paths: list[Path], store: Path, batch_size: int
) -> None:
    due = break_in_every_way(paths)
    result = vectorize(Grid(), paths, store=store, batch_size=batch_size)
    assert list(result.failures) == list(due)
    for index, reason in due.items():
        assert reason in result.failures[index]
        assert not result.vectors[index].any()
    good = [index for index in range(11) if index not in due]
    np.testing.assert_array_equal(
        result.vectors[good], expected([paths[index] for index in good])
    )
    assert result.n_computed == len(good)


def test_reasons_are_the_same_where_images_are_prepared_elsewhere(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    due = break_in_every_way(paths)
    vectorizer = PixelVectorizer(size=4)
    here = vectorize(vectorizer, paths)
    monkeypatch.setenv("TLLBOOST_CORES", "2")
    monkeypatch.setattr(vectorizing, "MANY", 4)
    monkeypatch.setattr(PixelVectorizer, "HOLDS_LOCK", True, raising=False)
    with monkeypatch.context() as patched:
        patched.setattr(PixelVectorizer, "prepare", None)  # of this process
        there = vectorize(vectorizer, paths)
    assert there.failures == here.failures
    assert len(there.failures) == len(due)
    np.testing.assert_array_equal(there.vectors, here.vectors)


def test_a_decoder_tells_why_an_image_can_not_be_prepared(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Choking(Grid):
        def prepare(self, image: Image.Image) -> np.ndarray:
            msg = "no such colour"
            raise ValueError(msg)

    here = vectorize(Choking(), paths[:1]).failures[0]
    monkeypatch.setattr(decoders, "_vectorizer", lambda name: Choking())
    request = decoders._REQUEST.pack(0, 10**6, 0, 4), b"name", paths[0].read_bytes()
    head, reason = decoders._answer(b"".join(request))
    assert not decoders._REPLY.unpack(head)[0]
    assert reason.decode() == here == "can't be prepared (ValueError: no such colour)"


def test_a_whole_batch_of_bad_images_is_no_end(paths: list[Path]) -> None:
    for path in paths[:8]:
        path.write_bytes(b"no image " + path.name.encode())
    result = vectorize(Grid(), paths, batch_size=4)
    assert list(result.failures) == list(range(8))
    np.testing.assert_array_equal(result.vectors[8:], expected(paths[8:]))


def test_nothing_but_bad_images_gives_rows_of_zeros(
    paths: list[Path], store: Path
) -> None:
    for number, path in enumerate(paths):
        path.write_bytes(b"no image %d" % number)
    result = vectorize(Grid(), paths, store=store, batch_size=4)
    assert len(result.failures) == 11
    assert result.vectors.shape == (11, 12)
    assert not result.vectors.any()
    with VectorStore(store) as opened:
        assert opened.info() == []


def test_a_mended_image_is_computed_next_time(paths: list[Path], store: Path) -> None:
    whole = paths[3].read_bytes()
    paths[3].write_bytes(whole[:600])
    assert list(vectorize(Grid(), paths, store=store).failures) == [3]
    paths[3].write_bytes(whole)
    result = vectorize(Grid(), paths, store=store)
    assert result.failures == {}
    assert (result.n_computed, result.n_reused) == (1, 10)


class Picky(Grid):
    """Fails in a chosen way on images of one colour."""

    def __init__(self, where: str, error: Exception | None = None) -> None:
        super().__init__()
        self.where = where
        self.error = error

    def prepare(self, image: Image.Image) -> np.ndarray:
        prepared = super().prepare(image)
        if self.where == "prepare" and self.error and (prepared < 3).all():
            raise self.error
        return prepared

    def forward(self, batch: np.ndarray) -> np.ndarray:
        black = (batch < 3).all(axis=(1, 2, 3))
        if self.where == "forward" and self.error and black.any():
            raise self.error
        vectors = super().forward(batch)
        if self.where == "nan":
            vectors[black] = np.nan
        return vectors


@pytest.fixture
def with_black(paths: list[Path]) -> list[Path]:
    Image.new("RGB", (50, 50)).save(paths[6])
    return paths


@pytest.mark.parametrize(
    ("vectorizer", "reason"),
    [
        (Picky("prepare", ValueError("too dark")), "prepared (ValueError: too dark)"),
        (Picky("forward", RuntimeError("no")), "vectorized (RuntimeError: no)"),
        (Picky("nan"), "NaN or infinity"),
    ],
)
def test_an_image_that_the_vectorizer_chokes_on_takes_no_other_with_it(
    with_black: list[Path], store: Path, vectorizer: Grid, reason: str
) -> None:
    result = vectorize(vectorizer, with_black, store=store, batch_size=5)
    assert list(result.failures) == [6]
    assert reason in result.failures[6]
    others = [*range(6), *range(7, 11)]
    np.testing.assert_array_equal(result.vectors, expected(with_black))
    assert result.n_computed == len(others)
    with VectorStore(store) as opened:
        assert opened.info()[0]["n_rows"] == len(others)


@pytest.mark.parametrize("where", ["prepare", "forward"])
def test_wrong_weights_stop_the_run(with_black: list[Path], where: str) -> None:
    n_threads = n_own_threads()
    with pytest.raises(WeightsError, match="no such file"):
        vectorize(Picky(where, WeightsError("no such file")), with_black)
    assert n_own_threads() == n_threads


class Rewriter(Grid):
    """Changes the last image while the first is prepared."""

    def __init__(self, victim: Path) -> None:
        super().__init__()
        self.victim = victim

    def prepare(self, image: Image.Image) -> np.ndarray:
        if not self.n_prepared:
            write_image(self.victim, seed=1000)
        return super().prepare(image)


def test_an_image_that_changes_meanwhile_is_not_stored_under_its_old_content(
    paths: list[Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLLBOOST_CORES", "1")
    result = vectorize(Rewriter(paths[-1]), paths, store=store)
    assert result.failures == {10: "changed while it was read: run again"}
    again = vectorize(Grid(), paths, store=store)
    assert again.n_computed == 1
    np.testing.assert_array_equal(again.vectors, expected(paths))


class Raw(Grid):
    """Prepares images of different shapes."""

    def prepare(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image, dtype=np.float32)

    def forward(self, batch: np.ndarray) -> np.ndarray:
        return np.tile(batch.mean(axis=(1, 2)), 4)


def test_images_of_different_shapes_need_not_fit_one_batch(paths: list[Path]) -> None:
    write_image(paths[2], seed=2, size=(40, 30))
    result = vectorize(Raw(), paths)
    assert result.failures == {}
    one_by_one = np.concatenate([Raw().transform([path]) for path in paths])
    np.testing.assert_allclose(result.vectors, one_by_one, rtol=1e-5)


class Sideways(Grid):
    def forward(self, batch: np.ndarray) -> np.ndarray:
        return super().forward(batch).T


def test_vectors_of_a_wrong_shape_are_the_vectorizers_fault(paths: list[Path]) -> None:
    with pytest.raises(UsageError, match=r"'grid2' gave vectors of shape \(12, 11\)"):
        vectorize(Sideways(), paths)


def test_an_image_that_one_part_fails_on_fails_the_fusion(
    with_black: list[Path],
) -> None:
    fused = FusionVectorizer((Grid(3), Picky("nan")))
    result = vectorize(fused, with_black)
    assert list(result.failures) == [6]
    assert not result.vectors[6].any()
    assert np.allclose(np.linalg.norm(np.delete(result.vectors, 6, 0), axis=1), 2**0.5)
