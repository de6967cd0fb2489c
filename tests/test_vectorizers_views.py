"""Trimmed, mirrored, in several views, square by square: for every kind alike."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from makers import noise
from PIL import Image, ImageOps

from tllboost.bundle import read_manifest, save_bundle
from tllboost.classifier import PairClassifier, load_bundle
from tllboost.errors import UsageError
from tllboost.merges import unit_rows
from tllboost.vectorizers import Vectorizer, make_vectorizer
from tllboost.vectorizers.network import grid_means
from tllboost.vectorizers.preprocess import VIEWS, Looks

OPTIONS = [
    "trim=true",
    "flip=true",
    "views=whole,centre,grey",
    "views=grey",
    "views=grey,whole",
    "trim=true&flip=true&views=whole,centre",
]
KINDS = ["classic", "pocket", "onnx", "onnx cells", "timm", "timm-grid", "clip"]
KINDS += ["clip-grid"]
NETWORKS = [kind for kind in KINDS if kind != "classic"]
ARCH = "tllboost-test-views"
SMALL = "mobilenetv3_small_050"


class Files(NamedTuple):
    """Small networks of random weights."""

    onnx: Path
    timm: Path
    clip: Path

    def spec(self, kind: str, options: str = "") -> str:
        """Return the spelling of a vectorizer with options."""
        kind, _, cells = kind.partition(" ")
        named = {
            "classic": "classic",
            "pocket": "pocket",
            "onnx": f"onnx:{self.onnx}",
            "timm": f"timm:{SMALL}@{self.timm}",
            "timm-grid": f"timm-grid:{SMALL}@{self.timm}",
            "clip": f"clip:{ARCH}@{self.clip}",
            "clip-grid": f"clip-grid:{ARCH}@{self.clip}",
        }[kind]
        size = "size=64" if kind.startswith("timm") else ""
        several = "&".join(filter(None, [size, cells and "cells=2", options]))
        return f"{named}?{several}" if several else named

    def make(self, kind: str, options: str = "") -> Vectorizer:
        """Return a vectorizer with options."""
        return make_vectorizer(self.spec(kind, options))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """One network a library, none of which pools what it sees to nothing."""
    import open_clip
    import timm
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("views")
    torch.manual_seed(0)
    network = timm.create_model(SMALL, pretrained=False, num_classes=0)
    save_file(network.state_dict(), folder / "small.safetensors")
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}
    text = {
        "context_length": 8,
        "vocab_size": 50,
        "width": 32,
        "heads": 2,
        "layers": 1,
    }
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    (folder / f"{ARCH}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{ARCH}.json")
    model = open_clip.create_model(ARCH, load_weights=False)
    save_file(model.state_dict(), folder / "tiny.safetensors")
    return Files(
        write_convolution(folder / "net.onnx"),
        folder / "small.safetensors",
        folder / "tiny.safetensors",
    )


def write_convolution(path: Path, *, pool: bool = False) -> Path:
    """Write a network of one random convolution, its output a map or its mean."""
    from onnx import TensorProto, helper, numpy_helper, save

    weights = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["images", "w"], ["c"], strides=[4, 4])]
    nodes += [helper.make_node("Relu", ["c"], ["map"])]
    if pool:
        nodes += [helper.make_node("GlobalAveragePool", ["map"], ["mean"])]
        nodes += [helper.make_node("Flatten", ["mean"], ["vectors"])]
    output = "vectors" if pool else "map"
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", 1, ("n", 3, 32, 32))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = helper.make_opsetid("", 13)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=8), str(path))
    return path


IMAGES = [noise(seed) for seed in range(3)]


@pytest.mark.parametrize("kind", KINDS)
def test_flip_makes_an_image_and_its_mirror_image_the_same(
    files: Files, kind: str
) -> None:
    mirrored = [ImageOps.mirror(one) for one in IMAGES]
    flip, plain = files.make(kind, "flip=true"), files.make(kind)
    np.testing.assert_allclose(
        flip.transform(IMAGES), flip.transform(mirrored), atol=1e-5
    )
    assert np.abs(plain.transform(IMAGES) - plain.transform(mirrored)).max() > 1e-3


@pytest.mark.parametrize("kind", ["onnx", "timm"])
def test_flip_is_the_mean_of_both_sides(files: Files, kind: str) -> None:
    mirrored = [ImageOps.mirror(one) for one in IMAGES]
    plain = files.make(kind)
    expected = (plain.transform(IMAGES) + plain.transform(mirrored)) / 2
    flip = files.make(kind, "flip=true").transform(IMAGES)
    np.testing.assert_allclose(flip, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_views_stand_side_by_side_each_at_length_one(files: Files, kind: str) -> None:
    names = ("grey", "whole", "centre")
    views = files.make(kind, f"views={','.join(names)}&flip=true")
    alone = [files.make(kind, f"views={one}&flip=true") for one in names]
    expected = np.hstack([unit_rows(one.transform(IMAGES)) for one in alone])
    if getattr(views, "normalize", False):
        expected = unit_rows(expected)
    found = views.transform(IMAGES, batch_size=2)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32
    assert views.n_dims == found.shape[1] == 3 * alone[0].n_dims


@pytest.mark.parametrize("kind", KINDS)
def test_the_grey_view_is_blind_to_colour_and_the_centre_to_borders(
    files: Files, kind: str
) -> None:
    grey, centre = files.make(kind, "views=grey"), files.make(kind, "views=centre")
    drained = [one.convert("L").convert("RGB") for one in IMAGES]
    np.testing.assert_array_equal(grey.transform(IMAGES), grey.transform(drained))
    assert (grey.transform(IMAGES) != files.make(kind).transform(IMAGES)).any()
    framed = [one.copy() for one in IMAGES]
    for one in framed:
        one.paste("red", (0, 0, 5, 47))
    assert (centre.transform(IMAGES) == centre.transform(framed)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_trimmed_letterbox_is_the_image_without_it(files: Files, kind: str) -> None:
    boxed = [ImageOps.expand(one, (0, 13, 7, 9), "black") for one in IMAGES]
    trim = files.make(kind, "trim=true")
    expected = files.make(kind).transform(IMAGES)
    np.testing.assert_array_equal(trim.transform(boxed), expected)
    np.testing.assert_array_equal(trim.transform(IMAGES), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_has_a_fingerprint_of_its_own_and_defaults_have_none(
    files: Files, kind: str
) -> None:
    plain = files.make(kind)
    changed = [files.make(kind, options) for options in OPTIONS]
    prints = [plain.fingerprint, *(one.fingerprint for one in changed)]
    assert len(set(prints)) == len(prints)
    for other in changed:
        assert "|looks1 " in other.fingerprint
        assert other.label != plain.label
    spelled = files.make(kind, "trim=false&flip=no&views=whole")
    assert "looks" not in plain.fingerprint
    assert (spelled.fingerprint, spelled.spec) == (plain.fingerprint, plain.spec)


@pytest.mark.parametrize("options", ["", *OPTIONS])
@pytest.mark.parametrize("kind", KINDS)
def test_a_spec_makes_the_same_vectorizer_again(
    files: Files, kind: str, options: str
) -> None:
    vectorizer = files.make(kind, options)
    again = make_vectorizer(vectorizer.spec)
    assert repr(again) == repr(vectorizer)
    assert again.spec == files.spec(kind, options)
    assert again.fingerprint == vectorizer.fingerprint


@pytest.mark.parametrize("kind", [*KINDS, "pixels"])
def test_a_bundle_scores_as_the_classifier_did(
    files: Files, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pairs, is_match = write_pairs(tmp_path)
    options = "trim=true&flip=true&views=whole,grey"
    spec = "pixels?size=8" if kind == "pixels" else files.spec(kind, options)
    classifier = PairClassifier(spec, merge="dot", head="cosine", device="cpu")
    classifier.fit(pairs, is_match)
    left, right = (make_vectorizer(spec).transform(side) for side in pairs[:4].T)
    bundle = tmp_path / "best.tllb"
    save_bundle(bundle, classifier, cell={}, metrics={}, golden=[(left, right)])
    loaded = load_bundle(bundle, device="cpu", offline=True)
    some = np.concatenate([pairs[:4], pairs[-4:]])  # matches, and others
    np.testing.assert_allclose(
        loaded.predict_proba(some), classifier.predict_proba(some), atol=1e-6
    )
    if kind != "pixels":
        (part,) = read_manifest(bundle)["vectorizers"]
        assert part["spec"].endswith(options)


def write_pairs(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write images and their dimmed copies in frames; pair them, and others."""
    pairs = []
    for seed in range(12):
        names = [str(folder / f"{seed}{side}.png") for side in ("left", "right")]
        image = noise(seed)
        image.save(names[0])
        dimmed = image.point(lambda value: value * 3 // 4)
        ImageOps.expand(dimmed, (0, 6), "black").save(names[1])
        pairs.append(names)
    others = [[one[0], two[1]] for one, two in itertools.pairwise(pairs)]
    is_match = np.repeat([1, 0], [len(pairs), len(others)])
    return np.array(pairs + others), is_match


def test_numbers_in_a_name_keep_all_their_digits(files: Files) -> None:
    mean = (0.48145466, 0.4578275, 1e-05)
    vectorizer = files.make("onnx", "mean=" + ",".join(map(repr, mean)))
    for spec in (vectorizer.spec, vectorizer.label.replace("onnx:net", "onnx:a.onnx")):
        assert make_vectorizer(spec).get_params()["mean"] == mean
    assert "mean=0,0.5,1" in files.make("onnx", "mean=0,.5,1").spec


def test_views_may_be_a_list_and_wrong_ones_are_refused(files: Files) -> None:
    from tllboost.vectorizers.classic import ClassicVectorizer

    by_name = files.make("classic", "views=whole,grey")
    listed = ClassicVectorizer(views=["whole", "grey"])  # type: ignore[arg-type]
    assert listed.fingerprint == by_name.fingerprint
    assert listed.spec == by_name.spec
    for wrong, message in [((), "name one or more"), (("top",), "whole, centre, grey")]:
        with pytest.raises(UsageError, match=message):
            ClassicVectorizer(views=wrong).fingerprint  # noqa: B018


def test_decoding_leaves_detail_for_what_is_cut_out() -> None:
    size = make_vectorizer("classic").input_size or 0
    sizes = {
        name: make_vectorizer(f"classic?{name}").input_size
        for name in ("flip=true", "views=whole,centre", "trim=true")
    }
    assert sizes["flip=true"] == size
    assert (sizes["views=whole,centre"] or 0) >= 2**0.5 * size
    assert sizes["trim=true"] == 2 * size


def test_the_centre_has_half_of_the_area_and_the_proportions() -> None:
    centre = VIEWS["centre"](Image.new("RGB", (400, 200)))
    assert centre.size == (283, 141)
    for size in ((1, 1), (1, 90), (2, 1)):
        assert min(VIEWS["centre"](Image.new("RGB", size)).size) == 1


def test_looks_say_nothing_of_an_image_as_it_is() -> None:
    assert str(Looks()) == ""
    assert Looks(trim=True).is_plain
    assert not Looks(flip=True).is_plain


@pytest.mark.parametrize("kind", ["timm-grid", "clip-grid", "onnx cells"])
def test_squares_are_at_length_one_and_tell_where_something_is(
    files: Files, kind: str
) -> None:
    grid = files.make(kind)
    plain = noise(0, (64, 64))
    marked = plain.copy()
    marked.paste("red", (44, 44, 64, 64))
    vectors = grid.transform([plain, marked]).reshape(2, 4, -1)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=2), 1, rtol=1e-5)
    change = np.linalg.norm(vectors[0] - vectors[1], axis=1)
    assert np.argmax(change) == 3
    assert grid.n_dims == vectors[0].size


def test_a_grid_of_one_square_is_the_mean_of_the_map(files: Files) -> None:
    one = make_vectorizer(f"onnx:{files.onnx}?cells=1").transform(IMAGES)
    plain = files.make("onnx").transform(IMAGES)
    np.testing.assert_allclose(one, unit_rows(plain), atol=1e-6)


def test_squares_of_a_vision_transformer_are_its_patches(files: Files) -> None:
    """Of open_clip's own tower, its patch tokens after the last normalisation."""
    import torch

    grid = make_vectorizer(f"clip-grid:{ARCH}@{files.clip}?cells=4")
    visual = grid.network.visual  # type: ignore[attr-defined]
    batch = np.stack([grid.prepare(one) for one in IMAGES])
    with torch.inference_mode():
        (maps,) = visual.forward_intermediates(
            torch.from_numpy(batch), indices=1, normalize_intermediates=True,
            intermediates_only=True, output_fmt="NCHW",
        )["image_intermediates"]  # fmt: skip
    expected = maps.permute(0, 2, 3, 1).reshape(3, 16, -1).numpy()
    expected /= np.linalg.norm(expected, axis=2, keepdims=True)
    np.testing.assert_allclose(
        grid.forward(batch), expected.reshape(3, -1), atol=1e-5
    )  # fmt: skip


def shapes_alone() -> str:
    """Return the device that computes no values, where networks can be built on it."""
    import torch

    major, minor = map(int, torch.__version__.split(".")[:2])
    return "meta" if (major, minor) >= (2, 6) else "cpu"


@pytest.mark.parametrize(
    ("arch", "shape"),
    [
        ("resnet18", (2, 512, 7, 7)),
        ("mobilenetv2_100", (2, 1280, 7, 7)),
        ("vit_tiny_patch16_224", (2, 192, 14, 14)),
        ("deit_tiny_distilled_patch16_224", (2, 192, 14, 14)),
        ("swin_tiny_patch4_window7_224", (2, 768, 7, 7)),
        ("mixer_s32_224", (2, 512, 7, 7)),
    ],
)
def test_networks_of_any_build_have_a_map(
    arch: str, shape: tuple[int, int, int, int]
) -> None:
    import torch

    from tllboost.vectorizers.timm import create
    from tllboost.vectorizers.torch import timm_maps

    with torch.device(shapes_alone()):
        maps = timm_maps(create(arch).eval(), what=arch)
        assert maps(torch.empty(2, 3, 224, 224)).shape == shape


@pytest.mark.parametrize(
    "arch", ["RN50", "ViT-B-32", "coca_ViT-B-32", "ViT-B-16-SigLIP"]
)
def test_image_towers_of_any_build_have_a_map(arch: str) -> None:
    import open_clip
    import torch

    from tllboost.vectorizers.clip import clip_maps

    config = open_clip.get_model_config(arch)
    with torch.device(shapes_alone()):
        tower = open_clip.model._build_vision_tower(
            config["embed_dim"], config["vision_cfg"]
        )
        maps = clip_maps(tower.eval(), what=arch)(torch.empty(2, 3, 224, 224))
    side = 14 if "16" in arch else 7
    assert maps.shape == (2, 2048 if arch == "RN50" else 768, side, side)


@pytest.mark.parametrize("kind", ["timm-grid", "clip-grid", "onnx"])
def test_more_squares_than_positions_are_refused(files: Files, kind: str) -> None:
    with pytest.raises(UsageError, match=r"cells=9, but its map has only .* choose"):
        files.make(kind, "cells=9").n_dims  # noqa: B018


def test_squares_of_an_output_that_is_no_map_are_refused(tmp_path: Path) -> None:
    file = write_convolution(tmp_path / "pooled.onnx", pool=True)
    message = r"output 'vectors' of shape \(1, 5\).*\?output=map$"
    with pytest.raises(UsageError, match=message):
        make_vectorizer(f"onnx:{file}?cells=2").n_dims  # noqa: B018


def test_tensors_inside_of_a_network_are_outputs_too(
    files: Files, tmp_path: Path
) -> None:
    file = write_convolution(tmp_path / "pooled.onnx", pool=True)
    inside = make_vectorizer(f"onnx:{file}?output=map&cells=2")
    np.testing.assert_array_equal(
        inside.transform(IMAGES), files.make("onnx cells").transform(IMAGES)
    )
    plain = make_vectorizer(f"onnx:{file}")
    assert plain.n_dims == 5
    assert inside.fingerprint != make_vectorizer(f"onnx:{file}?cells=2").fingerprint
    with pytest.raises(UsageError, match="no output 'mup'; it has: vectors"):
        make_vectorizer(f"onnx:{file}?output=mup").n_dims  # noqa: B018


def test_squares_of_odd_maps_share_the_line_between_them() -> None:
    maps = np.arange(9, dtype=np.float64).reshape(1, 1, 3, 3)
    assert grid_means(maps, 2, what="net").tolist() == [[2, 3, 5, 6]]
    assert grid_means(maps, 3, what="net").ravel().tolist() == list(range(9))


def test_local_and_global_vectors_stand_side_by_side_by_fusion(files: Files) -> None:
    whole, grid = files.make("timm"), files.make("timm-grid", "cells=2")
    both = make_vectorizer(f"{whole.spec}+{grid.spec}")
    parts = [unit_rows(one.transform(IMAGES)) for one in (whole, grid)]
    np.testing.assert_allclose(both.transform(IMAGES), np.hstack(parts), atol=1e-6)
    assert both.n_dims == whole.n_dims + grid.n_dims
    views = make_vectorizer(f"{files.spec('timm', 'flip=true')}+{grid.spec}+classic")
    prepared = np.stack([views.prepare(one) for one in IMAGES])
    np.testing.assert_allclose(
        views.forward(prepared), views.transform(IMAGES), atol=1e-5
    )


def test_pixels_are_the_squashed_image_channel_by_channel() -> None:
    pixels = make_vectorizer("pixels?size=4")
    image = Image.new("RGB", (50, 20), (255, 0, 51))
    (vector,) = pixels.transform([image])
    np.testing.assert_allclose(vector, [1] * 16 + [0] * 16 + [0.2] * 16, atol=1e-6)
    assert pixels.n_dims == 48
    assert make_vectorizer("pixels").transform(IMAGES).shape == (3, 3072)
    assert pixels.fingerprint != make_vectorizer("pixels").fingerprint
    assert pixels.label == "pixels?size=4"
