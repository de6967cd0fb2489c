"""The networks that `list networks` names: their table, their pixels, their vectors.

Nothing is downloaded: they are built by name with random weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_image
from makers import noise

from tllboost.vectorizers import NETWORKS, make_vectorizer
from tllboost.vectorizers.torch import disagreement
from tllboost.vectorizing import vectorize

FAMILIES = {
    "timm:mobilenetv4_conv_small": "?size=64",
    "timm:convnext_nano.in12k": "?size=64",
    "timm:vit_small_patch14_dinov2": "?size=56",
    "timm:vit_small_patch16_dinov3": "?size=64",
    "timm:vit_base_patch16_siglip_224": "?size=64",
    "clip:MobileCLIP2-S0:dfndr2b": "",
    "clip:RN50:openai": "",
    "clip:ViT-B-32:openai": "",
}
"""The smallest network of each family, and what makes a test of it quick."""
FEW: dict[str, dict[str, Any]] = {
    "vit": {"depth": 1},
    "convnext": {"depths": (1, 1, 1, 1)},
    "fastvit": {"layers": (1, 1, 1, 1)},
}
"""Arguments of timm's networks: one block in each stage."""


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Save random weights of a network that has one block a stage; name the network.

    Every kind of layer is there, and the first and the last are as wide as ever.
    """
    import open_clip
    import timm
    import torch

    create = timm.create_model

    def with_one_block(name: str, **options: Any) -> Any:
        return create(
            name, **{"depth": 1} if name.startswith("vit_") else {}, **options
        )

    def save(name: str) -> str:
        torch.manual_seed(0)
        kind, arch, *_ = name.split(":")
        file = tmp_path / "random.pth"
        if kind == "timm":
            made = timm.create_model(arch, pretrained=False)
        else:
            config = open_clip.get_model_config(arch)
            vision = config["vision_cfg"]
            if "layers" in vision:
                vision["layers"] = [1] * 4 if arch.startswith("RN") else 1
            vision["image_size"] = 64
            text = {"vocab_size": 9, "context_length": 4, "width": 8, "heads": 1}
            config["text_cfg"] = text | {"layers": 1}
            arch = f"tllboost-test-{arch}"
            (tmp_path / f"{arch}.json").write_text(json.dumps(config))
            open_clip.add_model_config(tmp_path / f"{arch}.json")
            made = open_clip.create_model(arch, load_weights=False)
        torch.save(made.state_dict(), file)
        return f"{kind}:{arch}@{file}"

    monkeypatch.setattr(timm, "create_model", with_one_block)
    return save


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_of_each_family_is_built_and_exported(
    name: str, shallow: Any, tmp_path: Path
) -> None:
    spec = shallow(name) + FAMILIES[name]
    paths = [write_image(tmp_path / f"{seed}.png", seed=seed) for seed in range(3)]
    vectorizer: Any = make_vectorizer(spec, device="cpu")
    expected = vectorizer.transform(paths)
    found = vectorize(vectorizer, paths, store=tmp_path / "store").vectors
    assert vectorizer._exported is not None
    assert found.shape == (3, NETWORKS[name]["n_dims"])
    assert found.std(axis=0).max() > 0
    assert disagreement(expected, found) < 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_a_listed_network_is_what_its_library_says(name: str) -> None:
    import open_clip
    import timm
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2

    told, (kind, arch, *tag) = NETWORKS[name], name.split(":")
    if kind == "timm":
        with torch.device("meta"):  # shapes alone: some take a gigabyte
            network = timm.create_model(arch, pretrained=False, num_classes=0)
        known = timm.get_pretrained_cfg(arch)
        assert told["licence"] == known.license
        repository, width = known.hf_hub_id, network.head_hidden_size
        config = timm.data.resolve_model_data_config(network)
        transform = timm.data.create_transform(**config, is_training=False)
    else:
        config = open_clip.get_model_config(arch)
        width, vision = config["embed_dim"], config["vision_cfg"]
        with torch.device("meta"):
            network = open_clip.model._build_vision_tower(
                width, open_clip.CLIPVisionCfg(**vision)
            )
        known = open_clip.get_pretrained_cfg(arch, tag[0])
        repository = known["hf_hub"].strip("/")
        keys = "mean", "std", "interpolation", "resize_mode"
        own = {key: known[key] for key in keys}
        config = PreprocessCfg(size=vision["image_size"], **own)
        transform = image_transform_v2(config, is_train=False)
    millions = sum(one.numel() for one in network.parameters()) / 1e6
    assert told["repository"] == repository
    assert (told["n_dims"], told["millions"]) == (width, round(millions, 1))
    image = noise(0, (97, 311))
    prepared: Any = make_vectorizer(name).prepare(image)
    assert prepared.shape == (3, told["side"], told["side"])
    np.testing.assert_allclose(prepared, transform(image).numpy(), atol=1e-5)
