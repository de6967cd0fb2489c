"""Make small bundles for tests, and bundles that have been tampered with."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reliability import count
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from tllboost.bundle import save_bundle
from tllboost.classifier import PairClassifier, ensemble, load_bundle
from tllboost.errors import BundleError
from tllboost.heads.boosting import XGBoostHead
from tllboost.projections import PROJECTIONS, make_projection
from tllboost.scoring import FittedCell, PairScorer
from tllboost.splits import Protocol, SplitTable, make_splits, match_components
from tllboost.vectorizers import make_vectorizer

N_PAIRS, N_DIMS = 120, 12
# Those that map any vectors; others look at images.
MAPS = [name for name in PROJECTIONS if name not in ("finetune", "siamese-cnn")]
LEFT, RIGHT = np.arange(N_PAIRS), np.arange(N_PAIRS, 2 * N_PAIRS)
IDS = [f"left{i:03d}" for i in range(N_PAIRS)] + [
    f"right{i:03d}" for i in range(N_PAIRS)
]

PAIRS = [[IDS[left], IDS[right]] for left in LEFT[:20] for right in RIGHT[:3]]
GOLDEN, HEAD = "golden.safetensors", "0/head.safetensors"


def make_vectors(n_dims: int = N_DIMS) -> np.ndarray:
    """Return the vectors of 120 pairs that are alike but for noise."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(N_PAIRS, n_dims))
    noisy = base + 1.5 * rng.normal(size=base.shape)
    return np.vstack([base, noisy]).astype(np.float32)


def write_npz(path: Path) -> Path:
    np.savez(path, ids=np.array(IDS), vectors=make_vectors())
    return path


def tiny_network(path: Path, factor: float = 1.0) -> Path:
    """Write a network whose vectors are the mean colours times a factor."""
    from onnx import TensorProto, helper, numpy_helper
    from onnx import save as save_onnx

    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["images", "factor"], ["scaled"]),
            helper.make_node("GlobalAveragePool", ["scaled"], ["vectors"]),
        ],
        "network",
        [helper.make_tensor_value_info("images", 1, ("n", 3, None, None))],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32([factor]), "factor")],
    )
    opset = helper.make_opsetid("", 13)
    save_onnx(helper.make_model(graph, opset_imports=[opset], ir_version=8), str(path))
    return path


def make_cell(
    vectorizer: Any,
    head: Any = "logistic",
    merge: str = "dot",
    n_dims: int = N_DIMS,
    projection: str = "none",
) -> FittedCell:
    """Return a cell fitted on made vectors, as the grid puts one together."""
    vectors = make_vectors(n_dims)
    (split,) = make_splits(
        SplitTable(
            LEFT, RIGHT, np.ones(N_PAIRS), match_components(len(vectors), LEFT, RIGHT)
        ),
        protocol=Protocol(n_distractors=5),
        seed=0,
    )
    learned = make_projection(projection, device="cpu", n_threads=1)
    projected = vectors
    if learned is not None:
        learned.fit(vectors, split.train, split.validation)
        projected = learned.transform(vectors)
    joined = getattr(learned, "joined_", None)
    scorer = PairScorer(merge, head)
    scorer.compare_with(projected, split.train)
    scorer.fit(
        scorer.features(projected, split.train, frozen=vectors, joined=joined),
        split.train,
        scorer.features(projected, split.validation, frozen=vectors),
        split.validation,
    )
    return FittedCell(make_vectorizer(vectorizer), learned, scorer)


def make_classifier(
    vectorizer: Any,
    head: Any = "logistic",
    merge: str = "dot",
    n_dims: int = N_DIMS,
    projection: str = "none",
) -> PairClassifier:
    """Return a classifier of one such cell."""
    return ensemble([make_cell(vectorizer, head, merge, n_dims, projection)])


def save(path: Path, classifier: PairClassifier, n_dims: int | None = None) -> Path:
    """Save with golden vectors as wide as those of each cell, or of `n_dims`."""
    widths = [n_dims or cell.vectorizer.n_dims for cell in classifier.cells_]
    blocks = [make_vectors(width) for width in widths]
    save_bundle(
        path,
        classifier,
        cell={"merge": classifier.merge, "projection": None},
        metrics={"top1": np.float64(0.5), "roc_auc": np.nan},
        golden=[(vectors[LEFT[:8]], vectors[RIGHT[:8]]) for vectors in blocks],
    )
    return path


@functools.cache
def made_bundle(head: str) -> bytes:
    """Return a bundle to copy: fitting one takes longer than any test of it."""
    trees = XGBoostHead(start="none", n_estimators=20, max_depth=3)
    heads: dict[str, Any] = {"boosted": trees, "forest": "random-forest"}
    with tempfile.TemporaryDirectory() as folder:
        npz = write_npz(Path(folder, "net.npz"))
        classifier = make_classifier(f"vectors:{npz}", heads.get(head, head))
        return save(Path(folder, "best.tllb"), classifier).read_bytes()


@contextmanager
def refused(match: str | None = None) -> Iterator[pytest.ExceptionInfo[BundleError]]:
    """Expect that a bundle is refused, in one line, with the exit code for that."""
    with pytest.raises(BundleError, match=match) as caught:
        yield caught
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)
    count("bad bundles tried")


Members = dict[str, bytes]
Edit = Callable[[dict[str, Any], Members], None]


def tamper(path: Path, edit: Edit, *, sealed: bool = True) -> Path:
    """Change a bundle; `sealed` makes every sha256 right again, as a forger would."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    edit(manifest, members)
    if sealed:
        manifest["members"] = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for name, data in members.items()
        }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def unless_refused(path: Path) -> PairClassifier | None:
    """Load a bundle; a refusal must be a BundleError, never anything else."""
    try:
        return load_bundle(path)
    except BundleError:
        count("bad bundles tried")
        return None


def put_in(*path: Any, to: Any) -> Edit:
    """Return an edit that puts a value somewhere into the manifest."""

    def edit(manifest: dict[str, Any], members: Members) -> None:
        at: Any = manifest
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = to

    return edit


def in_tensors(name: str, change: Callable[[dict[str, np.ndarray]], Any]) -> Edit:
    """Return an edit of the arrays in a member."""

    def edit(_: dict[str, Any], members: Members) -> None:
        arrays = {
            key: value.copy() for key, value in load_tensors(members[name]).items()
        }
        change(arrays)
        members[name] = save_tensors(arrays)

    return edit
