from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from colour_grid import Grid, expected, n_own_threads, write_images
from conftest import flip_a_bit, write_image
from PIL import Image

from tllboost import vectorizing
from tllboost.errors import StoreError, UsageError
from tllboost.store import VectorStore
from tllboost.vectorizers import FusionVectorizer, make_vectorizer
from tllboost.vectorizers.base import Vectorizer
from tllboost.vectorizers.classic import ClassicVectorizer
from tllboost.vectorizing import space_of, vectorize, vectorize_many


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return write_images(tmp_path / "images")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


# Once and never again


def test_one_row_an_image_in_the_order_given(paths: list[Path]) -> None:
    result = vectorize(Grid(), paths[::-1])
    assert result.vectors.dtype == np.float32
    np.testing.assert_array_equal(result.vectors, expected(paths[::-1]))
    assert result.failures == {}
    assert (result.n_computed, result.n_reused) == (11, 0)
    assert result.seconds > 0


def test_several_vectorizers_share_what_they_have_in_common(paths: list[Path]) -> None:
    one, other, again, fused = Grid(2), Grid(3), Grid(2), Grid(2)
    fusion = FusionVectorizer((fused, Grid(3)))
    first, second, third, both = vectorize_many([one, other, again, fusion], paths)
    assert (again.batches, fused.batches, fusion.parts[1].batches) == ([], [], [])
    assert (first.n_computed, first.n_reused) == (11, 0)
    assert (third.n_computed, third.n_reused) == (0, 11)
    assert (both.n_computed, both.n_reused) == (0, 22)
    np.testing.assert_array_equal(third.vectors, first.vectors)
    np.testing.assert_array_equal(second.vectors, expected(paths, 3))
    alone = vectorize(FusionVectorizer((Grid(2), Grid(3))), paths)
    np.testing.assert_array_equal(both.vectors, alone.vectors)


def test_shared_vectors_tell_the_same_failures(paths: list[Path]) -> None:
    paths[3].write_bytes(b"no image")
    fusion = FusionVectorizer((Grid(2), Grid(3)))
    results = vectorize_many([Grid(2), fusion, Grid(3)], paths)
    assert [list(result.failures) for result in results] == [[3], [3], [3]]
    assert not any(result.vectors[3].any() for result in results)


def test_a_second_run_computes_nothing(paths: list[Path], store: Path) -> None:
    first = vectorize(Grid(), paths, store=store)
    again = Grid()
    second = vectorize(again, paths, store=store)
    assert (again.n_prepared, again.batches) == (0, [])
    assert (second.n_computed, second.n_reused) == (0, 11)
    np.testing.assert_array_equal(first.vectors, second.vectors)


def test_vectors_are_in_memory_once(paths: list[Path], store: Path) -> None:
    class Wide(Grid):
        n_dims = 1_000_000

        def forward(self, batch: np.ndarray) -> np.ndarray:
            return np.full((len(batch), self.n_dims), batch.mean(), np.float32)

    peaks = []
    for _ in ("computed", "stored"):
        tracemalloc.start()
        result = vectorize(Wide(), paths, store=store, batch_size=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert result.vectors.nbytes == 44_000_000
    assert max(peaks) < 84_000_000  # with 34 million that are let go of at the start


def test_only_new_images_are_computed(paths: list[Path], store: Path) -> None:
    vectorize(Grid(), paths[:7], store=store)
    result = vectorize(Grid(), paths, store=store)
    assert (result.n_computed, result.n_reused) == (4, 7)
    np.testing.assert_array_equal(result.vectors, expected(paths))


def test_another_fingerprint_or_decoding_reuses_nothing(
    paths: list[Path], store: Path
) -> None:
    vectorize(Grid(2), paths, store=store)
    for other in (Grid(3), Grid(2, size=16)):
        result = vectorize(other, paths, store=store)
        assert (result.n_computed, result.n_reused) == (11, 0)
    assert len({space_of(Grid(2)), space_of(Grid(3)), space_of(Grid(2, size=16))}) == 3


def test_a_renamed_or_moved_image_is_recognised(paths: list[Path], store: Path) -> None:
    vectorize(Grid(), paths, store=store)
    folder = paths[0].parent.rename(paths[0].parent.with_name("elsewhere"))
    moved = [
        shutil.move(path, folder / f"new name {number}.jpeg")
        for number, path in enumerate(sorted(folder.iterdir()))
    ]
    result = vectorize(Grid(), moved, store=store)
    assert (result.n_computed, result.n_reused) == (0, 11)
    np.testing.assert_array_equal(result.vectors, expected(moved))


def test_a_changed_image_under_its_old_name_is_computed_anew(
    paths: list[Path], store: Path
) -> None:
    vectorize(Grid(), paths, store=store)
    write_image(paths[4], seed=400)
    result = vectorize(Grid(), paths, store=store)
    assert (result.n_computed, result.n_reused) == (1, 10)
    np.testing.assert_array_equal(result.vectors, expected(paths))


def test_identical_images_are_computed_once(paths: list[Path]) -> None:
    twin = paths[0].with_name("twin.jpg")
    shutil.copy(paths[0], twin)
    grid = Grid()
    result = vectorize(grid, [twin, *paths, twin, paths[0]])
    assert grid.n_prepared == result.n_computed == 11
    np.testing.assert_array_equal(
        result.vectors, expected([paths[0], *paths, paths[0], paths[0]])
    )


def test_without_a_store_nothing_is_kept(paths: list[Path]) -> None:
    assert vectorize(Grid(), paths).n_computed == 11
    assert vectorize(Grid(), paths).n_computed == 11


def test_no_images_make_no_rows() -> None:
    result = vectorize(Grid(), [])
    assert result.vectors.shape == (0, 12)


def test_a_store_that_is_handed_in_can_be_used_again(
    paths: list[Path], store: Path
) -> None:
    own = VectorStore(store)
    assert vectorize(Grid(), paths, store=own).n_computed == 11
    assert vectorize(Grid(), paths, store=own).n_reused == 11
    with VectorStore(store) as opened:
        assert vectorize(Grid(), paths, store=opened).n_reused == 11
        assert len(opened.info()) == 1


def test_a_damaged_store_stops_the_run_and_pruning_mends_it(
    paths: list[Path], store: Path
) -> None:
    vectorize(Grid(), paths, store=store)
    flip_a_bit(store)
    with pytest.raises(StoreError, match="tllboost store prune"):
        vectorize(Grid(), paths, store=store)
    with VectorStore(store) as opened:
        assert opened.prune() == 1
    result = vectorize(Grid(), paths, store=store)
    assert (result.n_computed, result.n_reused) == (1, 10)
    np.testing.assert_array_equal(result.vectors, expected(paths))


# Beside the network


def test_batches_are_full_and_no_image_is_forgotten(paths: list[Path]) -> None:
    grid = Grid()
    vectorize(grid, paths, batch_size=4)
    assert grid.batches == [4, 4, 3]


@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
@pytest.mark.parametrize("n_workers", [1, 3])
def test_batch_size_and_workers_change_no_vector(
    paths: list[Path],
    batch_size: int,
    n_workers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TLLBOOST_CORES", str(n_workers))
    result = vectorize(Grid(), paths, batch_size=batch_size)
    np.testing.assert_array_equal(result.vectors, expected(paths))


def test_decoding_runs_beside_the_network(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLLBOOST_CORES", "2")
    grid = Grid()
    vectorize(grid, paths)
    assert grid.threads["forward"] == {threading.current_thread().name}
    assert not grid.threads["forward"] & grid.threads["prepare"]


@pytest.mark.parametrize("name", ["classic", "classic?flip=true&views=whole,grey"])
def test_descriptors_of_many_images_are_made_where_these_are_decoded(
    paths: list[Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = make_vectorizer(name).transform(paths)
    monkeypatch.setenv("TLLBOOST_CORES", "2")
    monkeypatch.setattr(vectorizing, "MANY", 4)
    with monkeypatch.context() as patched:
        patched.setattr(ClassicVectorizer, "prepare", None)  # of this process
        many = vectorize(name, paths)
    assert many.failures == {}
    np.testing.assert_array_equal(many.vectors, alone)


class Darker(ClassicVectorizer):
    def pixels(self, image: Image.Image) -> np.ndarray:
        return super().pixels(image.point(lambda level: level // 2))


def test_what_a_subclass_makes_of_images_is_made_by_that(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLLBOOST_CORES", "2")
    monkeypatch.setattr(vectorizing, "MANY", 4)
    expected = Darker().transform(paths)
    np.testing.assert_array_equal(vectorize(Darker(), paths).vectors, expected)
    assert not np.array_equal(vectorize("classic", paths).vectors, expected)


class Slow(Grid):
    def forward(self, batch: np.ndarray) -> np.ndarray:
        time.sleep(0.1)
        return super().forward(batch)


def test_decoding_runs_ahead_by_a_bounded_number_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLLBOOST_CORES", "2")
    many = [write_image(tmp_path / f"{n}.jpg", seed=n) for n in range(60)]
    slow = Slow()
    vectorize(slow, many, batch_size=8)
    # one batch in the network, one in the queue, one image a worker in hand
    assert 8 < slow.most_ahead <= 8 + 8 + 2 + 1


def test_progress_counts_up_to_all_images(paths: list[Path], store: Path) -> None:
    vectorize(Grid(), paths[:3], store=store)
    paths[4].write_bytes(b"bad")
    calls: list[tuple[int, int, str]] = []
    vectorize(
        Grid(),
        paths,
        store=store,
        batch_size=4,
        progress=lambda *call: calls.append(call),
    )
    assert calls[0] == (3, 11, "grid2")
    assert calls[-1] == (11, 11, "grid2")
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)


def test_a_batch_size_of_zero_is_refused(paths: list[Path]) -> None:
    with pytest.raises(UsageError, match="batch_size=0 must be at least 1"):
        vectorize(Grid(), paths, batch_size=0)


# Breaking off


class Interrupted(Grid):
    def forward(self, batch: np.ndarray) -> np.ndarray:
        if len(self.batches) == 2:
            raise KeyboardInterrupt
        return super().forward(batch)


def test_an_interrupt_keeps_what_was_done(paths: list[Path], store: Path) -> None:
    n_threads = n_own_threads()
    with pytest.raises(KeyboardInterrupt):
        vectorize(Interrupted(), paths, store=store, batch_size=3)
    assert n_own_threads() == n_threads
    result = vectorize(Grid(), paths, store=store)
    assert (result.n_computed, result.n_reused) == (5, 6)


KILLED = """
import sys, time
import numpy as np
from tllboost.vectorizing import vectorize

class Grid:
    fingerprint, label, n_dims, input_size = "grid|2", "grid2", 12, None

    def prepare(self, image):
        return np.asarray(image.resize((2, 2), 4), dtype=np.float32)

    def forward(self, batch):
        time.sleep(0.05)
        print(len(batch), flush=True)
        return batch.reshape(len(batch), -1)

vectorize(Grid(), sys.argv[2:], store=sys.argv[1], batch_size=4)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.05])
def test_kill_9_loses_at_most_one_batch(
    tmp_path: Path, store: Path, seconds: float
) -> None:
    many = [write_image(tmp_path / f"{n}.jpg", seed=n) for n in range(80)]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, store, *many],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    ) as process:
        assert process.stdout is not None
        n_batches = sum(1 for _ in zip(range(6), process.stdout, strict=False))
        time.sleep(seconds)
        process.kill()
        n_batches += len(process.stdout.read().split())
    assert n_batches < 20
    with VectorStore(store) as opened:
        assert opened.verify() == []
    result = vectorize(Grid(), many, store=store)
    assert 4 * n_batches - 4 <= result.n_reused <= 4 * n_batches
    assert result.n_computed == 80 - result.n_reused
    np.testing.assert_array_equal(result.vectors, expected(many))


# Fusions and lookups


def test_a_fusion_is_stored_part_by_part(paths: list[Path], store: Path) -> None:
    fused = FusionVectorizer((Grid(2), Grid(3)))
    result = vectorize(fused, paths, store=store)
    np.testing.assert_allclose(result.vectors, fused.transform(paths), atol=1e-6)
    assert (result.n_computed, result.n_reused) == (22, 0)
    assert vectorize(Grid(3), paths, store=store).n_computed == 0
    again = vectorize(FusionVectorizer((Grid(3), Grid(4))), paths, store=store)
    assert (again.n_computed, again.n_reused) == (11, 11)


def test_fusions_of_other_weights_share_what_is_stored(
    paths: list[Path], store: Path
) -> None:
    vectorize(FusionVectorizer((Grid(2), Grid(3))), paths, store=store)
    weighted = FusionVectorizer((Grid(2), Grid(3)), (1, 0.25))
    result = vectorize(weighted, paths, store=store)
    assert (result.n_computed, result.n_reused) == (0, 22)
    np.testing.assert_allclose(result.vectors, weighted.transform(paths), atol=1e-6)
    second = result.vectors[:, weighted.parts[0].n_dims :]
    np.testing.assert_allclose(np.linalg.norm(second, axis=1), 0.5, rtol=1e-6)


@pytest.fixture
def arrays(tmp_path: Path) -> Vectorizer:
    file = tmp_path / "own.npz"
    ids = [f"{number:02}" for number in range(11)]
    np.savez(file, ids=ids, vectors=np.arange(44, dtype=np.float32).reshape(11, 4))
    return make_vectorizer(f"vectors:{file}")


def test_own_vectors_are_looked_up_by_id_without_images(arrays: Vectorizer) -> None:
    result = vectorize(arrays, [None] * 3, ids=["04.jpg", "left/02", "none"])
    assert result.vectors[:, 0].tolist() == [16, 8, 0]
    assert result.failures == {2: "vectors:own has no vector under the id 'none'"}
    assert (result.n_computed, result.n_reused) == (0, 2)


def test_own_vectors_can_be_part_of_a_fusion(
    arrays: Vectorizer, paths: list[Path], store: Path
) -> None:
    fused = FusionVectorizer((arrays, Grid()))
    ids = [path.stem for path in paths]
    result = vectorize(fused, paths, ids=ids, store=store)
    assert result.vectors.shape == (11, 16)
    assert (result.n_computed, result.n_reused) == (11, 11)


def test_own_vectors_without_ids_and_images_without_paths_are_refused(
    arrays: Vectorizer, paths: list[Path]
) -> None:
    with pytest.raises(UsageError, match="'vectors:own' looks vectors up by id"):
        vectorize(arrays, paths)
    with pytest.raises(UsageError, match="give the folder of the images"):
        vectorize(Grid(), [*paths, None])


# The real ones


@pytest.fixture(params=["onnx:squeezenet1_1.onnx", "classic"])
def real(request: pytest.FixtureRequest, shared: Path) -> Vectorizer:
    spec = request.param.replace("onnx:", f"onnx:{shared / 'weights'}/")
    return make_vectorizer(spec)


@pytest.mark.shared
def test_real_vectors_do_not_depend_on_the_batch(
    real: Vectorizer, tll: Path, tmp_path: Path
) -> None:
    some = sorted((tll / "left").glob("*.jpg"))[:24]
    alone = vectorize(real, some, batch_size=1, store=tmp_path / "store")
    together = vectorize(real, some, batch_size=17)
    scale = np.abs(alone.vectors).max()
    np.testing.assert_allclose(alone.vectors, together.vectors, atol=1e-5 * scale)
    np.testing.assert_allclose(alone.vectors, real.transform(some), atol=1e-5 * scale)
    again = vectorize(real, some, store=tmp_path / "store")
    assert (again.n_computed, again.n_reused) == (0, 24)
    np.testing.assert_array_equal(again.vectors, alone.vectors)
