"""Vectors from timm networks, built from local weights; nothing is downloaded."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tllboost.errors import UnknownNameError, UsageError, WeightsError
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizers.timm import (
    TimmVectorizer,
    catalogue_name,
    create,
    data_config,
)
from tllboost.vectorizers.weights import fetch

SMALL = "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small network, with its classifier, as PyTorch saves them."""
    import timm
    import torch

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(timm.create_model(SMALL, pretrained=False).state_dict(), file)
    return file


def noise(n_images: int, size: tuple[int, int] = (60, 50)) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        for _ in range(n_images)
    ]


@pytest.mark.parametrize("arch", ["levit_128s", "efficientvit_m0", "repvit_m0_9"])
def test_a_classifier_of_several_layers_is_left_out_of_a_local_file(
    arch: str, tmp_path: Path
) -> None:
    import timm
    import torch

    whole = timm.create_model(arch, pretrained=False)
    torch.save(whole.state_dict(), tmp_path / "net.pth")
    network = make_vectorizer(f"timm:{arch}@{tmp_path / 'net.pth'}").network
    whole.reset_classifier(0)
    expected, found = whole.state_dict(), network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_vectors_are_those_of_timm_itself(small: Path) -> None:
    import timm
    import torch

    network = timm.create_model(SMALL, pretrained=False)
    network.load_state_dict(torch.load(small, weights_only=True))
    network.reset_classifier(0)
    config = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**config, is_training=False)
    images = noise(3, (300, 217))
    with torch.inference_mode():
        expected = network.eval()(torch.stack([transform(one) for one in images]))
    vectors = make_vectorizer(f"timm:{SMALL}@{small}").transform(images)
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("size", [(200, 245), (245, 200), (97, 511), (256, 256)])
@pytest.mark.parametrize("arch", [SMALL, "resnet50", "inception_v3"])
def test_pixels_are_those_of_timm_itself(arch: str, size: tuple[int, int]) -> None:
    import timm

    transform = timm.data.create_transform(**data_config(arch), is_training=False)
    (image,) = noise(1, size)
    prepared = TimmVectorizer(arch).prepare(image)
    np.testing.assert_allclose(prepared, transform(image).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "n_dims", "side"),
    [
        ("vgg16", 4096, 224),
        ("vgg19", 4096, 224),
        ("resnet50", 2048, 224),
        ("inception_v3", 2048, 299),
        ("xception", 2048, 299),
    ],
)
def test_the_five_networks_of_the_holidays_experiments_work_by_name(
    arch: str, n_dims: int, side: int
) -> None:
    import torch

    with torch.device("meta"):  # shapes alone: VGG's weights are half a gigabyte
        network = create(catalogue_name(arch)).eval()
        vectors = network(torch.empty(2, 3, side, side))
    assert vectors.shape == (2, n_dims)
    assert data_config(catalogue_name(arch))["input_size"] == (3, side, side)


def test_xception_is_built_from_a_local_file(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    state = timm.create_model("legacy_xception", pretrained=False).state_dict()
    save_file(state, tmp_path / "xception.safetensors")
    vectorizer = make_vectorizer(f"timm:xception@{tmp_path / 'xception.safetensors'}")
    assert vectorizer.transform(noise(1)).shape == (1, 2048)


def test_other_spellings_of_a_weights_file_load(small: Path, tmp_path: Path) -> None:
    import torch

    state = torch.load(small, weights_only=True)
    kept = {k: v for k, v in state.items() if not k.startswith("classifier.")}
    spellings: dict[str, dict[str, Any]] = {
        "without_classifier": kept,
        "wrapped": {"state_dict": state, "epoch": 3},
        "parallel": {f"module.{name}": value for name, value in state.items()},
        "no_counters": {k: v for k, v in state.items() if "num_batches" not in k},
        "half": {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
    }
    expected = make_vectorizer(f"timm:{SMALL}@{small}").transform(noise(2))
    for name, spelled in spellings.items():
        torch.save(spelled, tmp_path / f"{name}.pt")
        vectorizer = make_vectorizer(f"timm:{SMALL}@{tmp_path / name}.pt")
        np.testing.assert_allclose(
            vectorizer.transform(noise(2)), expected, atol=0.02, err_msg=name
        )


def test_sizes_and_lengths_are_options(small: Path) -> None:
    plain = make_vectorizer(f"timm:{SMALL}@{small}")
    other = make_vectorizer(f"timm:{SMALL}@{small}?size=96")
    unit = make_vectorizer(f"timm:{SMALL}@{small}?normalize=true")
    assert other.transform(noise(2)).shape == (2, plain.n_dims)
    np.testing.assert_allclose(
        np.linalg.norm(unit.transform(noise(2)), axis=1), 1, rtol=1e-6
    )
    assert len({one.fingerprint for one in (plain, other, unit)}) == 3


def test_one_network_serves_many_batches_alike(small: Path) -> None:
    vectorizer = make_vectorizer(f"timm:{SMALL}@{small}")
    images = noise(5)
    np.testing.assert_allclose(
        vectorizer.transform(images, batch_size=2),
        vectorizer.transform(images),
        atol=1e-5,
    )


def test_weights_of_another_network_are_refused(small: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"can't be loaded into this network: Missing key"
    ) as error:
        make_vectorizer(f"timm:resnet18@{small}").n_dims  # noqa: B018
    assert "\n" not in str(error.value)


class Surprise:
    """Anything that is not a tensor: unpickling it could run code."""


def test_files_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    import torch

    torch.save(Surprise(), tmp_path / "pickle.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "torn.safetensors").write_bytes(b"\x99" * 20)
    (tmp_path / "text.pth").write_text("not weights")
    for name in ("pickle.pth", "list.pth", "torn.safetensors", "text.pth"):
        with pytest.raises(WeightsError, match=name.replace(".", r"\.")) as caught:
            make_vectorizer(f"timm:{SMALL}@{tmp_path / name}").n_dims  # noqa: B018
        assert "\n" not in str(caught.value)


def test_unknown_networks_and_tags_are_answered_with_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="'resnet5': did you mean 'resnet50'"):
        make_vectorizer("timm:resnet5").fingerprint  # noqa: B018
    with pytest.raises(UnknownNameError, match=r"unknown tag 'foo'.*tv_in1k"):
        make_vectorizer("timm:resnet50.foo").fingerprint  # noqa: B018
    assert catalogue_name("resnet50.tv_in1k") == "resnet50.tv_in1k"


def test_offline_never_asks_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", "unused")
    hub = "https://huggingface.co/timm/regnety_002.pycls_in1k/resolve/main"
    by_hand = {
        "timm:regnety_002": f"{hub}/model.safetensors",
        "timm:xception": r"https?://\S+/xception-\w+\.pth",
    }
    for name, file in by_hand.items():
        told = f"offline; download {file} on .* any folder here, .*: {name}@FILE$"
        with pytest.raises(WeightsError, match=told):
            make_vectorizer(name, offline=True).fingerprint  # noqa: B018
        monkeypatch.setenv("TLLBOOST_OFFLINE", "1")
        with pytest.raises(WeightsError, match="offline"):
            make_vectorizer(name).fingerprint  # noqa: B018
        monkeypatch.delenv("TLLBOOST_OFFLINE")


def test_an_unreachable_hub_fails_at_once_and_says_what_to_do() -> None:
    def download() -> str:
        time.sleep(60)
        return ""

    start = time.monotonic()
    with pytest.raises(WeightsError, match="timm:x: weights can't be downloaded"):
        fetch(
            None,
            download,
            url="http://127.0.0.1:9",
            what="timm:x",
            offline=False,
        )
    assert time.monotonic() - start < 20


def test_devices_that_are_not_there_are_refused(small: Path) -> None:
    with pytest.raises(UsageError, match="unknown device 'tpu': give auto, cpu"):
        make_vectorizer(f"timm:{SMALL}@{small}", device="tpu").n_dims  # noqa: B018


@pytest.mark.shared
def test_timm_and_onnx_agree_on_the_same_weights(shared: Path, tll: Path) -> None:
    weights = shared / "weights"
    paths = sorted((tll / "right").iterdir())[:16]
    by_timm = make_vectorizer(
        f"timm:mobilenetv2_100@{weights / 'mobilenetv2_100.safetensors'}"
    )
    by_onnx = make_vectorizer(f"onnx:{weights / 'mobilenetv2.onnx'}")
    np.testing.assert_allclose(
        by_timm.transform(paths), by_onnx.transform(paths), atol=1e-4
    )
    assert by_timm.fingerprint != by_onnx.fingerprint
