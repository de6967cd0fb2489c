"""A merge of the grid of the 2017 Holidays experiments, against the way of a notebook.

Vectors of 2,048 columns, 4,144 pairs, four classifiers. All three merges, with the bar
for them, are whole_grid.py's. A pair of runs is one vectorizer, each another. The
notebook merges with numpy, and fits scikit-learn and XGBoost at their defaults, one
cell after another. Both sides see the same pairs; ours keeps a seventh of the training
pairs as validation to choose by, where the notebook trains on all of them.

Then ours as it is called without a thought, with five non-matches drawn for each match,
held against the times of the same notebook, which draws none.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench import compare, machine, options, spread, timed, written
from holidays_shape import Shape, make_shape, make_vectors, write_table, write_vectors

from tllboost.grid.run import run_grid
from tllboost.splits import Protocol

MERGES = ("cosdot",)
HEADS = ("naive-bayes", "linear-svm", "xgboost", "random-forest")
# Not one pair is drawn beside those of the table, but for the ranking.
GIVEN = Protocol("given", n_negatives=0, n_distractors=1)
DEFAULT = Protocol("given")
BAR, DEFAULT_BAR = 9, 5
LESS = 0.01  # of AUC that may be luck, on 1,243 test pairs
LESS_IN_MEAN = 0.001  # over the vectorizers

Figures = dict[tuple[str, str], float]


def notebook(
    vectors: np.ndarray, shape: Shape, merges: tuple[str, ...], *, short: bool = False
) -> Figures:
    """Return the AUC of each merge and classifier, as a notebook would find it.

    `short` stops each fit early: memory is at its peak before.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.naive_bayes import GaussianNB
    from sklearn.svm import LinearSVC
    from xgboost import XGBClassifier

    test = shape.side == "test"
    a, b = vectors[shape.left], vectors[shape.right]
    figures = {}
    for merge in merges:
        if merge == "cosdot":
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            features = a * b / norms[:, None]
        else:
            features = np.abs(a - b) if merge == "l1" else (a - b) ** 2
        few: dict[str, Any] = {"n_estimators": 2} if short else {}
        classifiers = {
            "naive-bayes": GaussianNB(),
            "linear-svm": LinearSVC(**({"max_iter": 2} if short else {})),
            "xgboost": XGBClassifier(**few),
            "random-forest": RandomForestClassifier(**few),
        }
        x_train, x_test = features[~test], features[test]
        for head, classifier in classifiers.items():
            classifier.fit(x_train, shape.label[~test])
            if head == "linear-svm":
                score = classifier.decision_function(x_test)
            else:
                score = classifier.predict_proba(x_test)[:, 1]
            figures[merge, head] = float(roc_auc_score(shape.label[test], score))
    return figures


def grid(
    folder: Path,
    table: Any,
    vectorizer: str,
    merges: tuple[str, ...],
    protocol: Protocol | None = None,
    spent: Counter[str] | None = None,
) -> Figures:
    """Return the AUC of each merge and head, as our grid finds it.

    By default on the sides that the table names; `spent` gets the seconds of each
    head's fits and scores.
    """
    with tempfile.TemporaryDirectory(dir=folder) as out:
        result = run_grid(
            table,
            [vectorizer],
            merges,
            HEADS,
            out=Path(out) / "run",
            store=Path(out) / "store",
            protocol=protocol or GIVEN,
            metric="roc_auc",
            refit=False,  # the notebook keeps no model
        )
    rows = [row for row in result.rows if row["head"] in HEADS]
    assert all(row["status"] == "ok" for row in rows), rows
    for row in rows if spent is not None else ():
        spent[row["head"]] += row["fit_s"] + row["score_s"]
    return {(row["merge"], row["head"]): float(row["roc_auc"]) for row in rows}


def in_turn(works: list[Callable[[], Figures]], said: list[Figures]) -> Any:
    """Return a function that does the next of some works each time it is called."""
    waiting = iter(works)

    def work() -> Figures:
        said.append(next(waiting)())
        return said[-1]

    return work


def mean_figures(said: list[Figures]) -> Figures:
    """Return the mean AUC of each column over the vectorizers."""
    return {key: float(np.mean([one[key] for one in said])) for key in said[0]}


def no_worse(ours: Figures, peer: Figures, less: float = LESS) -> None:
    """Refuse a column in which the notebook finds more."""
    lower = {
        key: (ours[key], peer[key]) for key in peer if ours[key] < peer[key] - less
    }
    if lower or ours.keys() != peer.keys():
        msg = f"AUC below the notebook's (ours, notebook): {lower}"
        raise AssertionError(msg)


def measure(said: Any, merges: tuple[str, ...], name: str, *, by_default: bool) -> None:
    """Measure some merges on equal work, and as the grid is called by default."""
    n_matches, n_dims = (60, 32) if said.quick else (2_072, 2_048)
    less = 1.0 if said.quick else LESS
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        shape = make_shape(n_matches)
        table = write_table(shape, folder)
        vectors = [make_vectors(shape, seed, n_dims) for seed in range(said.runs)]
        specs = [
            write_vectors(array, folder / f"network{i}.npz")
            for i, array in enumerate(vectors)
        ]
        spent: Counter[str] = Counter()
        works = [lambda s=s: grid(folder, table, s, merges, spent=spent) for s in specs]
        ours: list[Figures] = []
        peer: list[Figures] = []
        record = compare(
            name,
            in_turn(works, ours),
            in_turn([lambda v=v: notebook(v, shape, merges) for v in vectors], peer),
            check=lambda a, b: no_worse(a, b, less),
            runs=said.runs,
            bar=None if said.quick or by_default else BAR,
            warm_up=False,
            what=(
                f"grid of {' and '.join(merges)} × {len(HEADS)} classifiers, "
                f"{len(shape.label):,} pairs, {n_dims:,} dims, another vectorizer in "
                "each run"
            ),
            peer_is="notebook: numpy merge, scikit-learn and XGBoost at defaults",
            folder=None,
        )
        in_mean = 1.0 if said.quick else LESS_IN_MEAN
        no_worse(mean_figures(ours), mean_figures(peer), in_mean)
        more = {
            "notes": [columns(ours, peer)],
            "lower": lower(ours, peer),
            "profile": profile(spent, record["pairs"]),
        }
        written(record | more, said.folder)
        spent, costs = Counter(), []
        for spec in specs if by_default else ():
            work = partial(grid, folder, table, spec, merges, DEFAULT, spent)
            costs.append(timed(work)[1])
        if costs:
            more = default_record(record, costs, spent, quick=said.quick)
            written(more, said.folder)


def default_record(
    record: dict[str, Any],
    costs: list[dict[str, float]],
    spent: Counter[str],
    *,
    quick: bool,
) -> dict[str, Any]:
    """Return what is recorded of the grid as it is by default.

    `record` is that of equal work, whose runs of the notebook stand beside `costs`.
    """
    pairs = [
        {"ours": cost, "peer": pair["peer"]}
        for cost, pair in zip(costs, record["pairs"], strict=True)
    ]
    ratios = {
        name: spread(pair["peer"][clock] / pair["ours"][clock] for pair in pairs)
        for name, clock in (("ratio", "wall"), ("cpu_ratio", "cpu"))
    }
    drawn = f"{DEFAULT.n_negatives} non-matches drawn for each match"
    peer = "the same notebook, which draws none, in the runs on equal pairs"
    return {
        **record,
        **ratios,
        "name": f"{record['name']}-default",
        "what": f"{record['what']}, {drawn}",
        "peer": peer,
        "bar": None if quick else DEFAULT_BAR,
        "pairs": pairs,
        "profile": profile(spent, pairs),
        "notes": [],
    }


def profile(spent: Counter[str], pairs: list[dict[str, dict[str, float]]]) -> str:
    """Return what fits and scores take of our time, and the share of each head.

    The rest is starting, reading, splitting, figures and writing, and whichever process
    waits for the last cell.
    """
    total = spent.total()
    there = machine()["cores"] * sum(pair["ours"]["wall"] for pair in pairs)
    shares = ", ".join(f"{h} {s / total:.0%}" for h, s in spent.most_common())
    return (
        f"fits and scores take {total / there:.0%} of the time that all cores have; of "
        f"these {shares}"
    )


def lower(ours: list[Figures], peer: list[Figures]) -> str:
    """Say in how many columns our mean AUC is below the notebook's; "" for none."""
    mine, theirs = mean_figures(ours), mean_figures(peer)
    below = [theirs[key] - mine[key] for key in mine if mine[key] < theirs[key]]
    if not below:
        return ""
    among = f"{len(below)} of {len(mine)} columns"
    return f"AUC is lower in {among}, by up to {max(below):.3f}"


def columns(ours: list[Figures], peer: list[Figures]) -> str:
    """Return the mean AUC of each column, ours and the notebook's, in a line."""
    mine, theirs = mean_figures(ours), mean_figures(peer)
    return "AUC, ours / notebook: " + ", ".join(
        f"{merge} {head} {mine[merge, head]:.3f} / {theirs[merge, head]:.3f}"
        for merge, head in mine
    )


def main() -> None:
    """Measure."""
    measure(options(__doc__), MERGES, "grid-merge", by_default=True)


if __name__ == "__main__":
    main()
