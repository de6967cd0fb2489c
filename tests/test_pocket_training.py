"""Training the pocket network: images by formula, slices, the file that comes out."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "pocket"


@pytest.fixture
def pocket(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return what imports a module of the folder, whose names are common ones."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    cache = tmp_path_factory.mktemp("bank")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        images = importlib.import_module("images")
        made = images.make_bank(24, seed=3, size=32, cache=cache, n_workers=1)
    return np.array(made[0]), made[1]


def test_the_same_seed_gives_the_same_images(
    pocket: ModuleType, tmp_path: Path, bank: tuple[np.ndarray, np.ndarray]
) -> None:
    make_bank = pocket.import_module("images").make_bank
    for seed, is_same in ((3, True), (4, False)):
        cache = tmp_path / str(seed)
        again, _ = make_bank(24, seed=seed, size=32, cache=cache, n_workers=1)
        assert (again == bank[0]).all() == is_same


def test_every_family_makes_images_that_are_not_blank(
    pocket: ModuleType,
) -> None:
    images = pocket.import_module("images")
    for family, name in enumerate(images.FAMILIES):
        scenes = np.stack([images._scene((0, i, family, 32)) for i in range(6)])
        assert scenes.shape == (6, 2, 32, 32, 3)
        assert np.median(scenes.std(axis=(2, 3)).max(axis=-1)) > 4, name


def test_views_of_an_image_differ_and_stay_in_range(
    pocket: ModuleType, bank: tuple[np.ndarray, np.ndarray]
) -> None:
    torch = pytest.importorskip("torch")
    augment = pocket.import_module("augment")
    images = torch.from_numpy(bank[0][:, 0]).movedim(-1, 1).float() / 255
    rng, strength = torch.Generator().manual_seed(0), augment.Strength()
    things = [
        augment.instance_views(images, images, 24, strength, rng) for _ in range(2)
    ]
    looks = augment.look_views(images, 24, strength, rng)
    for views in (*things, looks):
        assert views.shape == (24, 3, 24, 24)
        assert 0 <= float(views.min()) <= float(views.max()) <= 1
    assert (things[0] - things[1]).abs().mean() > 0.05


def test_onnx_runtime_gives_the_vectors_of_torch(
    pocket: ModuleType, tmp_path: Path, bank: tuple[np.ndarray, np.ndarray]
) -> None:
    torch = pytest.importorskip("torch")
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    whiten, export = (pocket.import_module(one) for one in ("whiten", "export"))
    net = pocket.import_module("net").PocketNet(widths=(4, 8, 8, 16), n_dims=8).eval()
    layout = whiten.whitening(net, bank[0], 64)
    file = tmp_path / "net.onnx"
    export.write_onnx(net, layout, file, size=64)
    pixels = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (vectors,) = session.run(["output"], {"pixels": pixels})
    with torch.no_grad():
        instance, _ = net(torch.from_numpy(pixels))
        parts = whiten.parts(net.body(torch.from_numpy(pixels)))
        looks = torch.nn.functional.normalize(parts @ layout[0].T + layout[1])
        looks *= export.LAYOUT_LENGTH
        wanted = torch.cat([instance, looks], dim=1).numpy()
    np.testing.assert_allclose(vectors, wanted, atol=1e-2)


def test_a_training_in_slices_ends_where_one_at_once_does(
    pocket: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    for library in ("torch", "tqdm", "onnx"):
        pytest.importorskip(library)
    module = pocket.import_module("train")
    small = partial(module.PocketNet, widths=(4, 8, 8, 16), n_dims=8)
    monkeypatch.setattr(module, "PocketNet", small)

    def train(out: str, *more: str) -> str:
        size = ("--steps=2", "--scenes=8", "--things=4", "--looks=4")
        told = (f"--out={tmp_path / out}", f"--cache={tmp_path}", *size, *more)
        monkeypatch.setattr("sys.argv", ["train.py", *told])
        capsys.readouterr()
        module.main()
        return capsys.readouterr().out

    whole = train("a.onnx").split("sha256 ")[1]
    first = train("b.onnx", "--minutes=0")
    assert "2 steps to go: --resume" in first
    assert train("b.onnx", "--resume").split("sha256 ")[1] == whole
