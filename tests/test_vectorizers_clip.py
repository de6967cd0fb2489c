"""The open_clip path, with a small random network of our own saved to files."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tllboost.errors import UnknownNameError, UsageError, WeightsError
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizers.clip import ClipVectorizer, recipe_of

ARCH = "tllboost-test-tiny"
TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {
        "context_length": 8,
        "vocab_size": 50,
        "width": 32,
        "heads": 2,
        "layers": 1,
    },
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Register a small architecture and save random weights of it."""
    import open_clip
    import torch

    folder = tmp_path_factory.mktemp("clip")
    (folder / f"{ARCH}.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / f"{ARCH}.json")
    torch.manual_seed(0)
    file = folder / "tiny.pt"
    torch.save(open_clip.create_model(ARCH, load_weights=False).state_dict(), file)
    return file


@pytest.fixture
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
        for _ in range(3)
    ]


def test_vectors_are_those_of_open_clip_itself(
    tiny: Path, images: list[Image.Image]
) -> None:
    import open_clip
    import torch

    model, _, transform = open_clip.create_model_and_transforms(
        ARCH, pretrained=str(tiny)
    )
    batch = torch.stack([transform(one) for one in images])
    with torch.inference_mode():
        expected = model.eval().encode_image(batch).numpy()
    raw = make_vectorizer(f"clip:{ARCH}@{tiny}?normalize=false")
    unit = make_vectorizer(f"clip:{ARCH}@{tiny}")
    np.testing.assert_allclose(raw.transform(images), expected, atol=1e-4)
    np.testing.assert_allclose(
        unit.transform(images),
        expected / np.linalg.norm(expected, axis=1, keepdims=True),
        atol=1e-5,
    )
    assert raw.n_dims == 24
    assert raw.fingerprint != unit.fingerprint


def test_openai_torchscript_files_load(
    tiny: Path, tmp_path: Path, images: list[Image.Image]
) -> None:
    import warnings

    import open_clip

    model = open_clip.create_model(ARCH, pretrained=str(tiny)).eval()
    file = tmp_path / "scripted.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch

        torch.jit.script(model).save(file)
    np.testing.assert_allclose(
        make_vectorizer(f"clip:{ARCH}@{file}").transform(images),
        make_vectorizer(f"clip:{ARCH}@{tiny}").transform(images),
        atol=1e-6,
    )


def test_local_weights_are_preprocessed_as_their_tag_says() -> None:
    from open_clip.constants import OPENAI_DATASET_MEAN

    by_tag = ClipVectorizer("ViT-B-32", "openai").preprocessing
    local = ClipVectorizer("ViT-B-32", "openai", "mine.pt").preprocessing
    siglip = ClipVectorizer("ViT-B-16-SigLIP", file="mine.pt").preprocessing
    assert local == by_tag
    assert by_tag.mean == tuple(OPENAI_DATASET_MEAN)
    assert (by_tag.fit, by_tag.crop_pct) == ("crop", 1.0)
    assert siglip.mean == (0.5, 0.5, 0.5)
    assert siglip.fit == "squash"


@pytest.mark.parametrize("size", [(200, 245), (245, 200), (97, 511)])
@pytest.mark.parametrize(
    ("arch", "tag"), [("RN50x4", "openai"), ("ViT-B-16-SigLIP", "webli")]
)
def test_pixels_are_those_of_open_clip_itself(
    arch: str, tag: str, size: tuple[int, int]
) -> None:
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config = open_clip.get_pretrained_cfg(arch, tag)
    keys = ("mean", "std", "interpolation", "resize_mode")
    side = open_clip.get_model_config(arch)["vision_cfg"]["image_size"]
    transform = image_transform_v2(
        PreprocessCfg(size=side, **{key: config[key] for key in keys}), is_train=False
    )
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    np.testing.assert_allclose(
        ClipVectorizer(arch, tag).prepare(image),
        transform(image).numpy(),
        atol=1e-5,
    )


def test_the_openai_activation_is_forced() -> None:
    assert recipe_of("RN50x4", "openai").quick_gelu
    assert recipe_of("ViT-B-32", "openai").quick_gelu
    assert not recipe_of("ViT-B-32", "laion2b_s34b_b79k").quick_gelu
    assert recipe_of("ViT-B-32-quickgelu", "laion400m_e32").quick_gelu


def test_a_file_without_tag_is_refused_where_tags_disagree() -> None:
    assert recipe_of("RN50x4", None) == recipe_of("RN50x4", "openai")
    with pytest.raises(UsageError, match=r"clip:ViT-B-32:TAG@FILE.*openai"):
        make_vectorizer("clip:ViT-B-32@mine.pt").prepare(Image.new("RGB", (9, 9)))


def test_unknown_networks_and_tags_are_answered_with_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="'RN50x5': did you mean 'RN50x4'"):
        make_vectorizer("clip:RN50x5:openai").fingerprint  # noqa: B018
    with pytest.raises(UnknownNameError, match="did you mean 'openai'"):
        make_vectorizer("clip:RN50x4:opnai").fingerprint  # noqa: B018


def test_weights_of_another_network_are_refused(tiny: Path, tmp_path: Path) -> None:
    import torch

    other = {"visual.conv1.weight": torch.zeros(3)}
    torch.save(other, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="be loaded into this network") as caught:
        make_vectorizer(f"clip:{ARCH}@{tmp_path / 'other.pt'}").n_dims  # noqa: B018
    assert "\n" not in str(caught.value)


def test_offline_never_asks_the_network() -> None:
    for name in ("clip:RN50x4:openai", "clip:RN50:yfcc15m"):
        with pytest.raises(WeightsError, match=f"offline; .*{name}@FILE"):
            make_vectorizer(name, offline=True).fingerprint  # noqa: B018


def test_neither_tag_nor_file_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown weights ''.*known: openai"):
        ClipVectorizer("RN50", offline=True).weights_file  # noqa: B018


def test_loading_leaves_logging_as_it_was(tiny: Path) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    make_vectorizer(f"clip:{ARCH}@{tiny}").n_dims  # noqa: B018
    assert (root.level, list(root.handlers)) == before
