"""What is written is read again as it was, whatever it was."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from bundles import IDS, LEFT, RIGHT, save
from hypothesis import given, settings
from hypothesis import strategies as st
from reliability import count

from tllboost.classifier import ensemble, load_bundle
from tllboost.files import plain_cell
from tllboost.grid.outputs import RESULT_COLUMNS, write_csv
from tllboost.merges import MERGES, SIMILARITY
from tllboost.metrics import METRICS
from tllboost.scoring import FittedCell, PairScorer
from tllboost.splits import Protocol, SplitTable, make_splits, match_components
from tllboost.vectorizers import make_vectorizer

PAIRS = [[IDS[left], IDS[right]] for left in LEFT[:6] for right in RIGHT[:6]]
# Those that are quick; test_bundle.py and test_bundle_cells.py save every kind.
HEADS = ("cosine", "logistic", "linear-svm", "naive-bayes", "xgboost", "xgboost-rank")
PLAIN = [name for name in MERGES if name != SIMILARITY]  # which stands alone
merges = st.lists(st.sampled_from(PLAIN), min_size=1, max_size=2, unique=True)
either = merges.map("+".join) | st.just(SIMILARITY)
cells = st.tuples(st.sampled_from(HEADS), either)


def fitted(folder: Path, rng: np.random.Generator, head: str, merge: str) -> FittedCell:
    """Fit a head to vectors of any width, scale and noise."""
    n_dims = int(rng.integers(1, 20))
    base = rng.normal(size=(len(LEFT), n_dims))
    noisy = base + rng.uniform(0, 3) * rng.normal(size=base.shape)
    vectors = np.vstack([base, noisy]) * 10.0 ** rng.uniform(-3, 3)
    path = folder / f"{n_dims}-{rng.integers(1 << 30)}.npz"
    np.savez(path, ids=np.array(IDS), vectors=vectors.astype(np.float32))
    (split,) = make_splits(
        SplitTable(
            LEFT, RIGHT, np.ones(len(LEFT)), match_components(len(vectors), LEFT, RIGHT)
        ),
        protocol=Protocol(n_distractors=5),
        seed=int(rng.integers(100)),
    )
    scorer = PairScorer(merge, head)
    given = vectors.astype(np.float32)
    train, validation = split.train, split.validation
    scorer.compare_with(given, train)
    scorer.fit(
        scorer.features(given, train),
        train,
        scorer.features(given, validation),
        validation,
    )
    return FittedCell(make_vectorizer(f"vectors:{path}"), None, scorer)


@settings(max_examples=12)
@given(st.lists(cells, min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_whatever_a_bundle_holds_scores_as_before(
    drawn: list[tuple[str, str]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    with TemporaryDirectory() as name:
        folder = Path(name)
        made = ensemble([fitted(folder, rng, head, merge) for head, merge in drawn])
        loaded = load_bundle(save(folder / "one.tllb", made))
        again = load_bundle(save(folder / "two.tllb", loaded))
        wanted = made.decision_function(PAIRS)
        for one in (loaded, again):
            np.testing.assert_array_equal(one.decision_function(PAIRS), wanted)
            np.testing.assert_array_equal(
                one.predict_proba(PAIRS), made.predict_proba(PAIRS)
            )
            np.testing.assert_array_equal(one.predict(PAIRS), made.predict(PAIRS))
    count("results compared", 2 * len(PAIRS))


texts = st.text(
    st.one_of(st.sampled_from("'=+-@\t\n\",;1e"), st.characters(codec="utf-8")),
    max_size=12,
)
numbers = st.one_of(st.none(), st.integers(-(10**9), 10**9), st.floats(width=32))
rows = st.lists(
    st.fixed_dictionaries(
        {"vectorizer": texts, "head": texts, "error": texts}
        | dict.fromkeys(METRICS, numbers),
    ),
    max_size=4,
)


@given(rows)
def test_results_come_back_from_their_table(rows: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as name:
        path = Path(name, "results.csv")
        columns = [[row.get(name) for name in RESULT_COLUMNS] for row in rows]
        write_csv(path, RESULT_COLUMNS, columns)
        text = path.read_bytes().decode("utf-8")
    found = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert len(found) == len(rows)
    for row, given_row in zip(found, rows, strict=True):
        assert tuple(row) == RESULT_COLUMNS
        for column in ("vectorizer", "head", "error"):
            assert plain_cell(row[column]) == given_row[column]
        for metric in METRICS:
            value, cell = given_row[metric], row[metric]
            if value is None or not math.isfinite(value):
                assert cell == ""
            elif isinstance(value, int):
                assert int(cell) == value
            else:
                assert math.isclose(float(cell), value, rel_tol=1e-5)
