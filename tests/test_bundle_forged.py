"""A forger's bundles, whose every sha256 is right, are refused."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import (
    GOLDEN,
    HEAD,
    N_DIMS,
    PAIRS,
    Edit,
    Members,
    in_tensors,
    made_bundle,
    make_classifier,
    put_in,
    refused,
    save,
    tamper,
    tiny_network,
    unless_refused,
    write_npz,
)
from conftest import write_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reliability import count

from tllboost.bundle import read_manifest
from tllboost.classifier import load_bundle
from tllboost.errors import BundleError, UsageError
from tllboost.store import VectorStore
from tllboost.vectorizers import make_vectorizer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own cache out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tllboost" / "networks"


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    return write_npz(tmp_path / "net.npz")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "best.tllb"
    path.write_bytes(made_bundle("logistic"))
    return path


ONE = ("vectorizers", 0)
CELL = ("cells", 0)
PART = (*CELL, "vectorizer", 0)


def _without_network(manifest: dict[str, Any], members: Members) -> None:
    manifest["vectorizers"][0]["file"] = None
    del members["network/net.npz"]


FORGED_MANIFESTS: dict[str, tuple[Edit, str]] = {
    "newer format": (
        put_in("version", to=10),
        "version 10, this tllboost reads 9",
    ),
    "older format": (
        put_in("version", to=8),
        "version 8, this tllboost reads 9",
    ),
    "no format": (put_in("format", to="zip"), "not that of a tllboost bundle"),
    "further key": (put_in("exec", to="os.system"), "must hold"),
    "threshold is NaN": (
        put_in("threshold", to=float("nan")),
        "threshold is not legal",
    ),
    "threshold of a cell is none": (
        put_in(*CELL, "threshold", to=None),
        r"cells\[0\]\.threshold is not legal",
    ),
    "threshold is text": (put_in("threshold", to="0.5"), "threshold is not legal"),
    "threshold is huge": (put_in("threshold", to=10**400), "threshold is not legal"),
    "slope is infinite": (
        put_in(*CELL, "calibration", "slope", to=float("inf")),
        r"calibration\.slope is not legal",
    ),
    "prior is a certainty": (
        put_in("calibration", "prior", to=1),
        r"calibration\.prior is not legal",
    ),
    "limit is missing": (put_in(*CELL, "calibration", "low", to=None), r"low is not"),
    "merge is code": (put_in(*CELL, "merge", to="dot+os:system"), "os:system"),
    "merge is no name": (
        put_in(*CELL, "merge", to="sum"),
        "unknown merge 'sum'",
    ),
    "merge is another": (put_in(*CELL, "merge", to="l1"), "golden pair"),
    "merge is wider": (
        put_in(*CELL, "merge", to="concat"),
        "golden pairs can't be scored",
    ),
    "projection is unknown": (
        put_in(*CELL, "projection", to="os:system"),
        "member '0/projection.safetensors' is missing",
    ),
    "vectorizer is none": (
        put_in(*PART, "index", to=1),
        r"cells\[0\]\.vectorizer is not one of its 1",
    ),
    "vectorizer is below none": (
        put_in(*PART, "index", to=-1),
        r"vectorizer\[0\]\.index is not legal",
    ),
    "vectorizer is no list": (put_in(*CELL, "vectorizer", to=0), "must be a list"),
    "no cells": (put_in("cells", to=[]), "must be a list of 1 to 64"),
    "cells without end": (
        lambda manifest, _: manifest["cells"].extend(manifest["cells"] * 64),
        "must be a list of 1 to 64",
    ),
    "head is unknown": (put_in(*CELL, "head", "name", to="os:system"), "is not known"),
    "head is of a new format": (
        put_in(*CELL, "head", "format", to="pickle"),
        "head can't be loaded",
    ),
    "head is another": (
        put_in(*CELL, "head", "format", to="dense"),
        "head can't be loaded",
    ),
    "head is a path": (put_in(*CELL, "head", "name", to="os:system"), "is not known"),
    "vectorizer is code": (put_in(*ONE, "spec", to="os:system"), "os:system"),
    "vectorizer is unknown": (
        put_in(*ONE, "spec", to="nets"),
        "unknown vectorizer 'nets'",
    ),
    "vectorizer is a fusion": (
        put_in(*ONE, "spec", to="vectors:net.npz?x=1"),
        "unknown option 'x'",
    ),
    "threads are set": (
        put_in(*ONE, "spec", to="onnx:net.npz?n_threads=9999"),
        "unknown option 'n_threads'",
    ),
    "vectorizer needs no file": (
        put_in(*ONE, "spec", to="classic"),
        "does not fit its",
    ),
    "file is elsewhere": (_without_network, "does not fit its"),
    "file is of another hash": (
        put_in(*ONE, "file", "sha256", to="0" * 64),
        "is not the network that a vectorizer names",
    ),
    "file climbs out": (
        put_in(*ONE, "file", "name", to="../evil.npz"),
        "'network/../evil.npz' is missing",
    ),
    "fingerprint is another's": (
        put_in(*ONE, "fingerprint", to="classic|descriptors 1|float32"),
        "is not that of its network",
    ),
    "width differs": (put_in(*ONE, "n_dims", to=13), "golden pairs are"),
    "images are vast": (
        put_in(*ONE, "input_size", to=10**6),
        "input_size is not legal",
    ),
    "label moves the cursor": (
        put_in(*ONE, "label", to="\x1b[2J"),
        "label is not legal",
    ),
    "network is another": (
        lambda manifest, _: _rename(manifest, "0" * 64),
        "is not the network that a vectorizer names",
    ),
    "vectorizer is two": (
        put_in(*ONE, "spec", to="classic+pocket"),
        "unknown vectorizer 'classic\\+pocket'",
    ),
    "spec is no spelling": (put_in(*ONE, "spec", to="vectors:net.npz?a"), "key=value"),
    "no parts": (put_in(*CELL, "vectorizer", to=[]), "must be a list of 1 to 32"),
    "parts is text": (put_in(*CELL, "vectorizer", to="abc"), "must be a list"),
    "no vectorizers": (put_in("vectorizers", to=[]), "must be a list of 1 to 512"),
    "cell is deep": (put_in("cell", to={"a": {"b": 1}}), r"cell\.a is not legal"),
}


def _rename(manifest: dict[str, Any], sha256: str) -> None:
    """Say that a vectorizer's network has another sha256 than the one in the bundle."""
    (one,) = manifest["vectorizers"]
    old = one["file"]["sha256"]
    one["file"]["sha256"] = sha256
    one["fingerprint"] = one["fingerprint"].replace(old, sha256)


@pytest.mark.parametrize("forgery", FORGED_MANIFESTS)
def test_forged_manifests_are_refused(bundle: Path, cache: Path, forgery: str) -> None:
    edit, reason = FORGED_MANIFESTS[forgery]
    tamper(bundle, edit)
    with pytest.raises((BundleError, UsageError), match=reason) as caught:
        load_bundle(bundle)
    trusted = "code" in forgery
    count("bad bundles tried")
    assert isinstance(caught.value, UsageError if trusted else BundleError)
    assert "\n" not in str(caught.value)
    assert not list(cache.rglob("*"))


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{", b"\xff", b"null", b"[" * 100_000, b'{"format": 1, "format": 2}'],
)
def test_a_manifest_that_is_no_json_object_is_refused(
    bundle: Path, text: bytes
) -> None:
    with zipfile.ZipFile(bundle) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, data in {**members, "manifest.json": text}.items():
            archive.writestr(name, data)
    with refused():
        read_manifest(bundle)


def _put(key: str, index: Any, value: float) -> Callable[[dict[str, np.ndarray]], None]:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[key][index] = value

    return change


def _recast(key: str, value: Any) -> Callable[[dict[str, np.ndarray]], None]:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[key] = value

    return change


def _no_pairs(arrays: dict[str, np.ndarray]) -> None:
    arrays["vectors.0"] = np.ones((2, 0, N_DIMS), np.float32)
    arrays["scores"] = np.ones((2, 0))


FORGED_NUMBERS: dict[str, tuple[Edit, str]] = {
    "golden score": (
        in_tensors(GOLDEN, lambda arrays: arrays["scores"].__imul__(1.01)),
        "scores .* here and scored .* when it was saved",
    ),
    "golden score of all": (
        in_tensors(GOLDEN, lambda arrays: arrays["scores"][-1:].__imul__(1.01)),
        "scores .* here and scored .* when it was saved",
    ),
    "golden NaN": (
        in_tensors(GOLDEN, _put("vectors.0", (0, 0, 0), np.nan)),
        "not a finite number",
    ),
    "golden infinity": (
        in_tensors(GOLDEN, _put("scores", (0, 0), np.inf)),
        "not a finite number",
    ),
    "golden float64": (
        in_tensors(GOLDEN, _recast("vectors.0", np.ones((2, 8, N_DIMS)))),
        "golden pairs are",
    ),
    "golden width": (
        in_tensors(GOLDEN, _recast("vectors.0", np.ones((2, 8, 3), np.float32))),
        "golden pairs are",
    ),
    "golden scores without pairs": (
        in_tensors(GOLDEN, _recast("scores", np.array(1.0))),
        "golden pairs are",
    ),
    "golden without scores": (
        in_tensors(GOLDEN, lambda arrays: arrays.pop("scores")),
        "golden pairs are",
    ),
    "no golden": (in_tensors(GOLDEN, _no_pairs), "golden pairs are"),
    "golden noise": (
        lambda _, members: members.update({GOLDEN: b"noise"}),
        "golden.safetensors is damaged",
    ),
    "other weights": (in_tensors(HEAD, _put("coef", 0, 9.0)), "golden pair"),
    "NaN weights": (in_tensors(HEAD, _put("coef", 0, np.nan)), "not a finite number"),
    "fewer weights": (
        in_tensors(HEAD, _recast("coef", np.ones(3, np.float32))),
        "golden pairs can't be scored",
    ),
    "head noise": (lambda _, members: members.update({HEAD: b"noise"}), "is damaged"),
    "head beside": (
        lambda _, members: members.update({"0/head.skops": b"noise"}),
        "member '0/head.skops' is not used",
    ),
}


@pytest.mark.parametrize("forgery", FORGED_NUMBERS)
def test_forged_numbers_are_refused(bundle: Path, forgery: str) -> None:
    edit, reason = FORGED_NUMBERS[forgery]
    tamper(bundle, edit)
    with refused(reason):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("left", 10**6),
        ("left", -7),
        ("left", 2),
        ("right", -1),
        ("feature", 10**6),
        ("feature", -1),
        ("roots", -5),
    ],
)
@pytest.mark.parametrize("head", ["forest", "boosted"])
def test_trees_that_would_lead_astray_are_refused(
    tmp_path: Path, head: str, key: str, value: int
) -> None:
    bundle = tmp_path / "best.tllb"
    bundle.write_bytes(made_bundle(head))
    tamper(bundle, in_tensors(HEAD, _put(key, 0, value)))
    with refused("out of range"):
        load_bundle(bundle)


@pytest.fixture
def boosted(tmp_path: Path) -> Path:
    path = tmp_path / "best.tllb"
    path.write_bytes(made_bundle("boosted"))
    return path


def test_trees_in_a_bundle_are_those_of_a_known_kind(boosted: Path) -> None:
    tamper(boosted, put_in("cells", 0, "head", "format", to="dart"))
    with refused("its head can't be loaded"):
        load_bundle(boosted)


def test_no_byte_of_trees_leads_a_walk_astray(boosted: Path) -> None:
    with zipfile.ZipFile(boosted) as archive:
        whole = archive.read(HEAD)

    @settings(
        max_examples=150,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, len(whole) - 1), st.integers(1, 255))
    def check(place: int, change: int) -> None:
        damaged = bytearray(whole)
        damaged[place] ^= change

        def edit(_: dict[str, Any], members: Members) -> None:
            members[HEAD] = bytes(damaged)

        tamper(boosted, edit)
        loaded = unless_refused(boosted)
        if loaded is not None:
            assert np.isfinite(loaded.decision_function(PAIRS)).all()

    check()


def test_skops_heads_hold_allowed_types_alone(tmp_path: Path, npz: Path) -> None:
    import skops.io
    from sklearn.tree import DecisionTreeClassifier

    ridge = make_classifier(f"vectors:{npz}", "sklearn.linear_model:RidgeClassifier")
    bundle = save(tmp_path / "best.tllb", ridge)
    features = np.random.default_rng(0).normal(size=(20, N_DIMS))
    tree = DecisionTreeClassifier().fit(features, np.arange(20) % 2)
    forged: list[tuple[bytes, str]] = [
        (skops.io.dumps(tree), "not safe to load"),
        (skops.io.dumps(np.ones(3)), "not an estimator of scikit-learn"),
        (skops.io.dumps(os.system), "not safe to load"),
        (b"noise", "is damaged"),
    ]
    for data, reason in forged:
        tamper(
            bundle, lambda _, members, data=data: members.update({"0/head.skops": data})
        )
        with refused(reason):
            load_bundle(bundle)


def test_a_pickle_in_place_of_a_head_is_never_opened(
    bundle: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "was run"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    data = pickle.dumps(Evil())
    for name in (
        "0/head.safetensors",
        "0/head.skops",
        GOLDEN,
    ):
        tamper(bundle, lambda _, members, name=name: members.update({name: data}))
        with refused():
            load_bundle(bundle)
    assert not marker.exists()


@pytest.mark.parametrize("weight", [0, -1, 1e300, True, "0.3", None])
def test_weights_that_are_none_are_refused(tmp_path: Path, weight: Any) -> None:
    bundle = _fused(tmp_path)
    tamper(bundle, put_in(*CELL, "vectorizer", 1, "weight", to=weight))
    with refused(r"vectorizer\[1\]\.weight is not legal"):
        load_bundle(bundle)


def test_a_fusion_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    bundle = _fused(tmp_path)
    tamper(bundle, lambda manifest, _: manifest["cells"][0]["vectorizer"].pop())
    with refused("golden pairs are"):
        load_bundle(bundle)


def _fused(folder: Path) -> Path:
    vectorizer = make_vectorizer("pixels?size=8&weight=0.3+classic")
    classifier = make_classifier(vectorizer, "cosine", n_dims=vectorizer.n_dims)
    return save(folder / "best.tllb", classifier, vectorizer.n_dims)


def test_a_bundle_that_lies_about_its_vectors_leaves_none_in_the_store(
    tmp_path: Path,
) -> None:
    network = tiny_network(tmp_path / "net.onnx")
    classifier = make_classifier(f"onnx:{network}", "cosine", n_dims=3)
    bundle = save(tmp_path / "best.tllb", classifier, 3)
    honest = classifier.cells_[0].vectorizer.fingerprint
    tamper(bundle, put_in(*ONE, "spec", to="onnx:net.onnx?size=32"))
    image = write_image(tmp_path / "a.jpg", seed=1)
    loaded = load_bundle(bundle, store=tmp_path / "store")
    assert loaded.cells_[0].vectorizer.fingerprint == honest
    with refused(r"fingerprint is not what.*32x32.*do not use it"):
        loaded.predict([[image, image]])
    with VectorStore(tmp_path / "store") as store:
        assert store.info() == [] or all(row["n_rows"] == 0 for row in store.info())
