"""Bundles come back as they were saved, and refuse whatever was done to them."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import (
    IDS,
    LEFT,
    N_DIMS,
    RIGHT,
    Edit,
    Members,
    make_classifier,
    make_vectors,
    refused,
    save,
    tamper,
    tiny_network,
    write_npz,
)
from conftest import write_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reliability import count
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from sklearn.base import clone

from tllboost.bundle import load_bundle, read_manifest, save_bundle
from tllboost.classifier import PairClassifier
from tllboost.errors import BundleError, DataError, UsageError, WeightsError
from tllboost.heads import HEADS
from tllboost.heads.boosting import XGBoostHead
from tllboost.store import VectorStore
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizing import vectorize

PAIRS = [[IDS[left], IDS[right]] for left in LEFT[:20] for right in RIGHT[:3]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own cache out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tllboost" / "networks"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Bundles to copy: fitting one takes longer than any test of it."""
    folder = tmp_path_factory.mktemp("made")
    vectorizer = f"vectors:{write_npz(folder / 'net.npz')}"
    trees = XGBoostHead(start="none", n_estimators=20, max_depth=3)
    heads = {"logistic": "logistic", "boosted": trees, "forest": "random-forest"}
    return {
        name: save(folder / name, make_classifier(vectorizer, head)).read_bytes()
        for name, head in heads.items()
    }


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    return write_npz(tmp_path / "net.npz")


@pytest.fixture
def bundle(tmp_path: Path, made: dict[str, bytes]) -> Path:
    path = tmp_path / "best.tllb"
    path.write_bytes(made["logistic"])
    return path


# Round trips


@pytest.mark.parametrize("head", [*HEADS, "sklearn.linear_model:RidgeClassifier"])
def test_a_loaded_bundle_scores_as_the_classifier_did(
    head: str, tmp_path: Path, npz: Path
) -> None:
    merge = "dot+l1" if head in ("xgboost", "joined") else "cosdot"
    projection = "contrastive" if head == "joined" else "none"
    classifier = make_classifier(f"vectors:{npz}", head, merge, projection=projection)
    loaded = load_bundle(save(tmp_path / "best.tllb", classifier))
    np.testing.assert_array_equal(
        loaded.decision_function(PAIRS), classifier.decision_function(PAIRS)
    )
    np.testing.assert_array_equal(
        loaded.predict_proba(PAIRS), classifier.predict_proba(PAIRS)
    )
    np.testing.assert_array_equal(loaded.predict(PAIRS), classifier.predict(PAIRS))
    np.testing.assert_array_equal(loaded.classes_, [0, 1])


def test_boosted_heads_that_start_from_nothing_round_trip(
    tmp_path: Path, npz: Path
) -> None:
    head = XGBoostHead(start="none", n_estimators=60, max_depth=5)
    classifier = make_classifier(f"vectors:{npz}", head)
    loaded = load_bundle(save(tmp_path / "best.tllb", classifier))
    assert classifier.cells_[0].scorer.fitted.part
    np.testing.assert_array_equal(
        loaded.decision_function(PAIRS), classifier.decision_function(PAIRS)
    )


def test_one_file_scores_where_nothing_else_is(bundle: Path, npz: Path) -> None:
    classifier = make_classifier(f"vectors:{npz}")
    save(bundle, classifier)
    before = classifier.predict_proba(PAIRS)
    npz.unlink()
    np.testing.assert_array_equal(load_bundle(bundle).predict_proba(PAIRS), before)


def test_a_loaded_bundle_can_be_saved_again(bundle: Path, tmp_path: Path) -> None:
    loaded = load_bundle(bundle)
    again = save(tmp_path / "again.tllb", loaded)
    assert read_manifest(again)["vectorizers"] == read_manifest(bundle)["vectorizers"]
    np.testing.assert_array_equal(
        load_bundle(again).predict_proba(PAIRS), loaded.predict_proba(PAIRS)
    )


def test_a_loaded_classifier_crosses_processes_and_clones(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    again = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(
        again.predict_proba(PAIRS), loaded.predict_proba(PAIRS)
    )
    fingerprint = loaded.cells_[0].vectorizer.fingerprint
    assert clone(loaded).vectorizer.fingerprint == fingerprint


def test_the_manifest_tells_what_a_reader_asks_and_no_folder(
    bundle: Path, npz: Path, tmp_path: Path
) -> None:
    vectors = make_vectors()
    classifier = make_classifier(f"vectors:{npz}")
    save_bundle(
        bundle,
        classifier,
        cell={"vectorizer": f"vectors:{npz}", "merge": "dot", "seed": np.int64(3)},
        metrics={"top1": np.float32(0.5), "roc_auc": float("nan")},
        golden=(vectors[:8], vectors[8:16]),
    )
    manifest = read_manifest(bundle)
    assert manifest["cell"] == {
        "vectorizer": "vectors:net.npz",
        "merge": "dot",
        "seed": 3,
    }
    assert manifest["metrics"] == {"top1": 0.5, "roc_auc": None}
    (vectorizer,), (recorded,) = manifest["vectorizers"], manifest["cells"]
    assert vectorizer["label"] == "vectors:net"
    assert vectorizer["n_dims"] == N_DIMS
    assert (recorded["projection"], recorded["merge"]) == ("none", "dot")
    assert manifest["versions"]["tllboost"]
    assert manifest["threshold"] == classifier.threshold_
    assert str(tmp_path) not in json.dumps(manifest)


def test_a_fusion_keeps_its_parts_their_options_and_odd_file_names(
    tmp_path: Path,
) -> None:
    one = tiny_network(tmp_path / "my net+classic?v=2&x.onnx")
    parts = (
        make_vectorizer("classic"),
        _onnx(one, mean=(0.48145466, 0.4578275, 0.40821073), size=16),
        _onnx(one, normalize=True),
    )
    from tllboost.vectorizers.fusion import FusionVectorizer

    fusion = FusionVectorizer(parts)
    classifier = make_classifier(fusion, "cosine", n_dims=fusion.n_dims)
    bundle = save(tmp_path / "best.tllb", classifier, fusion.n_dims)
    image = write_image(tmp_path / "a.jpg", seed=1)
    other = write_image(tmp_path / "b.jpg", seed=2)
    loaded = load_bundle(bundle)
    assert loaded.cells_[0].vectorizer.fingerprint == fusion.fingerprint
    assert loaded.cells_[0].vectorizer.n_dims == fusion.n_dims
    assert loaded.cells_[0].vectorizer.label == fusion.label
    np.testing.assert_array_equal(
        loaded.predict_proba([[image, other]]),
        classifier.predict_proba([[image, other]]),
    )
    members = read_manifest(bundle)["members"]
    assert [name for name in members if name.startswith("network/")] == [
        "network/my_net_classic_v_2_x.onnx"
    ]


def _weighted(folder: Path) -> tuple[Path, Any]:
    vectorizer = make_vectorizer("pixels?size=8&weight=0.3+classic")
    classifier = make_classifier(vectorizer, "cosine", n_dims=vectorizer.n_dims)
    return save(folder / "best.tllb", classifier, vectorizer.n_dims), classifier


def test_a_fusion_keeps_the_weights_of_its_parts(tmp_path: Path) -> None:
    bundle, classifier = _weighted(tmp_path)
    pair = [write_image(tmp_path / f"{seed}.jpg", seed=seed) for seed in (1, 2)]
    loaded = load_bundle(bundle)
    assert loaded.cells_[0].vectorizer.weights == [0.3, 1]  # type: ignore[attr-defined]
    assert loaded.cells_[0].vectorizer.label == "pixels?size=8&weight=0.3+classic"
    np.testing.assert_array_equal(
        loaded.predict_proba([pair]), classifier.predict_proba([pair])
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.4, 1], "is not that of its parts"),
        ([0.3], "weights of its vectorizer are not those of its parts"),
        ([0.3, 0], r"weights\[1\] is not legal"),
        ([0.3, -1], r"weights\[1\] is not legal"),
        ([0.3, 1e300], r"weights\[1\] is not legal"),
        ([0.3, True], r"weights\[1\] is not legal"),
        ("0.3,1", "must be a list of 1 to 32"),
        ([], "must be a list of 1 to 32"),
    ],
)
def test_weights_that_are_not_those_saved_are_refused(
    tmp_path: Path, weights: Any, message: str
) -> None:
    bundle, _ = _weighted(tmp_path)
    tamper(bundle, _set("vectorizers", 0, "weights", to=weights))
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle)


def test_networks_of_one_name_and_other_bytes_keep_apart(tmp_path: Path) -> None:
    specs = []
    for value in (1.0, 2.0):
        folder = tmp_path / str(value)
        folder.mkdir()
        specs.append(f"onnx:{tiny_network(folder / 'net.onnx', value)}")
    vectorizer = make_vectorizer("+".join(specs))
    classifier = make_classifier(vectorizer, "cosine", n_dims=6)
    bundle = save(tmp_path / "best.tllb", classifier, 6)
    assert (
        load_bundle(bundle).cells_[0].vectorizer.fingerprint == vectorizer.fingerprint
    )
    image = write_image(tmp_path / "a.jpg", seed=1)
    assert load_bundle(bundle).predict([[image, image]]).tolist() == [1]


def test_a_large_network_is_named_and_found_by_weights(
    tmp_path: Path, npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tllboost.bundle.vectorizers.MAX_NETWORK_BYTES", 1_000)
    classifier = make_classifier(f"vectors:{npz}")
    bundle = save(tmp_path / "best.tllb", classifier)
    assert not [m for m in read_manifest(bundle)["members"] if "network" in m]
    with pytest.raises(WeightsError, match=r"net\.npz.*--weights FILE"):
        load_bundle(bundle).predict(PAIRS)
    before = classifier.predict_proba(PAIRS)
    moved = npz.rename(tmp_path / "moved.npz")
    loaded = load_bundle(bundle, weights=moved)
    np.testing.assert_array_equal(loaded.predict_proba(PAIRS), before)
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, ids=np.array(["a"]), vectors=np.ones((1, N_DIMS)))
    with pytest.raises(WeightsError, match=r"is no network of this bundle.*net\.npz"):
        load_bundle(bundle, weights=[wrong])


def test_a_stored_vector_is_used_without_opening_the_network(
    tmp_path: Path,
) -> None:
    network = tiny_network(tmp_path / "net.onnx")
    classifier = make_classifier(f"onnx:{network}", "cosine", n_dims=3)
    bundle = save(tmp_path / "best.tllb", classifier, 3)
    pair = [str(write_image(tmp_path / f"{i}.jpg", seed=i)) for i in (1, 2)]
    code = """
import json, sys
from tllboost.bundle import load_bundle
bundle, store, left, right = sys.argv[1:]
probability = load_bundle(bundle, store=store).predict_proba([[left, right]])[0, 1]
print(json.dumps([probability, "onnxruntime" in sys.modules, "onnx" in sys.modules]))
"""
    command = [sys.executable, "-c", code, str(bundle), str(tmp_path / "store"), *pair]
    first, second = (
        json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        for _ in range(2)
    )
    assert first[1:] == [True, True]
    assert second == [first[0], False, False]


# What can't be saved


def test_what_another_machine_can_not_make_again_is_refused(
    tmp_path: Path, npz: Path
) -> None:
    class Mean:
        fingerprint, n_dims = "mean", N_DIMS

        def transform(self, images: Any) -> Any:
            return [[0.0] * N_DIMS for _ in images]

    cases: list[tuple[Any, str]] = [
        (make_classifier(f"vectors:{npz}", merge=_own_merge), "function"),  # type: ignore[arg-type]
        (
            make_classifier(f"vectors:{npz}", "sklearn.tree:DecisionTreeClassifier"),
            "tree",
        ),
        (make_classifier(f"vectors:{npz}", "sklearn.svm:SVC"), "not safe to load"),
        (make_classifier(Mean()), "it is an object"),
    ]
    for classifier, reason in cases:
        with pytest.raises(UsageError, match=reason) as caught:
            save(tmp_path / "best.tllb", classifier)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "best.tllb").exists()


def test_golden_pairs_must_be_of_the_heads_width(tmp_path: Path, npz: Path) -> None:
    classifier = make_classifier(f"vectors:{npz}")
    with pytest.raises(UsageError, match="golden of shapes"):
        save_bundle(
            tmp_path / "a.tllb",
            classifier,
            cell={},
            metrics={},
            golden=(np.ones((2, 3)), np.ones((3, 3))),
        )
    with pytest.raises(UsageError, match="wants 12 features, pairs have 3"):
        save_bundle(
            tmp_path / "a.tllb",
            classifier,
            cell={},
            metrics={},
            golden=(np.ones((2, 3)), np.ones((2, 3))),
        )


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit")
def test_a_full_disk_leaves_the_old_bundle_and_no_rest(bundle: Path, npz: Path) -> None:
    before = bundle.read_bytes()
    code = """
import resource, signal, sys
from pathlib import Path
from bundles import make_classifier, save
from tllboost.errors import DataError
classifier = make_classifier("vectors:" + sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    save(Path(sys.argv[1]), classifier)
except DataError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle), str(npz)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert "can't be written" in done.stdout
    assert bundle.read_bytes() == before
    assert sorted(p.name for p in bundle.parent.glob("*best*")) == ["best.tllb"]


# Code


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A vectorizer and a merge of the user's own; the file says when it was run."""
    marker = tmp_path / "was run"
    (tmp_path / "own_things.py").write_text(
        f"""
from pathlib import Path
import numpy as np
Path({str(marker)!r}).touch()

class Mean:
    fingerprint, n_dims = "mean 1", 3
    def transform(self, images):
        return [np.asarray(image).mean(axis=(0, 1)) for image in images]

def product(left, right):
    return left * right
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_things", raising=False)
    return marker


def test_code_of_a_users_own_is_run_only_on_trust(
    own_module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = make_classifier(
        "own_things:Mean", merge="own_things:product", n_dims=3
    )
    bundle = save(tmp_path / "best.tllb", classifier, 3)
    own_module.unlink()
    monkeypatch.delitem(sys.modules, "own_things")
    message = "own_things:Mean, own_things:product.*--trust-code"
    with pytest.raises(UsageError, match=message):
        load_bundle(bundle)
    assert read_manifest(bundle)["cells"][0]["merge"] == "own_things:product"
    assert not own_module.exists()
    image = write_image(tmp_path / "a.jpg", seed=1)
    loaded = load_bundle(bundle, trust_code=True)
    assert own_module.exists()
    np.testing.assert_array_equal(
        loaded.predict_proba([[image, image]]),
        classifier.predict_proba([[image, image]]),
    )


# Damage: without a new seal, any change is found


def unless_refused(path: Path) -> PairClassifier | None:
    """Load a bundle; a refusal must be a BundleError, never anything else."""
    try:
        return load_bundle(path)
    except BundleError:
        count("bad bundles tried")
        return None


def test_no_flipped_byte_changes_a_score(bundle: Path) -> None:
    whole = bundle.read_bytes()
    wanted = load_bundle(bundle).predict_proba(PAIRS)

    @settings(
        max_examples=200,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, len(whole) - 1), st.integers(1, 255))
    def check(place: int, change: int) -> None:
        damaged = bytearray(whole)
        damaged[place] ^= change
        bundle.write_bytes(damaged)
        loaded = unless_refused(bundle)
        if loaded is not None:  # a time stamp, say
            np.testing.assert_array_equal(loaded.predict_proba(PAIRS), wanted)
            count("results compared")

    check()


def test_no_cut_goes_unnoticed(bundle: Path) -> None:
    whole = bundle.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 150)):
        bundle.write_bytes(whole[:length])
        with refused():
            load_bundle(bundle)


@given(st.binary(max_size=300))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_noise_is_no_bundle(noise: bytes) -> None:
    path = Path(os.environ["XDG_CACHE_HOME"]).parent / "noise.tllb"
    path.write_bytes(noise)
    with refused("is not a bundle"):
        read_manifest(path)


def test_a_path_that_is_no_file_is_bad_input(tmp_path: Path) -> None:
    paths = [tmp_path, tmp_path / "none.tllb", "a\0b"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        paths.append(tmp_path / "pipe")
    for path in paths:
        with pytest.raises(DataError) as caught:
            load_bundle(path)
        assert caught.value.exit_code == 3


# The archive


def write_member(path: Path, name: str, data: bytes = b"x", **info: Any) -> None:
    member = zipfile.ZipInfo(name)
    for key, value in info.items():
        setattr(member, key, value)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, data)


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.py",
        "/etc/cron.d/evil",
        "network/../../evil.onnx",
        "network/sub/net.onnx",
        "network\\net.onnx",
        "C:evil.onnx",
        "0/head.pkl",
        "network/net.pt",
        "network/.npz",
        "network/",
        "head.skops",
        "64/head.skops",
        "00/head.skops",
        "0/../head.skops",
        "0/projection.pkl",
        "0/golden.safetensors",
        "golden.safetensors/",
        "README.md",
    ],
)
def test_members_that_a_bundle_does_not_have_are_refused(
    bundle: Path, name: str
) -> None:
    write_member(bundle, name)
    with refused("has no place in a bundle"):
        load_bundle(bundle)


def test_members_beside_the_manifest_are_refused(bundle: Path) -> None:
    write_member(bundle, "network/other.onnx")
    with refused("is not in the manifest"):
        load_bundle(bundle)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_stands_twice_is_refused(bundle: Path) -> None:
    write_member(bundle, "manifest.json", b"{}")
    with refused(r"'manifest\.json' stands twice"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("name", "size"), [("golden.safetensors", 64_000_001), ("manifest.json", 1_000_001)]
)
def test_zip_bombs_are_refused_unread(tmp_path: Path, name: str, size: int) -> None:
    bomb = tmp_path / "bomb.tllb"
    write_member(bomb, name, bytes(size), compress_type=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 100_000
    with refused("are allowed"):
        read_manifest(bomb)


def test_a_bomb_that_understates_its_size_is_cut_off(bundle: Path) -> None:
    data = bytes(10_000_000)
    tamper(bundle, lambda _, members: members.update({"0/head.skops": b"{}"}))
    with zipfile.ZipFile(bundle) as archive:
        kept = {i.filename: archive.read(i) for i in archive.infolist()}
    del kept["0/head.skops"]
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
        info = zipfile.ZipInfo("0/head.skops")
        archive.writestr(info, data, zipfile.ZIP_DEFLATED)
        info.file_size = 2  # what the directory at the end will say
    with refused(r"0/head\.skops"):
        load_bundle(bundle)


def test_encrypted_and_oddly_packed_members_are_refused(bundle: Path) -> None:
    whole = bundle.read_bytes()
    write_member(bundle, "0/head.skops", compress_type=zipfile.ZIP_BZIP2)
    with refused("compressed in a way"):
        load_bundle(bundle)
    directory = whole.rindex(b"PK\x01\x02")
    bundle.write_bytes(whole[: directory + 8] + b"\x01" + whole[directory + 9 :])
    with refused("is encrypted"):
        load_bundle(bundle)


def test_networks_that_unpack_to_more_than_they_take_are_refused(
    bundle: Path,
) -> None:
    with zipfile.ZipFile(bundle) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with refused(r"'network/net\.npz' is compressed"):
        read_manifest(bundle)


def test_members_that_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.tllb"
    with zipfile.ZipFile(bomb, "w") as archive:
        archive.writestr("manifest.json", b"{}")
        archive.writestr("network/a.onnx", bytes(1000))
        one = archive.infolist()[1]
        for index in range(50):  # further names for the same bytes
            other = zipfile.ZipInfo(f"network/a{index}.onnx")
            for key in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(other, key, getattr(one, key))
            archive.filelist.append(other)
    with refused("lie over each other"):
        read_manifest(bomb)


@pytest.mark.parametrize(
    "name", ["golden.safetensors", "0/head.safetensors", "network/net.npz"]
)
def test_a_missing_member_is_named(bundle: Path, name: str) -> None:
    tamper(bundle, lambda _, members: _drop(members, name), sealed=False)
    with refused(f"member '{name}' is missing"):
        read_manifest(bundle)
    tamper(bundle, lambda _, members: None)  # and out of the manifest too
    with refused():
        load_bundle(bundle)


# A forger's bundles: every sha256 is right


def _drop(members: Members, name: str) -> None:
    del members[name]


def _set(*path: Any, to: Any) -> Edit:
    """Return an edit that puts a value somewhere into the manifest."""

    def edit(manifest: dict[str, Any], members: Members) -> None:
        at: Any = manifest
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = to

    return edit


PART = ("vectorizers", 0, "parts", 0)
CELL = ("cells", 0)
FORGED_MANIFESTS: dict[str, tuple[Edit, str]] = {
    "newer format": (_set("version", to=4), "format version 4, this tllboost reads 3"),
    "older format": (_set("version", to=2), "format version 2, this tllboost reads 3"),
    "no format": (_set("format", to="zip"), "not that of a tllboost bundle"),
    "further key": (_set("exec", to="os.system"), "must hold"),
    "threshold is NaN": (_set("threshold", to=float("nan")), "NaN is not a number"),
    "threshold of a cell is none": (
        _set(*CELL, "threshold", to=None),
        r"cells\[0\]\.threshold is not legal",
    ),
    "threshold is text": (_set("threshold", to="0.5"), "threshold is not legal"),
    "threshold is huge": (_set("threshold", to=10**400), "threshold is not legal"),
    "slope is infinite": (
        _set(*CELL, "calibration", "slope", to=float("inf")),
        "Infinity is not a number",
    ),
    "merge is code": (_set(*CELL, "merge", to="dot+os:system"), "os:system"),
    "merge is no name": (
        _set(*CELL, "merge", to="sum"),
        "'sum' is no vectorizer or merge",
    ),
    "merge is another": (_set(*CELL, "merge", to="l1"), "golden pair"),
    "merge is wider": (
        _set(*CELL, "merge", to="concat"),
        "golden pairs can't be scored",
    ),
    "projection is unknown": (
        _set(*CELL, "projection", to="os:system"),
        "'os:system' is none that a bundle may hold",
    ),
    "vectorizer is none": (
        _set(*CELL, "vectorizer", to=1),
        r"cells\[0\]\.vectorizer is none of its 1",
    ),
    "vectorizer is below none": (
        _set(*CELL, "vectorizer", to=-1),
        "vectorizer is not legal",
    ),
    "no cells": (_set("cells", to=[]), "must be a list of 1 to 64"),
    "cells without end": (
        lambda manifest, _: manifest["cells"].extend(manifest["cells"] * 64),
        "must be a list of 1 to 64",
    ),
    "head is unknown": (_set(*CELL, "head", "name", to="os:system"), "is not known"),
    "head is of a new format": (
        _set(*CELL, "head", "format", to="pickle"),
        "head can't be loaded",
    ),
    "head is another": (
        _set(*CELL, "head", "format", to="dense"),
        "head can't be loaded",
    ),
    "head is a path": (_set(*CELL, "head", "name", to="os:system"), "is not known"),
    "vectorizer is code": (_set(*PART, "spec", to="os:system"), "os:system"),
    "vectorizer is unknown": (_set(*PART, "spec", to="nets"), "is no vectorizer"),
    "vectorizer is a fusion": (
        _set(*PART, "spec", to="vectors:net.npz?x=1"),
        "unknown option 'x'",
    ),
    "threads are set": (
        _set(*PART, "spec", to="onnx:net.npz?n_threads=9999"),
        "unknown option 'n_threads'",
    ),
    "vectorizer needs no file": (_set(*PART, "spec", to="classic"), "don't fit"),
    "file is elsewhere": (_set(*PART, "file", to=None), "don't fit"),
    "file is of another hash": (
        _set(*PART, "file", "sha256", to="0" * 64),
        "fingerprint of 'vectors:net' is not that of its network",
    ),
    "file climbs out": (_set(*PART, "file", "name", to="../evil.npz"), "is not in it"),
    "fingerprint is another's": (
        _set(*PART, "fingerprint", to="classic|descriptors 1|float32"),
        "is not that of its network",
    ),
    "whole and part differ": (
        _set("vectorizers", 0, "fingerprint", to="x"),
        "is not that of its parts",
    ),
    "width differs": (_set(*PART, "n_dims", to=13), "is not that of its parts"),
    "images are vast": (
        _set(*PART, "input_size", to=10**6),
        "input_size is not legal",
    ),
    "label moves the cursor": (
        _set(*PART, "label", to="\x1b[2J"),
        "label is not legal",
    ),
    "no parts": (_set("vectorizers", 0, "parts", to=[]), "must be a list of 1 to 32"),
    "parts is text": (_set("vectorizers", 0, "parts", to="abc"), "must be a list"),
    "cell is deep": (_set("cell", to={"a": {"b": 1}}), "cell is not legal"),
}


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


def _tensors(name: str, change: Callable[[dict[str, np.ndarray]], None]) -> Edit:
    def edit(_: dict[str, Any], members: Members) -> None:
        arrays = {
            key: value.copy() for key, value in load_tensors(members[name]).items()
        }
        change(arrays)
        members[name] = save_tensors(arrays)

    return edit


def _put(key: str, index: Any, value: float) -> Callable[[dict[str, np.ndarray]], None]:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[key][index] = value

    return change


def _recast(key: str, value: Any) -> Callable[[dict[str, np.ndarray]], None]:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[key] = value

    return change


GOLDEN, HEAD = "golden.safetensors", "0/head.safetensors"
FORGED_NUMBERS: dict[str, tuple[Edit, str]] = {
    "golden score": (
        _tensors(GOLDEN, lambda arrays: arrays["score"].__imul__(1.01)),
        "scores .* here and scored .* when it was saved",
    ),
    "golden NaN": (
        _tensors(GOLDEN, _put("left.0", (0, 0), np.nan)),
        "golden pairs are not",
    ),
    "golden infinity": (
        _tensors(GOLDEN, _put("score", 0, np.inf)),
        "golden pairs are not",
    ),
    "golden float64": (
        _tensors(GOLDEN, _recast("left.0", np.ones((8, N_DIMS)))),
        "golden pairs are not",
    ),
    "golden width": (
        _tensors(GOLDEN, _recast("left.0", np.ones((8, 3), np.float32))),
        "golden pairs are not",
    ),
    "no golden": (
        _tensors(GOLDEN, _recast("left.0", np.ones((0, N_DIMS), np.float32))),
        "golden pairs are not",
    ),
    "golden noise": (
        lambda _, members: members.update({GOLDEN: b"noise"}),
        "golden pairs are damaged",
    ),
    "other weights": (_tensors(HEAD, _put("coef", 0, 9.0)), "golden pair"),
    "NaN weights": (_tensors(HEAD, _put("coef", 0, np.nan)), "not a finite number"),
    "fewer weights": (
        _tensors(HEAD, _recast("coef", np.ones(3, np.float32))),
        "golden pairs can't be scored",
    ),
    "head noise": (lambda _, members: members.update({HEAD: b"noise"}), "is damaged"),
    "head beside": (
        lambda _, members: members.update({"0/head.skops": b"noise"}),
        "its head must be one head.safetensors",
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
    tmp_path: Path, made: dict[str, bytes], head: str, key: str, value: int
) -> None:
    bundle = tmp_path / "best.tllb"
    bundle.write_bytes(made[head])
    tamper(bundle, _tensors(HEAD, _put(key, 0, value)))
    with refused("out of range"):
        load_bundle(bundle)


@pytest.fixture
def boosted(tmp_path: Path, made: dict[str, bytes]) -> Path:
    path = tmp_path / "best.tllb"
    path.write_bytes(made["boosted"])
    return path


def test_trees_in_a_bundle_are_those_of_a_known_kind(boosted: Path) -> None:
    tamper(boosted, _set("cells", 0, "head", "format", to="dart"))
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
        (skops.io.dumps(np.ones(3)), "no estimator of scikit-learn"),
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


# Networks


def _onnx(file: Path, **options: Any) -> Any:
    from tllboost.vectorizers.onnx import OnnxVectorizer

    return OnnxVectorizer(file, **options)


def test_a_bundle_that_lies_about_its_vectors_leaves_none_in_the_store(
    tmp_path: Path,
) -> None:
    network = tiny_network(tmp_path / "net.onnx")
    classifier = make_classifier(f"onnx:{network}", "cosine", n_dims=3)
    bundle = save(tmp_path / "best.tllb", classifier, 3)
    honest = classifier.cells_[0].vectorizer.fingerprint
    tamper(bundle, _set(*PART, "spec", to="onnx:net.onnx?size=32"))
    image = write_image(tmp_path / "a.jpg", seed=1)
    loaded = load_bundle(bundle, store=tmp_path / "store")
    assert loaded.cells_[0].vectorizer.fingerprint == honest
    with refused(r"fingerprint is not what.*32x32.*not to be"):
        loaded.predict([[image, image]])
    with VectorStore(tmp_path / "store") as store:
        assert store.info() == [] or all(row["n_rows"] == 0 for row in store.info())


def test_a_network_that_changed_in_the_cache_is_unpacked_again(
    bundle: Path, cache: Path
) -> None:
    wanted = load_bundle(bundle).predict_proba(PAIRS)
    (file,) = (path for path in cache.rglob("*") if path.is_file())
    kept = file.stat().st_mtime_ns
    load_bundle(bundle)
    assert file.stat().st_mtime_ns == kept
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    np.testing.assert_array_equal(load_bundle(bundle).predict_proba(PAIRS), wanted)


def test_a_home_that_can_not_be_written_is_no_hindrance(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(load_bundle(bundle).predict(PAIRS)) == len(PAIRS)


# Real weights


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["onnx", "timm", "fusion"])
def test_real_networks_travel_in_the_bundle(
    shared: Path, tll: Path, tmp_path: Path, kind: str
) -> None:
    weights = shared / "weights"
    name = {
        "onnx": f"onnx:{weights}/mobilenetv2.onnx",
        "timm": f"timm:mobilenetv2_100@{weights}/mobilenetv2_100.safetensors",
        "fusion": f"onnx:{weights}/squeezenet1_1.onnx+classic",
    }[kind]
    vectorizer = make_vectorizer(name)
    classifier = make_classifier(vectorizer, n_dims=vectorizer.n_dims)
    bundle = save(tmp_path / "best.tllb", classifier, vectorizer.n_dims)
    assert bundle.stat().st_size < 15e6
    assert str(shared) not in json.dumps(read_manifest(bundle))
    rows = (tll / "pairs.csv").read_text().split()[1:4]
    pairs = [
        [tll / "left" / f"{left}.jpg", tll / "right" / f"{right}.jpg"]
        for left, right in (row.split(",") for row in rows)
    ]
    loaded = load_bundle(bundle, offline=True)
    np.testing.assert_allclose(
        loaded.predict_proba(pairs), classifier.predict_proba(pairs), rtol=1e-6
    )
    paths = [path for pair in pairs for path in pair]
    found = vectorize(loaded.cells_[0].vectorizer, paths)
    assert found.vectors.shape == (6, vectorizer.n_dims)


def _own_merge(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return left * right
