"""Networks of torch run by ONNX Runtime: the same vectors, exported once."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_image

from tllboost.errors import UsageError
from tllboost.store import VectorStore
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizers import torch as torch_network_module
from tllboost.vectorizers.base import Vectorizer
from tllboost.vectorizers.torch import disagreement
from tllboost.vectorizing import space_of, vectorize

SMALL = "mobilenetv3_small_050"
SIDE = 64


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small network with random weights."""
    import timm
    import torch

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(timm.create_model(SMALL, pretrained=False).state_dict(), file)
    return f"timm:{SMALL}@{file}?size={SIDE}"


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    return [write_image(folder / f"{i}.jpg", seed=i) for i in range(5)]


@pytest.fixture(scope="module")
def exported_once(
    spec: str, paths: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A store with the network, exported, and the vector of one image."""
    folder = tmp_path_factory.mktemp("exported") / "store"
    vectorize(make(spec), paths[:1], store=folder)
    return folder


@pytest.fixture
def store(exported_once: Path, tmp_path: Path) -> Path:
    """A copy of that store."""
    return shutil.copytree(exported_once, tmp_path / "store")


def make(spec: str) -> Vectorizer:
    return make_vectorizer(spec, device="cpu")


def kept(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "networks").iterdir())


def is_kept(spec: str, folder: Path, fingerprint: str) -> bool:
    """Whether a kept network runs without the file of weights."""
    vectorizer: Any = make(without_file(spec))
    vectorizer.keep_networks_in(folder)
    return bool(vectorizer.run_kept(fingerprint))


def without_file(spec: str) -> str:
    before, _, after = spec.partition("@")
    return f"{before}@absent.pth?{after.partition('?')[2]}"


def is_exported(vectorizer: Any) -> bool:
    return vectorizer._exported is not None


@pytest.mark.parametrize(
    "options",
    ["", "&flip=true&views=whole,grey&normalize=true"],
)
def test_vectors_are_those_of_torch(
    spec: str, options: str, paths: list[Path], tmp_path: Path
) -> None:
    by_torch = make(spec + options).transform(paths)
    vectorizer = make(spec + options)
    result = vectorize(vectorizer, paths, store=tmp_path / "store", batch_size=2)
    assert is_exported(vectorizer)
    assert disagreement(by_torch, result.vectors) < 1e-4


def test_squares_are_those_of_torch(
    spec: str, paths: list[Path], tmp_path: Path
) -> None:
    squares = spec.replace("timm:", "timm-grid:")
    vectorizer = make(squares)
    result = vectorize(vectorizer, paths, store=tmp_path / "store")
    assert is_exported(vectorizer)
    assert disagreement(make(squares).transform(paths), result.vectors) < 1e-4


def test_a_tower_that_gives_tokens_too_is_exported() -> None:
    """With a few layers: every kind of operator is there, none of the weight."""
    import open_clip
    import torch

    from tllboost.vectorizers.torch import exported, probe, run

    config = open_clip.get_model_config("coca_ViT-B-32")
    vision = {**config["vision_cfg"], "layers": 2, "width": 64, "image_size": SIDE}
    torch.manual_seed(0)
    tower = open_clip.model._build_vision_tower(
        64, open_clip.model.CLIPVisionCfg(**vision), quick_gelu=True
    ).eval()

    def first(output: Any) -> Any:
        return output[0]

    batch = probe((SIDE, SIDE))
    network = open_network(exported(tower, (SIDE, SIDE), first))
    expected = run(tower, batch, first)
    for rows in (1, 3):
        assert disagreement(expected[:rows], network(batch[:rows])) < 1e-4


def open_network(data: bytes) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(["output"], {"pixels": batch})[0]


def test_a_network_is_exported_once(spec: str, paths: list[Path], store: Path) -> None:
    assert len(kept(store)) == 2  # the network and its record
    times = [file.stat().st_mtime_ns for file in (store / "networks").iterdir()]
    again = make(spec)
    vectorize(again, paths, store=store)
    assert is_exported(again)
    assert "network" not in vars(again)  # torch's was not even built
    assert times == [file.stat().st_mtime_ns for file in (store / "networks").iterdir()]
    vectorize(make(spec + "&flip=true"), paths, store=store)
    assert len(kept(store)) == 3  # another record of the same network


def test_the_same_fingerprint_whatever_runs_it(
    spec: str, paths: list[Path], tmp_path: Path
) -> None:
    vectorizer = make(spec)
    vectorize(vectorizer, paths, store=tmp_path / "store")
    assert vectorizer.fingerprint == make(spec).fingerprint


def test_a_kept_network_runs_by_its_fingerprint_without_torch(
    spec: str, paths: list[Path], store: Path, tmp_path: Path
) -> None:
    vectorizer = make(spec + "&flip=true")
    expected = vectorize(vectorizer, paths, store=store).vectors
    code = (
        "import sys, numpy\n"
        "from tllboost.vectorizers import make_vectorizer\n"
        "spec, folder, fingerprint, out, *paths = sys.argv[1:]\n"
        "found = make_vectorizer(spec, device='cpu')\n"
        "found.keep_networks_in(folder)\n"
        "assert found.run_kept(fingerprint)\n"
        "numpy.save(out, found.transform(paths))\n"
        "assert found.n_dims == found.transform(paths[:1]).shape[1]\n"
        "assert not {'torch', 'timm'} & set(sys.modules), 'imports torch'\n"
    )
    folder, out = store / "networks", tmp_path / "vectors.npy"
    flipped, known = without_file(spec) + "&flip=true", vectorizer.fingerprint
    arguments = [flipped, folder, known, out, *paths]
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)
    assert disagreement(expected, np.load(out)) < 1e-5
    found: Any = make(flipped)
    found.keep_networks_in(folder)
    assert found.run_kept(known)
    assert space_of(found) == space_of(vectorizer)
    assert not is_kept(flipped, folder, "another")
    assert not is_kept(spec, folder, known), "runs one fingerprint under another name"


@pytest.mark.parametrize("others", [[], ["pixels+{}", "pixels"]])
def test_a_second_run_of_a_name_imports_neither_torch_nor_timm(
    spec: str, others: list[str], paths: list[Path], store: Path
) -> None:
    expected = make(spec).fingerprint
    code = (
        "import sys\n"
        "from tllboost.vectorizers import make_vectorizer\n"
        "from tllboost.vectorizing import vectorize_many\n"
        "store, names, fingerprint, *paths = sys.argv[1:]\n"
        "made = [make_vectorizer(o, device='cpu') for o in names.split()]\n"
        "results = vectorize_many(made, paths, store=store)\n"
        "assert results[0].n_computed == len(paths) - 1\n"
        "assert made[0].fingerprint == fingerprint\n"
        "assert not {'torch', 'timm'} & set(sys.modules), 'imports torch'\n"
    )
    names = " ".join([spec, *(one.format(spec) for one in others)])
    arguments = [store, names, expected, *paths]
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)


def test_what_a_record_says_of_other_weights_or_another_timm_is_not_taken(
    spec: str, store: Path, tmp_path: Path
) -> None:
    kept_in, file = store / "networks", Path(spec.partition("@")[2].partition("?")[0])
    other = tmp_path / "other.pth"
    other.write_bytes(file.read_bytes() + b"0")
    vectorizer: Any = make(spec.replace(str(file), str(other)))
    vectorizer.keep_networks_in(kept_in)
    assert vectorizer._recalled() is None
    vectorizer = make(spec)
    vectorizer.keep_networks_in(kept_in)
    assert vectorizer._recalled() is not None
    (record,) = kept_in.glob("*.json")
    found = json.loads(record.read_text())
    found["made_with"]["timm"] = "0.1"
    record.write_text(json.dumps(found))
    assert vectorizer._recalled() is None


@pytest.mark.parametrize("damage", ["network", "record", "cut", "gone"])
def test_a_damaged_network_is_exported_anew(
    spec: str, paths: list[Path], store: Path, damage: str
) -> None:
    expected = vectorize(make(spec), paths[:1], store=store).vectors
    (network,) = (store / "networks").glob("*.onnx")
    (record,) = (store / "networks").glob("*.json")
    if damage == "network":
        data = bytearray(network.read_bytes())
        data[len(data) // 2] ^= 255
        network.write_bytes(data)
    elif damage == "record":
        record.write_text('{"network": 7}')
    elif damage == "cut":
        network.write_bytes(network.read_bytes()[:1000])
    else:
        network.unlink()
    with VectorStore(store) as opened:
        opened.prune(space_of(make(spec)))
    vectorizer = make(spec)
    result = vectorize(vectorizer, paths[:1], store=store)
    assert is_exported(vectorizer)
    assert disagreement(expected, result.vectors) < 1e-5
    assert is_kept(spec, store / "networks", vectorizer.fingerprint)


def test_what_another_onnx_runtime_was_checked_with_does_not_count(
    spec: str, store: Path
) -> None:
    vectorizer, folder = make(spec), store / "networks"
    (file,) = folder.glob("*.json")
    record = json.loads(file.read_text())
    record["made_with"]["onnxruntime"] = "1.0"
    file.write_text(json.dumps(record))
    assert not is_kept(spec, folder, vectorizer.fingerprint)


def test_a_network_that_comes_out_wrong_is_left_to_torch_and_told_once(
    spec: str,
    paths: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # No two libraries agree to the last digit: nothing passes for the same.
    monkeypatch.setattr(torch_network_module, "_TOLERANCE", 0)
    store, by_torch = tmp_path / "store", make(spec).transform(paths)
    with caplog.at_level(logging.WARNING):
        result = vectorize(make(spec), paths[:2], store=store)
        result = vectorize(make(spec), paths, store=store)
    assert np.array_equal(by_torch, result.vectors)
    (line,) = caplog.messages
    assert "can't be run by ONNX Runtime" in line
    assert "torch runs it" in line
    (record,) = (store / "networks").iterdir()
    assert json.loads(record.read_text())["network"] is None


def test_less_precision_is_other_vectors_by_torch(
    spec: str, paths: list[Path], tmp_path: Path
) -> None:
    exact = make(spec)
    less = make(spec + "&precision=bfloat16")
    assert less.fingerprint == exact.fingerprint.replace("float32", "bfloat16")
    assert "precision=bfloat16" in less.label
    result = vectorize(less, paths, store=tmp_path / "store")
    assert not is_exported(less)
    assert result.vectors.dtype == np.float32
    assert 1e-5 < disagreement(exact.transform(paths), result.vectors) < 0.1
    with pytest.raises(UsageError, match="write one of float32, bfloat16, float16"):
        make(spec + "&precision=half")


def test_torch_runs_all_where_it_is_told_to(
    spec: str, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLLBOOST_TORCH", "1")
    vectorizer = make(spec)
    result = vectorize(vectorizer, paths, store=tmp_path / "store")
    assert not is_exported(vectorizer)
    assert not (tmp_path / "store" / "networks").exists()
    assert np.array_equal(result.vectors, make(spec).transform(paths))


def test_what_a_kill_left_half_written_goes_later(
    spec: str, paths: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "store" / "networks"
    folder.mkdir(parents=True)
    old, young = folder / ".a.onnx.01.part", folder / ".b.onnx.02.part"
    for partial in (old, young):
        partial.write_bytes(b"half")
    os.utime(old, (0, 0))
    vectorize(make(spec), paths[:1], store=tmp_path / "store")
    assert not old.exists()
    assert young.exists()


def test_a_store_with_networks_is_whole(
    spec: str, paths: list[Path], store: Path
) -> None:
    vectorize(make(spec), paths, store=store)
    with VectorStore(store) as opened:
        assert opened.verify() == []
        opened.prune()
    assert len(kept(store)) == 2
