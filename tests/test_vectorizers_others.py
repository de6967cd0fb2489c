"""classic, fusions, the user's own arrays and the user's own classes."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from reliability import count

from tllboost.errors import DataError, UsageError, WeightsError
from tllboost.merges import unit_rows
from tllboost.vectorizers import FusionVectorizer, make_vectorizer
from tllboost.vectorizers.arrays import ArrayVectorizer
from tllboost.vectorizers.base import fuse
from tllboost.vectorizers.preprocess import Preprocessing

SEEDS = st.integers(0, 2**32 - 1)


def noise(seed: int, size: tuple[int, int] = (90, 70)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (128, 128)])
@pytest.mark.parametrize("colour", ["black", "white", "red"])
def test_classic_is_finite_on_empty_images(size: tuple[int, int], colour: str) -> None:
    vectors = make_vectorizer("classic").transform([Image.new("RGB", size, colour)])
    assert vectors.shape == (1, make_vectorizer("classic").n_dims)
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors) > 0


def test_classic_knows_an_image_again_after_scaling_and_dimming() -> None:
    classic = make_vectorizer("classic")
    images = [noise(seed) for seed in range(10)]
    changed = [one.resize((201, 155)).point(lambda v: int(v * 0.8)) for one in images]
    similarity = (
        unit_rows(classic.transform(images)) @ unit_rows(classic.transform(changed)).T
    )
    assert (similarity.argmax(axis=1) == np.arange(10)).all()


def top2_among_20(left: np.ndarray, right: np.ndarray, *, seed: int = 0) -> float:
    """Return how often a left's own right is among the best two of 20."""
    rng = np.random.default_rng(seed)
    similarity = unit_rows(left) @ unit_rows(right).T
    n_pairs = len(left)
    hits = 0
    for one in range(n_pairs):
        others = rng.choice(np.delete(np.arange(n_pairs), one), 19, replace=False)
        hits += (similarity[one, others] >= similarity[one, one]).sum() < 2
    return hits / n_pairs


@pytest.mark.shared
def test_classic_ranks_look_alikes_well_above_chance(tll: Path) -> None:
    lines = (tll / "pairs.csv").read_text().split()[1:151]
    names = np.array([line.split(",") for line in lines])
    classic = make_vectorizer("classic")
    left = classic.transform([tll / "left" / f"{name}.jpg" for name in names[:, 0]])
    right = classic.transform([tll / "right" / f"{name}.jpg" for name in names[:, 1]])
    assert top2_among_20(left, right) > 0.34  # 0.10 by chance, 0.460 on all pairs


def test_fusion_is_its_parts_at_length_one_side_by_side(tmp_path: Path) -> None:
    both = make_vectorizer("classic+classic")
    images = [noise(seed) for seed in range(3)]
    alone = unit_rows(make_vectorizer("classic").transform(images))
    np.testing.assert_allclose(both.transform(images), np.hstack([alone, alone]))
    assert both.n_dims == 2 * alone.shape[1]
    prepared = np.stack([both.prepare(one) for one in images])
    np.testing.assert_allclose(both.forward(prepared), both.transform(images))


def test_fusion_keeps_zero_vectors_zero() -> None:
    assert (
        fuse([np.zeros((1, 2)), np.ones((1, 4))]) == [[0, 0, 0.5, 0.5, 0.5, 0.5]]
    ).all()


def test_fusion_fingerprints_follow_parts_and_their_order(tmp_path: Path) -> None:
    write(tmp_path / "a.npz", ["x"], np.ones((1, 2)))
    arrays = f"vectors:{tmp_path / 'a.npz'}"
    names = ["classic", f"classic+{arrays}", f"{arrays}+classic"]
    assert len({make_vectorizer(name).fingerprint for name in names}) == 3
    fused = make_vectorizer(names[1])
    assert isinstance(fused, FusionVectorizer)
    assert fused.needs_images
    assert not make_vectorizer(f"{arrays}+{arrays}").needs_images


@given(weights=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=4), seed=SEEDS)
def test_cosine_of_a_weighted_fusion_is_the_weighted_mean_of_cosines(
    weights: list[float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    blocks = [rng.normal(size=(2, 5)) for _ in weights]
    one, other = unit_rows(fuse(blocks, weights))
    cosines = [float(np.prod(unit_rows(block), axis=0).sum()) for block in blocks]
    expected = np.average(cosines, weights=weights)
    assert float(one @ other) == pytest.approx(expected, abs=1e-5)


def test_a_fusion_says_its_weights_wherever_it_is_told_apart() -> None:
    spec = "pocket?flip=true&weight=2+classic?weight=0.25"
    fused = make_vectorizer(spec)
    assert isinstance(fused, FusionVectorizer)
    assert fused.weights == (2, 0.25)
    assert make_vectorizer(fused.spec).fingerprint == fused.fingerprint
    assert fused.label == fused.spec == spec
    names = [spec, "pocket?flip=true+classic", "pocket?flip=true+classic?weight=0.25"]
    assert len({make_vectorizer(name).fingerprint for name in names}) == 3
    assert make_vectorizer("classic?weight=1+pocket").fingerprint == (
        make_vectorizer("classic+pocket").fingerprint
    )


def write(path: Path, ids: object, vectors: np.ndarray, **more: np.ndarray) -> Path:
    np.savez(path, ids=np.asarray(ids), vectors=vectors, **more)
    return path


def test_vectors_are_found_by_the_nearest_spelling_of_an_id(tmp_path: Path) -> None:
    ids = ["left/aaa", "left/bbb.jpg", "ccc", "ddd.png", "eee.jpg", "eee.png"]
    rows = np.arange(12).reshape(6, 2)
    arrays = ArrayVectorizer(write(tmp_path / "a.npz", ids, rows))
    wanted = ["left/aaa", "left/bbb", "left/ccc", "right/ddd", "ccc.jpg", "eee", "fff"]
    vectors, found = arrays.lookup(wanted)
    assert found.tolist() == [True, True, True, True, True, False, False]
    assert vectors[:4].tolist() == rows[[0, 1, 2, 3]].tolist()
    assert vectors[4].tolist() == rows[2].tolist()
    assert vectors.dtype == np.float32
    assert not vectors[5:].any()
    assert (arrays.n_dims, arrays.needs_images) == (2, False)


def test_the_exact_id_wins_over_the_one_without_folder(tmp_path: Path) -> None:
    file = write(tmp_path / "a.npz", ["aaa", "left/aaa"], np.array([[1.0], [2.0]]))
    vectors, _ = ArrayVectorizer(file).lookup(["left/aaa", "right/aaa"])
    assert vectors.ravel().tolist() == [2.0, 1.0]


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "uint8"])
def test_numbers_of_any_kind_become_float32(tmp_path: Path, dtype: str) -> None:
    file = write(tmp_path / "a.npz", [7, 8], np.ones((2, 3), dtype=dtype))
    vectors, found = ArrayVectorizer(file).lookup(["7", "8"])
    assert vectors.dtype == np.float32
    assert found.all()


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a", "b"], np.ones((3, 2)), "ids of shape \\(2,\\) for 3 vectors"),
        (["a", "a"], np.ones((2, 2)), "id 'a' occurs more than once"),
        (["a", "b"], np.array([[1, 2], [3, np.nan]]), "vector of 'b' holds NaN"),
        (["a", "b"], np.array([[1, 1e300], [np.inf, 1]]), "vector of 'a' and 1 more"),
        (["a", "b"], np.ones(2), "vectors of shape \\(2,\\)"),
        (["a", "b"], np.array([["x"], ["y"]]), "must be numbers"),
        ([1.5, 2.5], np.ones((2, 2)), "must be text"),
    ],
)
def test_wrong_arrays_are_refused_by_name(
    tmp_path: Path, ids: object, vectors: np.ndarray, message: str
) -> None:
    file = write(tmp_path / "a.npz", ids, vectors)
    with pytest.raises(DataError, match=message):
        ArrayVectorizer(file).lookup(["a"])


def test_wrong_files_are_refused_without_unpickling(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", names=np.ones(2))
    np.save(tmp_path / "one.npy", np.ones(2))
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "empty.npz").touch()
    np.savez(
        tmp_path / "objects.npz",
        ids=np.array(["a", None], dtype=object),
        vectors=np.ones((2, 2)),
    )
    whole = write(tmp_path / "whole.npz", ["a"], np.ones((1, 999))).read_bytes()
    (tmp_path / "torn.npz").write_bytes(whole[: len(whole) // 2])
    for name, message in {
        "other.npz": "no array 'ids' \\(found: names\\)",
        "one.npy": "one array, not an .npz",
        "text.npz": "can't be read as vectors",
        "empty.npz": "can't be read as vectors",
        "torn.npz": "can't be read as vectors",
        "objects.npz": "Python objects, not text",
    }.items():
        with pytest.raises(DataError, match=message):
            ArrayVectorizer(tmp_path / name).lookup(["a"])
    with pytest.raises(WeightsError, match="there is no file"):
        ArrayVectorizer(tmp_path / "none.npz").lookup(["a"])


def header(shape: tuple[int, ...]) -> bytes:
    """Return the start of an .npy file that says it has this shape."""
    buffer = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


def test_arrays_that_swell_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.npz", ["a"], np.ones((1, 2)))
    with zipfile.ZipFile(file) as archive:
        ids = archive.read("ids.npy")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("ids.npy", ids)
        archive.writestr("vectors.npy", header((10**9, 10**5)) + bytes(8))
    with pytest.raises(WeightsError, match=r"can't be read as vectors \(damaged\)"):
        ArrayVectorizer(file).lookup(["a"])
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ids.npy", ids)
        archive.writestr("vectors.npy", header((10**6, 10**6)) + bytes(8))
        archive.infolist()[1].file_size = 4 * 10**12  # what its directory will say
    with pytest.raises(DataError, match=r"unpacks to 4,000,000,000,\d+ bytes, more"):
        ArrayVectorizer(file).lookup(["a"])
    count("bad networks tried", 2)


def test_arrays_do_not_vectorize_images(tmp_path: Path) -> None:
    file = write(tmp_path / "a.npz", ["a"], np.ones((1, 2)))
    with pytest.raises(UsageError, match="can't vectorize new images"):
        ArrayVectorizer(file).transform([noise(0)])


OWN = '''
import numpy as np

class Mean:
    """Mean colour."""
    def __init__(self, scale=1.0):
        self.scale = scale
    def transform(self, images):
        return np.array([np.asarray(i).mean((0, 1)) * self.scale for i in images])

class Named(Mean):
    fingerprint = "mean colour, second edition"
    n_dims = 3

class Wrong(Mean):
    def transform(self, images):
        return np.ones(7)

class Needy:
    def __init__(self, path):
        self.path = path
    def transform(self, images):
        return images
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's, importable by this name."""
    (tmp_path / "own_vectorizers.py").write_text(OWN)
    # That of another test may be in memory still, and its file gone.
    monkeypatch.delitem(sys.modules, "own_vectorizers", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_vectorizers"


def test_a_class_of_the_users_works_by_name(own: str) -> None:
    vectorizer = make_vectorizer(f"{own}:Mean")
    images = [noise(0, (20, 30)), noise(1, (31, 9))]
    expected = [np.asarray(one).mean((0, 1)) for one in images]
    np.testing.assert_allclose(vectorizer.transform(images), expected, rtol=1e-6)
    assert vectorizer.n_dims == 3
    assert vectorizer.label == "Mean"
    assert make_vectorizer(f"classic+{own}:Mean").transform(images).shape[0] == 2


def test_own_fingerprints_come_first_then_source_and_parameters(own: str) -> None:
    import importlib

    module = importlib.import_module(own)
    assert "second edition" in make_vectorizer(f"{own}:Named").fingerprint
    plain = make_vectorizer(module.Mean())
    scaled = make_vectorizer(module.Mean(scale=2.0))
    assert plain.fingerprint != scaled.fingerprint
    assert plain.fingerprint == make_vectorizer(f"{own}:Mean").fingerprint


def test_own_classes_that_can_not_work_are_refused(own: str) -> None:
    with pytest.raises(UsageError, match=r"can't be made without arguments.*path"):
        make_vectorizer(f"{own}:Needy").transform([noise(0)])
    with pytest.raises(DataError, match=r"returned shape \(7,\) for 1 images"):
        make_vectorizer(f"{own}:Wrong").transform([noise(0)])


def test_transform_wants_a_list_and_takes_an_empty_one() -> None:
    classic = make_vectorizer("classic")
    with pytest.raises(UsageError, match="takes a list of images"):
        classic.transform("image.jpg")
    assert classic.transform([]).shape == (0, classic.n_dims)


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (64, 32), (333, 77)])
def test_every_fit_fills_the_input(fit: str, size: tuple[int, int]) -> None:
    prepare = Preprocessing((32, 32), fit=fit)
    pixels = prepare(Image.new("RGB", size, "white"))
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == np.float32
    assert prepare.shrink_to >= 32


def test_padding_is_the_mean_colour() -> None:
    pixels = Preprocessing((32, 32), fit="pad")(Image.new("RGB", (40, 10), "white"))
    assert np.abs(pixels[:, 0]).max() < 0.02
    assert pixels[:, 16].min() > 2


def test_normalisation_that_can_not_be_is_refused() -> None:
    for wrong in ({"std": (0.0, 1.0, 1.0)}, {"mean": (1.0,)}, {"fit": "stretch"}):
        with pytest.raises(UsageError):
            Preprocessing((32, 32), **wrong)
