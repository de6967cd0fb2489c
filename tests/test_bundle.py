"""Bundles come back as they were saved; what can't come back is not saved."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import (
    N_DIMS,
    PAIRS,
    made_bundle,
    make_classifier,
    make_vectors,
    save,
    tiny_network,
    write_npz,
)
from conftest import HEADS_HERE, write_image
from sklearn.base import clone

from tllboost.bundle import read_manifest, save_bundle
from tllboost.classifier import load_bundle
from tllboost.errors import UsageError, WeightsError
from tllboost.heads.boosting import XGBoostHead
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizing import vectorize


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


# Round trips


@pytest.mark.parametrize("head", [*HEADS_HERE, "sklearn.linear_model:RidgeClassifier"])
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
        golden=[(vectors[:8], vectors[8:16])],
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
    from tllboost.vectorizers import FusionVectorizer

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


def test_a_fusion_keeps_the_weights_of_its_parts(tmp_path: Path) -> None:
    vectorizer = make_vectorizer("pixels?size=8&weight=0.3+classic")
    classifier = make_classifier(vectorizer, "cosine", n_dims=vectorizer.n_dims)
    bundle = save(tmp_path / "best.tllb", classifier, vectorizer.n_dims)
    pair = [write_image(tmp_path / f"{seed}.jpg", seed=seed) for seed in (1, 2)]
    loaded = load_bundle(bundle)
    assert loaded.cells_[0].vectorizer.weights == [0.3, 1]  # type: ignore[attr-defined]
    assert loaded.cells_[0].vectorizer.label == "pixels?size=8&weight=0.3+classic"
    np.testing.assert_array_equal(
        loaded.predict_proba([pair]), classifier.predict_proba([pair])
    )


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
    with pytest.raises(WeightsError, match=r"not a network of this bundle.*net\.npz"):
        load_bundle(bundle, weights=[wrong])
    again = save(tmp_path / "again.tllb", load_bundle(bundle))
    assert not [m for m in read_manifest(again)["members"] if "network" in m]
    loaded = load_bundle(again, weights=moved)
    np.testing.assert_array_equal(loaded.predict_proba(PAIRS), before)


def test_a_stored_vector_is_used_without_opening_the_network(
    tmp_path: Path,
) -> None:
    network = tiny_network(tmp_path / "net.onnx")
    classifier = make_classifier(f"onnx:{network}", "cosine", n_dims=3)
    bundle = save(tmp_path / "best.tllb", classifier, 3)
    pair = [str(write_image(tmp_path / f"{i}.jpg", seed=i)) for i in (1, 2)]
    code = """
import json, sys
from tllboost.classifier import load_bundle
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
    with pytest.raises(UsageError, match="golden must be the left and the right"):
        save_bundle(
            tmp_path / "a.tllb",
            classifier,
            cell={},
            metrics={},
            golden=[(np.ones((2, 3)), np.ones((3, 3)))],
        )
    with pytest.raises(UsageError, match="wants 12 features, pairs have 3"):
        save_bundle(
            tmp_path / "a.tllb",
            classifier,
            cell={},
            metrics={},
            golden=[(np.ones((2, 3)), np.ones((2, 3)))],
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


# Networks


def _onnx(file: Path, **options: Any) -> Any:
    from tllboost.vectorizers.onnx import OnnxVectorizer

    return OnnxVectorizer(file, **options)


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
