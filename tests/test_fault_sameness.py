"""The same figures, whoever does the work, in whatever order and portions."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import pytest
from conftest import HEADS_HERE
from killed_work import grid_of, make_pairs
from reliability import count

from tllboost.grid.run import run_grid
from tllboost.metrics import METRICS
from tllboost.pairs import read_pairs
from tllboost.processes import Processes
from tllboost.splits import Protocol
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizing import vectorize

COSTS = {"vectorize_s", "project_s", "fit_s", "score_s", "peak_memory_mb"}


def results_of(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in COSTS} for row in rows]


def test_no_figure_of_any_head_depends_on_the_workers_or_the_order_of_the_file(
    tmp_path: Path,
) -> None:
    pairs = make_pairs(tmp_path, 40)
    header, *rows = pairs.read_text().splitlines()
    random.Random(3).shuffle(rows)
    shuffled = tmp_path / "shuffled.csv"
    shuffled.write_text("\n".join([header, *rows]))
    heads = [name for name in HEADS_HERE if name != "joined"]  # made by its projection
    # Every head on vectors as they are, and one on a projection.
    for projection, some in (("none", heads), ("infonce?epochs=2", ["logistic"])):
        told = []
        for table, n_jobs in ((pairs, 1), (shuffled, 2)):
            out = tmp_path / f"{projection[:4]}{n_jobs}"
            result = grid_of(
                table,
                out,
                heads=some,
                projections=[projection],
                protocol=Protocol("holdout", n_distractors=4),
                backend=Processes(n_jobs),
            )
            assert result.exit_code == 0
            told.append(results_of(out))
        one, other = told
        assert one == other
        assert {"cosine", *some} == {row["head"] for row in one}
        count("results compared", len(one))


@pytest.mark.shared
def test_the_size_of_a_batch_moves_figures_of_a_real_network_by_less_than_a_hundredth(
    shared: Path, tll: Path, tmp_path: Path
) -> None:
    spec = f"onnx:{shared / 'weights' / 'mobilenetv2.onnx'}"
    given = (tll / "pairs.csv").read_text(encoding="utf-8").splitlines()
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("\n".join(given[:37]), encoding="utf-8")
    table = read_pairs(pairs, left=tll / "left", right=tll / "right")
    found = []
    for size in (1, 5, 32):
        store = tmp_path / f"store{size}"
        vectorizer = make_vectorizer(spec)
        made = vectorize(vectorizer, table.paths, store=store, batch_size=size)
        result = run_grid(
            table,
            [spec],
            ["l1"],
            ["logistic", "naive-bayes"],
            out=tmp_path / f"out{size}",
            store=store,
            protocol=Protocol("kfold", n_folds=2, n_distractors=9),
            backend=Processes(1),
        )
        figures = [[row[name] for name in METRICS] for row in result.rows]
        found.append((made.vectors, np.array(figures, float)))
    (vectors, figures), *others = found
    for other_vectors, other_figures in others:
        scale = np.abs(vectors).max()
        np.testing.assert_allclose(other_vectors, vectors, atol=1e-5 * scale)
        np.testing.assert_allclose(other_figures, figures, atol=0.01)
        count("results compared", len(figures))
