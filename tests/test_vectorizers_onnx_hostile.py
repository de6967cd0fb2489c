"""Networks from strangers: what an ONNX file may not do, and is refused for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import make_classifier, save, tiny_network
from conftest import Run, write_image
from onnx import TensorProto, helper, numpy_helper
from onnx import save as save_onnx
from PIL import Image
from reliability import count

from tllboost.errors import WeightsError
from tllboost.vectorizers.onnx import OnnxVectorizer
from tllboost.vectorizing import vectorize

POOL = helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0)
Shape = tuple[object, ...]


def write(
    path: Path,
    nodes: Sequence[Any],
    tensors: Sequence[Any] = (),
    *,
    shape: Shape = ("n", 3, 32, 32),
    functions: Sequence[Any] = (),
    domains: Sequence[str] = (),
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a network from ``images`` to ``vectors``."""
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", 1, shape)],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, None)],
        list(tensors),
    )
    opsets = [
        helper.make_opsetid("", 13),
        *(helper.make_opsetid(d, 1) for d in domains),
    ]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=8, functions=list(functions)
    )
    helper.set_model_props(model, metadata or {})
    path.parent.mkdir(exist_ok=True)
    save_onnx(model, str(path))
    return path


def outside(location: str, **entries: str) -> TensorProto:
    """Return three numbers that are said to lie in another file."""
    tensor = TensorProto(name="secret", data_type=1, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def adding(path: Path, tensor: TensorProto, **where: Any) -> Path:
    """Write a network that adds a tensor to the mean colour, so that it can be seen."""
    add = helper.make_node("Add", ["mean", tensor.name], ["vectors"])
    return write(path, [POOL, add], [tensor], **where)


def constant(path: Path, tensor: TensorProto) -> Path:
    """Write one whose tensor hides in a node inside of another node."""
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["secret"], value=tensor)],
        "inner",
        [],
        [helper.make_tensor_value_info("secret", 1, [3])],
    )
    yes = numpy_helper.from_array(np.array(True), "yes")
    choose = helper.make_node(
        "If", ["yes"], ["chosen"], then_branch=inner, else_branch=inner
    )
    add = helper.make_node("Add", ["mean", "chosen"], ["vectors"])
    return write(path, [POOL, choose, add], [yes])


def custom(path: Path, domain: str, name: str = "Run", **options: Any) -> Path:
    node = helper.make_node(name, ["images"], ["vectors"], domain=domain, **options)
    return write(path, [node], domains=[domain])


def function_with(path: Path, *inner: Any) -> Path:
    """Write one whose operator is a function of its own, made of `inner`."""
    domains = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]
    own = helper.make_function("own", "F", ["x"], ["y"], inner, domains)
    node = helper.make_node("F", ["images"], ["vectors"], domain="own")
    return write(path, [node], functions=[own], domains=["own"])


def sparse(path: Path) -> Path:
    values = numpy_helper.from_array(np.ones(1, np.float32), "secret")
    where = numpy_helper.from_array(np.zeros(1, np.int64), "where")
    node = helper.make_node(
        "Constant",
        [],
        ["secret"],
        sparse_value=helper.make_sparse_tensor(values, where, [10**6, 10**6]),
    )
    return write(
        path, [node, helper.make_node("Add", ["images", "secret"], ["vectors"])]
    )


def looping(path: Path, nested: bool = False) -> Path:
    """Write one that counts to the largest number there is."""
    inner = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("go", "x")],
        "round",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_out", TensorProto.FLOAT, None),
        ],
    )
    most = numpy_helper.from_array(np.array(2**63 - 1), "most")
    yes = numpy_helper.from_array(np.array(True), "yes")
    loop = helper.make_node("Loop", ["most", "yes", "mean"], ["vectors"], body=inner)
    if not nested:
        return write(path, [POOL, loop], [most, yes])
    branch = helper.make_graph(
        [loop], "branch", [], [helper.make_tensor_value_info("vectors", 1, None)]
    )
    choose = helper.make_node(
        "If", ["yes"], ["vectors"], then_branch=branch, else_branch=branch
    )
    return write(path, [POOL, choose], [most, yes])


def wide(shape: Shape) -> Callable[[Path], Path]:
    relu = helper.make_node("Relu", ["images"], ["vectors"])
    return lambda path: write(path, [relu], shape=shape)


def stating(**metadata: str) -> Callable[[Path], Path]:
    relu = helper.make_node("Relu", ["images"], ["vectors"])
    shape = ("n", 3, None, None)
    return lambda path: write(path, [relu], shape=shape, metadata=metadata)


def declared(*dims: int) -> TensorProto:
    return TensorProto(name="secret", data_type=1, dims=dims, raw_data=bytes(12))


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "data above": (lambda p: adding(p, outside("../secret.bin")), "outside of its own"),
    "data anywhere": (
        lambda p: adding(p, outside(str(p.parents[1] / "secret.bin"))),
        "outside of its own",
    ),
    "data through a link": (
        lambda p: adding(p, outside("link/secret.bin")),
        "outside of its own",
    ),
    "data in memory": (
        lambda p: adding(p, outside("*/_ORT_MEM_ADDR_/*", offset="4096", length="12")),
        r"needs its data file '\*/_ORT_MEM_ADDR_/\*' beside it",
    ),
    "data with a NUL": (lambda p: adding(p, outside("a\0b")), "outside of|needs its"),
    "data in a pipe": (lambda p: adding(p, outside("pipe")), "needs its data file"),
    "data beyond the end": (
        lambda p: adding(p, outside("short.bin", offset="0", length="12")),
        "can't load it",
    ),
    "data in a branch": (
        lambda p: constant(p, outside("../secret.bin")),
        "outside of its own",
    ),
    "a function's data": (
        lambda p: function_with(
            p, helper.make_node("Constant", [], ["y"], value=outside("../secret.bin"))
        ),
        "outside of its own",
    ),
    "custom operator": (lambda p: custom(p, "evil"), "custom operator 'evil:Run'"),
    "custom in a function": (
        lambda p: function_with(p, helper.make_node("Run", ["x"], ["y"], domain="e")),
        "custom operator 'e:Run'",
    ),
    "compiled file": (
        lambda p: custom(
            p, "com.microsoft", "EPContext", ep_cache_context="../x", embed_mode=0
        ),
        "custom operator 'com.microsoft:EPContext'",
    ),
    "no such operator": (lambda p: custom(p, "", "Frobnicate"), "can't load it"),
    "function of itself": (
        lambda p: function_with(p, helper.make_node("F", ["x"], ["y"], domain="own")),
        "a function that calls itself",
    ),
    "vast input": (wide(("n", 3, 10**6, 10**6)), "its input of shape .* is absurd"),
    "vast batch": (wide((10**9, 3, 8, 8)), "its input of shape .* is absurd"),
    "large in all": (wide((1024, 3, 4096, 4096)), "its input of shape .* is absurd"),
    "vast size told": (stating(size="100000"), "here 100000x100000, is absurd"),
    "size is no number": (stating(size="nan"), "metadata size='nan'"),
    "size is infinite": (stating(size="inf"), "metadata size='inf'"),
    "mean is NaN": (stating(mean="nan,0,0"), "metadata mean='nan,0,0'"),
    "vast tensor": (lambda p: adding(p, declared(10**9, 10**9)), "absurd shape"),
    "tensor below zero": (lambda p: adding(p, declared(-1, 3)), "absurd shape"),
    "tensor of another size": (lambda p: adding(p, declared(7)), "can't load it"),
    "sparse bomb": (sparse, "absurd shape"),
    "loop without end": (looping, "operator 'Loop', which may run for ever"),
    "loop in a branch": (lambda p: looping(p, nested=True), "operator 'Loop'"),
    "no operators": (lambda p: write(p, []), "has no operators"),
}


@pytest.mark.parametrize("trick", HOSTILE)
def test_hostile_networks_are_refused_before_an_image_is_seen(
    tmp_path: Path, trick: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(np.float32([1, 2, 3]).tobytes())
    (folder / "short.bin").write_bytes(b"1234")
    (folder / "link").symlink_to(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
    make, reason = HOSTILE[trick]
    file = make(folder / "net.onnx")
    image = Image.new("RGB", (32, 32))
    for use in (
        lambda one: one.transform([image]),
        lambda one: one.fingerprint,
        lambda one: one.n_dims,
    ):
        with pytest.raises(WeightsError, match=reason) as caught:
            use(OnnxVectorizer(file))
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 3
    assert capfd.readouterr().err == ""
    count("bad networks tried")


def test_functions_and_operators_that_onnx_runtime_brings_are_welcome(
    tmp_path: Path,
) -> None:
    image = Image.new("RGB", (32, 32), "red")
    own = function_with(tmp_path / "own.onnx", helper.make_node("Relu", ["x"], ["y"]))
    gelu = custom(tmp_path / "gelu.onnx", "com.microsoft", "Gelu")
    for file in (own, gelu):
        assert OnnxVectorizer(file).transform([image]).shape == (1, 3)


@pytest.mark.parametrize("name", ["ConstantOfShape", "Expand", "Tile"])
def test_a_network_that_swells_is_stopped_at_the_memory_there_is(
    tmp_path: Path, name: str
) -> None:
    def tensor(*values: int) -> TensorProto:
        return numpy_helper.from_array(np.int64(values), "shape")

    swell, shape = {
        "ConstantOfShape": (["shape"], tensor(10**6, 10**6)),
        "Expand": (["images", "shape"], tensor(10**8, 3, 32, 32)),
        "Tile": (["images", "shape"], tensor(1, 1, 10**4, 10**4)),
    }[name]
    nodes = [
        POOL,
        helper.make_node(name, swell, ["big"]),
        helper.make_node("ReduceMax", ["big"], ["most"], keepdims=0),
        helper.make_node("Add", ["mean", "most"], ["vectors"]),
    ]
    vectorizer = OnnxVectorizer(write(tmp_path / "net.onnx", nodes, [shape]))
    with pytest.raises(WeightsError, match=r"can't load it|can't be run"):
        vectorizer.n_dims  # noqa: B018
    image = write_image(tmp_path / "a.png", seed=1)
    try:
        failures = vectorize(vectorizer, [image]).failures
    except WeightsError:
        failures = {0: "can't be vectorized"}
    assert "can't be vectorized" in failures[0]
    count("bad networks tried")


def test_the_limit_of_memory_changes_no_vector(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from tllboost.vectorizers import exported\n"
        "from tllboost.vectorizers.onnx import OnnxVectorizer; from PIL import Image\n"
        "if sys.argv[2] == 'without': exported._limit_memory = lambda: False\n"
        "image = Image.linear_gradient('L').convert('RGB')\n"
        "print(OnnxVectorizer(sys.argv[1]).transform([image]).tobytes().hex())\n"
    )
    network = tiny_network(tmp_path / "net.onnx")
    found = [
        subprocess.run(
            [sys.executable, "-c", code, network, how],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for how in ("with", "without")
    ]
    assert found[0] == found[1] != ""


def test_a_bundle_with_a_hostile_network_scores_nothing(
    tmp_path: Path, run: Run
) -> None:
    from bundles import tamper

    network = tiny_network(tmp_path / "net.onnx")
    classifier = make_classifier(f"onnx:{network}", "cosine", n_dims=3)
    bundle = save(tmp_path / "best.tllb", classifier, 3)
    (tmp_path / "secret.bin").write_bytes(np.float32([1, 2, 3]).tobytes())
    hostile = adding(tmp_path / "evil.onnx", outside("../../../../../secret.bin"))

    def edit(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        import hashlib

        data = hostile.read_bytes()
        members["network/net.onnx"] = data
        (one,) = manifest["vectorizers"]
        old, new = one["file"]["sha256"], hashlib.sha256(data).hexdigest()
        one["file"].update(sha256=new, size=len(data))
        one["fingerprint"] = one["fingerprint"].replace(old, new)

    tamper(bundle, edit)
    image = write_image(tmp_path / "a.jpg", seed=1)
    done = run("score", bundle, image, image)
    assert done.returncode in (3, 5)
    assert done.stdout == ""
    assert "outside of its own folder" in done.stderr
    assert "Traceback" not in done.stderr
    count("bad bundles tried")
