"""Vectors from ONNX files: made small networks, and the real ones where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tllboost.errors import UsageError, WeightsError
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizers.onnx import OnnxVectorizer


def write_network(
    path: Path,
    *,
    shape: tuple[object, ...] = ("n", 3, 32, 32),
    nodes: list[tuple[str, str, str]] | None = None,
    metadata: dict[str, str] | None = None,
    element: str = "FLOAT",
) -> Path:
    """Write a network of element-wise nodes from ``images`` to its outputs."""
    from onnx import TensorProto, helper, save

    kind = getattr(TensorProto, element)
    nodes = nodes or [("Relu", "images", "vectors")]
    inner = {source for _, source, _ in nodes}
    graph = helper.make_graph(
        [helper.make_node(name, [source], [target]) for name, source, target in nodes],
        "network",
        [helper.make_tensor_value_info("images", kind, shape)],
        [
            helper.make_tensor_value_info(target, kind, None)
            for _, _, target in nodes
            if target not in inner
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    helper.set_model_props(model, metadata or {})
    save(model, str(path))
    return path


def test_maps_are_averaged_over_positions(tmp_path: Path) -> None:
    file = write_network(tmp_path / "net.onnx")
    vectorizer = OnnxVectorizer(file, mean=(0, 0, 0), std=(1, 1, 1))
    vectors = vectorizer.transform([Image.new("RGB", (50, 40), (255, 0, 51))])
    np.testing.assert_allclose(vectors, [[1, 0, 0.2]], atol=1e-6)
    assert vectors.dtype == np.float32
    assert vectorizer.n_dims == 3


def test_channels_last_inputs_are_recognised(tmp_path: Path) -> None:
    first = OnnxVectorizer(write_network(tmp_path / "first.onnx"))
    last = OnnxVectorizer(write_network(tmp_path / "last.onnx", shape=(1, 32, 32, 3)))
    images = [Image.new("RGB", (40, 40), (200, 100, grey)) for grey in (9, 99, 199)]
    np.testing.assert_allclose(
        first.transform(images), last.transform(images), atol=1e-4
    )


@pytest.mark.parametrize("n_images", [1, 4, 5])
def test_networks_of_a_fixed_batch_take_any_number(
    tmp_path: Path, n_images: int
) -> None:
    fixed = OnnxVectorizer(write_network(tmp_path / "a.onnx", shape=(4, 3, 32, 32)))
    free = OnnxVectorizer(write_network(tmp_path / "b.onnx"))
    images = [Image.new("RGB", (32, 32), (40 * i, 0, 0)) for i in range(n_images)]
    assert (fixed.transform(images) == free.transform(images)).all()


def test_preprocessing_comes_from_the_file_before_the_defaults(tmp_path: Path) -> None:
    props = {"mean": "0.5,0.5,0.5", "std": "0.25,0.25,0.25", "size": "48"}
    file = write_network(
        tmp_path / "net.onnx", shape=("n", 3, "h", "w"), metadata=props
    )
    assert OnnxVectorizer(file).preprocessing.mean == (0.5, 0.5, 0.5)
    assert OnnxVectorizer(file).preprocessing.std == (0.25, 0.25, 0.25)
    assert OnnxVectorizer(file).preprocessing.size == (48, 48)
    assert OnnxVectorizer(file, size=64).preprocessing.size == (64, 64)
    assert OnnxVectorizer(file, mean=(0, 0, 0)).preprocessing.mean == (0, 0, 0)


def test_sizes_of_the_file_are_kept_and_224_is_the_last_resort(tmp_path: Path) -> None:
    oblong = write_network(tmp_path / "oblong.onnx", shape=("n", 3, 32, 64))
    assert OnnxVectorizer(oblong).transform([Image.new("RGB", (9, 90))]).shape == (1, 3)
    free = write_network(tmp_path / "free.onnx", shape=("n", 3, "h", "w"))
    assert OnnxVectorizer(free).preprocessing.size == (224, 224)
    with pytest.raises(UsageError, match="size=64, but the network wants 32x64"):
        OnnxVectorizer(oblong, size=64).fingerprint  # noqa: B018


def test_outputs_are_chosen_by_name(tmp_path: Path) -> None:
    nodes = [("Relu", "images", "first"), ("Neg", "images", "second")]
    file = write_network(tmp_path / "net.onnx", nodes=nodes)
    image = [Image.new("RGB", (32, 32), "white")]
    first, second = OnnxVectorizer(file), OnnxVectorizer(file, output="second")
    np.testing.assert_allclose(first.transform(image), -second.transform(image))
    assert first.fingerprint != second.fingerprint
    with pytest.raises(UsageError, match="no output 'third'; it has: first, second"):
        OnnxVectorizer(file, output="third").fingerprint  # noqa: B018


def test_half_precision_networks_give_float32(tmp_path: Path) -> None:
    file = write_network(tmp_path / "net.onnx", element="FLOAT16")
    vectors = OnnxVectorizer(file).transform([Image.new("RGB", (32, 32), "white")])
    assert vectors.dtype == np.float32


def test_normalize_scales_to_length_one(tmp_path: Path) -> None:
    file = write_network(tmp_path / "net.onnx")
    vectorizer = OnnxVectorizer(file, normalize=True)
    vectors = vectorizer.transform([Image.new("RGB", (32, 32), "orange")])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


def test_unusable_files_are_named_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("no network")
    two_axes = write_network(tmp_path / "two.onnx", shape=("n", 10))
    whole = write_network(tmp_path / "whole.onnx", element="UINT8", nodes=[
        ("Identity", "images", "vectors")
    ])  # fmt: skip
    bad_props = write_network(tmp_path / "props.onnx", metadata={"mean": "grey"})
    for file, reason in [
        (tmp_path / "none.onnx", "there is no file"),
        (tmp_path, "is not a file"),
        (text, "is not an ONNX model|can't load"),
        (two_axes, "needs one float input of four axes"),
        (whole, "needs one float input of four axes"),
        (bad_props, "metadata mean='grey'"),
    ]:
        with pytest.raises(WeightsError, match=reason) as caught:
            OnnxVectorizer(file).fingerprint  # noqa: B018
        assert "\n" not in str(caught.value)


def test_tensors_in_a_file_beside_belong_to_the_fingerprint(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper, save

    def write(folder: str, value: float) -> OnnxVectorizer:
        weights = np.full((64, 64), value, dtype=np.float32)
        images = helper.make_tensor_value_info("images", 1, ("n", 3, 64, 64))
        vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, None)
        graph = helper.make_graph(
            [helper.make_node("Add", ["images", "weights"], ["vectors"])],
            "network",
            [images],
            [vectors],
            [numpy_helper.from_array(weights, "weights")],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
        )
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "net.onnx"
        save(model, str(file), save_as_external_data=True, location="net.data")
        return OnnxVectorizer(file)

    one, other = write("one", 1.0), write("other", 2.0)
    assert one.fingerprint != other.fingerprint
    Path(one.file).with_name("net.data").unlink()
    with pytest.raises(WeightsError, match=r"net\.data"):
        OnnxVectorizer(one.file).fingerprint  # noqa: B018


def test_fingerprints_change_with_anything_that_changes_a_vector(
    tmp_path: Path,
) -> None:
    file = write_network(tmp_path / "net.onnx", shape=("n", 3, "h", "w"))
    other = write_network(tmp_path / "other.onnx", nodes=[("Neg", "images", "vectors")])
    moved = tmp_path / "moved.onnx"
    moved.write_bytes(file.read_bytes())
    variants = [
        OnnxVectorizer(file),
        OnnxVectorizer(other),
        OnnxVectorizer(file, size=64),
        OnnxVectorizer(file, mean=(0, 0, 0)),
        OnnxVectorizer(file, std=(1, 1, 1)),
        OnnxVectorizer(file, fit="squash"),
        OnnxVectorizer(file, normalize=True),
    ]
    prints = [one.fingerprint for one in variants]
    assert len(set(prints)) == len(prints)
    assert OnnxVectorizer(moved).fingerprint == prints[0]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("net", "n_dims"), [("mobilenetv2", 1280), ("squeezenet1_1", 512)]
)
def test_real_networks_find_the_same_image_scaled(
    shared: Path, tll: Path, net: str, n_dims: int
) -> None:
    vectorizer = make_vectorizer(f"onnx:{shared / 'weights' / net}.onnx")
    paths = sorted((tll / "left").iterdir())[:12]
    images = [Image.open(path).resize((330, 404)) for path in paths]
    whole = vectorizer.transform(paths, batch_size=5)
    scaled = vectorizer.transform(images)
    assert whole.shape == (12, n_dims) == (12, vectorizer.n_dims)
    unit = [rows / np.linalg.norm(rows, axis=1)[:, None] for rows in (whole, scaled)]
    assert (np.argmax(unit[0] @ unit[1].T, axis=1) == np.arange(12)).all()
