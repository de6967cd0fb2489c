"""pocket: the network inside the package is the pinned one, and needs nothing else."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bundles import make_classifier, refused, save
from conftest import Run, write_image
from PIL import Image

from tllboost.bundle import read_manifest
from tllboost.classifier import PairClassifier, load_bundle
from tllboost.demo import make_scenes
from tllboost.errors import WeightsError
from tllboost.merges import unit_rows
from tllboost.vectorizers import DEFAULT_VECTORIZERS, make_vectorizer, pocket
from tllboost.vectorizers.onnx import check_network

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 4_000_000
BIG = {"torch", "timm", "open_clip", "onnx", "sklearn", "skimage", "scipy", "xgboost"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Nine images of different scenes."""
    folder = tmp_path_factory.mktemp("images")
    return [write_image(folder / f"{i}.png", seed=i) for i in range(9)]


def test_the_weights_are_small_pinned_and_plain() -> None:
    content = pocket.FILE.read_bytes()
    assert len(content) <= LARGEST
    assert hashlib.sha256(content).hexdigest() == pocket.SHA256
    assert check_network(pocket.FILE, what="pocket") == []  # all of it is in the file


def test_a_wheel_holds_the_weights(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tllboost", source / "tllboost", ignore=ignored)
    code = "import sys; from setuptools import build_meta as b; b.build_wheel('out')"
    (source / "out").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (source / "out").glob("*.whl")
    member = pocket.FILE.relative_to(ROOT).as_posix()
    with zipfile.ZipFile(wheel) as archive:
        held = hashlib.sha256(archive.read(member)).hexdigest()
    assert held == pocket.SHA256


@pytest.mark.parametrize("how", ["a bit", "the end", "all", "no file"])
def test_other_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    content = bytearray(pocket.FILE.read_bytes())
    content[len(content) // 2] ^= 1
    changed = {
        "a bit": content,
        "the end": content[:-9],
        "all": b"other",
        "no file": b"",
    }
    file = tmp_path / "pocket.onnx"
    if how != "no file":
        file.write_bytes(changed[how])
    monkeypatch.setattr(pocket, "FILE", file)
    vectorizer = make_vectorizer("pocket")
    with pytest.raises(WeightsError, match="install tllboost again") as caught:
        vectorizer.transform([Image.new("RGB", (64, 64))])
    assert "\n" not in str(caught.value)


def test_vectors_are_made_without_torch_or_a_network(image: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from tllboost.vectorizers import make_vectorizer\n"
        "vectorizer = make_vectorizer('pocket')\n"
        "vectorizer.fingerprint, vectorizer.n_dims\n"
        "assert 'onnxruntime' not in sys.modules\n"
        f"vectors = vectorizer.transform([{str(image)!r}])\n"
        "assert vectors.shape == (1, vectorizer.n_dims)\n"
        f"sys.exit(repr({BIG} & set(sys.modules)) if {BIG} & set(sys.modules) else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_vectors_are_float32_of_the_width_it_says(images: list[Path]) -> None:
    vectorizer = make_vectorizer("pocket")
    assert 128 <= vectorizer.n_dims <= 512
    vectors = vectorizer.transform(images)
    assert vectors.shape == (len(images), vectorizer.n_dims)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    both = make_vectorizer("pocket?views=whole,grey")
    assert both.n_dims == both.transform(images[:1]).shape[1] == 2 * vectors.shape[1]


def test_vectors_are_the_same_however_many_come_at_once(images: list[Path]) -> None:
    whole = make_vectorizer("pocket").transform(images)
    for size in (1, 2, 5):
        cut = make_vectorizer("pocket").transform(images, batch_size=size)
        np.testing.assert_allclose(cut, whole, atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_images_of_any_mode_have_finite_vectors(tmp_path: Path, mode: str) -> None:
    image = Image.radial_gradient("L").resize((70, 50))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 256)
    else:
        image = image.convert("RGB").convert(mode)
    path = tmp_path / f"image.{'tif' if mode == 'CMYK' else 'png'}"
    image.save(path)
    vectors = make_vectorizer("pocket").transform([path, path])
    assert np.isfinite(vectors).all()
    assert (vectors[0] == vectors[1]).all()


def test_grey_images_are_the_same_in_one_channel_and_in_three() -> None:
    grey = Image.radial_gradient("L").resize((70, 50))
    vectors = make_vectorizer("pocket").transform([grey, grey.convert("RGB")])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (128, 128)])
@pytest.mark.parametrize("colour", ["black", "white", "red"])
def test_vectors_of_empty_images_are_finite(size: tuple[int, int], colour: str) -> None:
    vectors = make_vectorizer("pocket").transform([Image.new("RGB", size, colour)])
    assert np.isfinite(vectors).all()


def test_a_scene_is_found_again_from_another_view(tmp_path: Path) -> None:
    pairs = make_scenes(tmp_path, n_scenes=40, n_views=2)
    vectorizer = make_vectorizer("pocket")
    first, second = (
        unit_rows(vectorizer.transform(sorted(pairs.parent.glob(f"*_{view}.jpg"))))
        for view in (0, 1)
    )
    places = (first @ second.T).argsort(axis=1)[:, ::-1]
    found = (places[:, :2] == np.arange(40)[:, None]).any(axis=1).mean()
    assert found > 0.5  # 0.05 by chance


def test_a_bundle_names_it_and_holds_no_copy(
    images: list[Path], tmp_path: Path
) -> None:
    classifier = make_classifier("pocket", "cosine")
    bundle = save(tmp_path / "best.tllb", classifier)
    members = read_manifest(bundle)["members"]
    assert not any(name.startswith("network/") for name in members)
    pairs = list(zip(images[:4], images[4:8], strict=True))
    expected = classifier.predict_proba(pairs)
    found = load_bundle(bundle).predict_proba(pairs)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_bundle_of_other_weights_is_refused(
    images: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = save(tmp_path / "best.tllb", make_classifier("pocket", "cosine"))
    monkeypatch.setattr(pocket, "SHA256", "0" * 64)
    with refused("fingerprint is not what the bundle says"):
        load_bundle(bundle).predict_proba([images[:2]])


def test_it_stands_beside_classic_where_nothing_is_named(
    run: Run, tmp_path: Path
) -> None:
    assert DEFAULT_VECTORIZERS == ("classic", "pocket")
    assert PairClassifier().vectorizer == "pocket"
    pairs = make_scenes(tmp_path / "images", n_scenes=40, n_views=2)
    store = ("--store", tmp_path / "store")
    done = run("vectorize", pairs.parent, *store)
    assert done.returncode == 0, done.stderr
    told = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert told == list(DEFAULT_VECTORIZERS)
    done = run(
        *("grid", pairs, "--images", pairs.parent, "-c", "cosine", "--no-report"),
        *("--out", tmp_path / "out", *store),
    )
    assert done.returncode == 0, done.stderr
    for name in DEFAULT_VECTORIZERS:
        assert f"{name}: 0 vectors computed, 80 reused" in done.stderr
        assert re.search(rf"(?m)^ {name} +", done.stdout)


def test_the_list_says_that_its_weights_are_here(run: Run) -> None:
    n_dims = make_vectorizer("pocket").n_dims
    for kind in ("vectorizers", "networks"):
        listed = run("list", kind, "--json").json[kind]
        (row,) = [one for one in listed if one["name"] == "pocket"]
        assert (row["n_dims"], row["weights"]) == (n_dims, "built in")


def test_the_card_names_the_weights_that_are_here() -> None:
    card = (ROOT / "docs" / "pocket.md").read_text(encoding="utf-8")
    assert f"`{pocket.SHA256}`" in card
    assert "Apache-2.0" in card
    assert f"{make_vectorizer('pocket').n_dims} numbers" in card
    height, width = pocket.PocketVectorizer().preprocessing.size
    assert f"{height} × {width}" in card
