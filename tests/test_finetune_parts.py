"""What fine-tuning is made of: augmentation, the halves of a network, the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tuning import ARCH, random_network

from tllboost.errors import UsageError
from tllboost.finetune import Augmentation, FineTuneSettings, images
from tllboost.finetune.images import Maps
from tllboost.finetune.network import cut, stage_names
from tllboost.finetune.train import are_alike
from tllboost.projections.losses import info_nce
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizers import torch as torch_network_module
from tllboost.vectorizers.torch import disagreement

# --- augmentation


def noise(seed: int = 0, size: tuple[int, int] = (40, 52)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))


def test_no_augmentation_leaves_an_image_as_it_is() -> None:
    nothing = Augmentation(rotation=0, shift=0, zoom=0, flip=False, colour=0)
    same = nothing(noise(), np.random.default_rng(0))
    np.testing.assert_array_equal(np.asarray(same), np.asarray(noise()))


def test_flip_alone_gives_the_image_or_its_mirror_image() -> None:
    flip = Augmentation(rotation=0, shift=0, zoom=0, colour=0)
    pixels = np.asarray(noise())
    found = {
        np.asarray(flip(noise(), np.random.default_rng(seed))).tobytes()
        for seed in range(12)
    }
    assert found == {pixels.tobytes(), pixels[:, ::-1].tobytes()}


@pytest.mark.parametrize("size", [(40, 52), (200, 20), (1, 1)])
def test_no_corner_is_left_empty(size: tuple[int, int]) -> None:
    white = Image.new("RGB", size[::-1], "white")
    for seed in range(8):
        moved = Augmentation(rotation=60, colour=0)(white, np.random.default_rng(seed))
        assert np.asarray(moved).min() == 255
        assert moved.size == white.size


def test_same_draws_same_image() -> None:
    first, again, other = (
        np.asarray(Augmentation()(noise(), np.random.default_rng(seed)))
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Augmentation, {"rotation": 90}),
        (Augmentation, {"zoom": -0.1}),
        (FineTuneSettings, {"n_stages": 0}),
        (FineTuneSettings, {"batch_size": 1}),
        (FineTuneSettings, {"learning_rate": 0.0}),
        (FineTuneSettings, {"n_views": -1}),
    ],
)
def test_settings_out_of_range_are_refused(kind: Any, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=name):
        kind(**wrong)


# --- stages


@pytest.mark.parametrize("n_stages", [1, 2])
@pytest.mark.parametrize(
    "arch", [ARCH, "test_resnet", "test_vit", "test_convnext", "test_byobnet"]
)
def test_a_network_is_its_two_halves(arch: str, n_stages: int) -> None:
    import timm

    network = timm.create_model(arch, pretrained=False, num_classes=0)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    halves = cut(network, n_stages, what=arch, size=(160, 160))
    pixels = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        vectors = halves.tail(halves.head(pixels))
        expected = network(pixels)
    torch.testing.assert_close(vectors, expected, rtol=1e-3, atol=1e-4)
    assert halves.first == stage_names(network)[-n_stages]
    assert 0 < len(halves.trained) < len(list(network.parameters()))
    for name, one in network.state_dict().items():
        assert torch.equal(one, before[name]), name


@pytest.mark.parametrize(
    ("arch", "size"), [(ARCH, 64), ("mobilenetv2_100", 64), ("test_vit", 160)]
)
def test_maps_by_onnx_runtime_are_those_of_torch(
    arch: str, size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = random_network(tmp_path / "net.safetensors", arch)
    base = make_vectorizer(f"timm:{arch}@{file}?size={size}", device="cpu")
    halves = cut(base.network, 1, what=arch, size=(size, size))  # type: ignore[attr-defined]
    pixels = list(np.random.default_rng(1).random((5, 3, size, size), np.float32))
    found = {}
    for few in (0, 2):
        monkeypatch.setattr(images, "_FEW", few)
        maps = Maps(halves, base, ["one"], Augmentation(), 0, n_workers=2)
        assert (maps._by_onnx is None) == (few == 2)
        found[few] = maps._run(pixels).numpy()
        assert maps.shape() == found[few].shape[1:]
    assert disagreement(found[2], found[0]) < 1e-4
    # One that comes out otherwise is left to torch: no two agree to the last digit.
    monkeypatch.setattr(images, "_FEW", 0)
    monkeypatch.setattr(torch_network_module, "_TOLERANCE", 0)
    maps = Maps(halves, base, ["one"], Augmentation(), 0, n_workers=2)
    np.testing.assert_array_equal(maps._run(pixels).numpy(), found[2])
    assert maps._by_onnx is None


def test_mobilenet_trains_its_last_stages_with_what_follows_them() -> None:
    import timm

    network = timm.create_model("mobilenetv2_100", pretrained=False, num_classes=0)
    halves = cut(network, 2, what="it", size=(64, 64))
    assert halves.first == "blocks.5"
    parts = {".".join(name.split(".")[:2]) for name in halves.trained}
    assert {"blocks.5", "blocks.6", "conv_head.weight"} <= parts
    assert "blocks.4" not in parts


def test_networks_without_stages_are_refused() -> None:
    import timm

    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten())
    with pytest.raises(UsageError, match="a Sequential has no known stages"):
        cut(plain, 1, what="it", size=(8, 8))
    small = timm.create_model(ARCH, pretrained=False, num_classes=0)
    with pytest.raises(UsageError, match="between 1 and 4"):
        cut(small, 5, what="it", size=(64, 64))


def test_a_network_that_is_no_chain_of_its_stages_is_refused() -> None:

    class Doubled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = torch.nn.ModuleList([torch.nn.Linear(3, 3) for _ in range(3)])

        def forward(self, pixels: Any) -> Any:
            first = self.blocks[0](pixels.mean(dim=(2, 3)))
            return self.blocks[2](self.blocks[1](first)) + first

    with pytest.raises(UsageError, match=r"can't be cut before 'blocks\.2'"):
        cut(Doubled(), 1, what="it", size=(8, 8))


# --- loss


def test_info_nce_takes_no_match_of_the_same_component_for_a_non_match() -> None:

    left = torch.eye(3)
    right = torch.eye(3)
    right[1] = right[0]  # the second match looks like the first
    apart = info_nce(left, right, torch.tensor([0, 1, 2]), 0.1)
    tied = info_nce(left, right, torch.tensor([0, 0, 2]), 0.1)
    assert tied < apart
    assert info_nce(left, left, torch.tensor([0, 1, 2]), 0.1) < 1e-3


def test_nan_vectors_count_as_all_alike() -> None:
    assert are_alike(np.full((3, 2), np.nan, np.float32))
