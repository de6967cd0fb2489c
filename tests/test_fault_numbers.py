"""Numbers that are no use: caught where they come from, and named."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bundles import make_classifier, save, tiny_network, write_npz
from conftest import Run, write_image
from makers import features_of, fit, plant
from PIL import Image
from reliability import count

from tllboost.errors import DataError, ImageError
from tllboost.metrics import match_ranks, ranking_figures
from tllboost.splits import Protocol
from tllboost.vectorizers.arrays import ArrayVectorizer
from tllboost.vectorizers.onnx import OnnxVectorizer


def overflowing(path: Path, *, half: bool) -> Path:
    """Write a network that gives infinity for all images but dark ones."""
    from onnx import TensorProto, helper, numpy_helper, save

    kind, dtype = (
        (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    )
    factor = numpy_helper.from_array(np.array([3e4 if half else 3e38], dtype), "factor")
    nodes = [
        helper.make_node("GlobalMaxPool", ["images"], ["most"]),
        helper.make_node("Mul", ["most", "factor"], ["vectors"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", kind, ("n", 3, 32, 32))],
        [helper.make_tensor_value_info("vectors", kind, None)],
        [factor],
    )
    opset = helper.make_opsetid("", 13)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=8), str(path))
    return path


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_vectors_that_overflow_are_caught_at_the_image(
    run: Run, tmp_path: Path, half: bool
) -> None:
    network = overflowing(tmp_path / "net.onnx", half=half)
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (32, 32), (128, 120, 110)).save(folder / "grey.png")
    Image.new("RGB", (32, 32), "white").save(folder / "white.png")
    vectorizer = OnnxVectorizer(network)
    assert np.isfinite(vectorizer.transform([folder / "grey.png"])).all()
    with pytest.raises(ImageError, match=r"white\.png: its vector holds NaN or inf"):
        vectorizer.transform([folder / "grey.png", folder / "white.png"])
    done = run(
        "vectorize", folder, "-v", f"onnx:{network}", "--store", tmp_path / "store"
    )
    assert done.returncode == 4
    assert "white.png" in done.stderr
    assert "its vector holds NaN or infinity" in done.stderr
    assert "Traceback" not in done.stderr
    count("bad numbers tried")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, -np.inf])
def test_bad_vectors_of_ones_own_are_named_by_their_id(
    tmp_path: Path, value: float
) -> None:
    vectors = np.ones((3, 4))
    vectors[1, 2] = value
    np.savez(tmp_path / "v.npz", ids=np.array(["a", "b", "c"]), vectors=vectors)
    with pytest.raises(DataError, match="the vector of 'b' holds NaN or infinity"):
        ArrayVectorizer(tmp_path / "v.npz").lookup(["a"])
    count("bad numbers tried")


@pytest.mark.parametrize("head", ["cosine", "logistic", "xgboost"])
def test_constant_features_score_alike_and_rank_last(head: str) -> None:
    data = plant(60)
    vectors = np.ones_like(data.vectors)
    scorer = fit(data._replace(vectors=vectors), head, n_threads=1)
    score = scorer.score(features_of(data._replace(vectors=vectors)))
    assert len(np.unique(score)) == 1
    test = data.split.test
    _, ranks, n_candidates = match_ranks(score, test.label, test.query)
    np.testing.assert_array_equal(ranks, n_candidates)
    assert ranks.min() > 1
    count("bad numbers tried")


def test_one_query_alone_has_figures() -> None:
    _, ranks, _ = match_ranks(
        np.array([0.9, 0.8, 0.1]), np.array([0, 1, 0]), np.array([7, 7, 7])
    )
    figures = ranking_figures(ranks, np.array([3]))
    assert ranks.tolist() == [2]
    assert figures["top1"].value == 0
    assert figures["top2"].value == 1
    assert figures["mrr"].value == 0.5
    count("bad numbers tried")


def test_fewer_candidates_than_asked_are_all_that_there_are(
    run: Run, tmp_path: Path
) -> None:
    data = plant(20, protocol=Protocol(n_distractors=500))
    test = data.split.test
    sizes = np.bincount(test.query)[np.unique(test.query)]
    assert set(sizes.tolist()) == {len(sizes)}
    network = tiny_network(tmp_path / "net.onnx")
    classifier = make_classifier(f"onnx:{network}", "cosine", n_dims=3)
    bundle = save(tmp_path / "best.tllb", classifier, 3)
    folder = tmp_path / "among"
    folder.mkdir()
    for seed in range(3):
        write_image(folder / f"{seed}.png", seed=seed)
    query = write_image(tmp_path / "query.png", seed=1)
    done = run("rank", bundle, query, "--among", folder, "--top", "50", "--csv")
    assert done.returncode == 0
    assert len(done.table) == 3
    count("bad numbers tried")


# Nothing grows


SOAK = """
import csv, sys, gc
import psutil
from tllboost.classifier import load_bundle

classifier = load_bundle(sys.argv[1])
with open(sys.argv[2], newline="") as file:
    pairs = [row for row in csv.reader(file)]
process = psutil.Process()
wanted = classifier.decision_function(pairs).tolist()
largest = max(map(abs, wanted))
n_wrong, used = 0, []
for index in range(10_000):
    at = index % len(pairs)
    (score,) = classifier.decision_function(pairs[at : at + 1])
    n_wrong += abs(score - wanted[at]) > 1e-6 * largest
    if index % 1_000 == 999:
        gc.collect()
        used.append(process.memory_info().rss)
        files = process.num_fds() if hasattr(process, "num_fds") else 0
        print(used[-1], files, n_wrong)
"""


def test_ten_thousand_scores_take_no_more_memory_than_a_thousand(
    tmp_path: Path,
) -> None:
    base = f"vectors:{write_npz(tmp_path / 'net.npz')}"
    bundle = save(tmp_path / "best.tllb", make_classifier(base, "logistic"))
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        rows = [(f"left{i:03d}", f"right{(7 * i) % 120:03d}") for i in range(100)]
        csv.writer(file).writerows(rows)
    done = subprocess.run(
        [sys.executable, "-c", SOAK, bundle, tmp_path / "pairs.csv"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = [[int(one) for one in line.split()] for line in done.stdout.splitlines()]
    used, files, wrong = zip(*found, strict=True)
    assert len(used) == 10
    assert used[-1] - used[0] < 4 * 2**20, used
    assert files[-1] == files[0]
    assert wrong[-1] == 0
    count("scores soaked", 10_000)
    count("results compared", 10_000)
    count("wrong results served", wrong[-1])
