"""What the two pages about boosting share: draws of pairs, peers, and fits.

Every head sees the same training and validation pairs with the same weights, where not
told otherwise. But for :func:`hist_score` all peers start from the same cosine: a
logistic curve of it that was fitted on validation. The number of trees of a peer is
chosen by early stopping (30 rounds) on the log loss of the same validation pairs.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fetch_data import SHARED

from tllboost.calibration import fit_calibration
from tllboost.files import csv_text
from tllboost.grid.data import GridData, gather
from tllboost.grid.measure import one_thread
from tllboost.heads import HEADS, make_head
from tllboost.heads.base import Training, Validation
from tllboost.merges import PairFeatures
from tllboost.metrics import match_ranks
from tllboost.splits import PairSet, Protocol, SplitTable, make_splits
from tllboost.store import VectorStore, default_store
from tllboost.vectorizers import make_vectorizer

sys.path.append(str(Path(__file__).parent / "pocket"))
from validation_sides import read_set

KEYS = ("set", "size", "merge", "head", "seed")
NUMBERS = ("roc_auc", "top2", "cpu_s")
N_ROUNDS = 30
N_TREES = 1000
RATE, DEPTH = 0.05, 3

Row = dict[str, str]
Score = Callable[[Training, Validation, Any], Any]


class Sets(NamedTuple):
    """Training, validation and test pairs."""

    train: PairSet
    validation: PairSet
    test: PairSet


def drawn_sets(data: GridData, size: int, n_test: int, seed: int) -> Sets:
    """Return sets of whole groups: 15 of 100 of `size` for validation, others to test.

    Of as many groups as there are, the test set has a fifth.
    """
    table, rng = data.table, np.random.default_rng(seed)
    order = rng.permutation(np.unique(data.component[table.left]))
    if size == len(order):
        size, n_test = round(0.8 * size), size
    name = np.full(len(data.component), "", dtype="U10")
    name[order[: size + n_test]] = "test"
    name[order[:size]] = "train"
    name[order[: round(0.15 * size)]] = "validation"
    (split,) = make_splits(
        SplitTable(
            table.left,
            table.right,
            table.label,
            data.component,
            given=name[data.component[table.left]],
        ),
        protocol=Protocol("given"),
        seed=seed,
    )
    return Sets(split.train, split.validation, split.test)


def margins(training: Training, validation: Validation, test: Any) -> list[Any]:
    """Return the log-odds of the cosine of each set."""
    known = validation.label, validation.weight
    curve = fit_calibration(validation.features.cosine(), *known)
    some = (training.features, validation.features, test)
    return [curve.log_odds(one.cosine()) for one in some]


def xgboost_score(
    training: Training,
    validation: Validation,
    test: Any,
    *,
    weighted: bool = True,
    share: float = 1.0,
) -> Any:
    """Return what XGBoost makes of the cosine; a tree sees `share` of the columns."""
    from xgboost import XGBClassifier

    first, held_out, last = margins(training, validation, test)
    model = XGBClassifier(
        max_depth=DEPTH,
        learning_rate=RATE,
        n_estimators=N_TREES,
        early_stopping_rounds=N_ROUNDS,
        colsample_bytree=share,
        max_bin=64,
        base_score=0.5,
        n_jobs=1,
    )
    model.fit(
        np.asarray(training.features),
        training.label,
        sample_weight=training.weight if weighted else None,
        base_margin=first,
        eval_set=[(np.asarray(validation.features), validation.label)],
        sample_weight_eval_set=[validation.weight] if weighted else None,
        base_margin_eval_set=[held_out],
        verbose=False,
    )
    return model.predict(np.asarray(test), output_margin=True, base_margin=last)


def lightgbm_score(training: Training, validation: Validation, test: Any) -> Any:
    """Return what LightGBM makes of the cosine."""
    import lightgbm

    first, held_out, last = margins(training, validation, test)
    parameters = {
        "objective": "binary",
        "max_depth": DEPTH,
        "learning_rate": RATE,
        "num_threads": 1,
        "verbosity": -1,
    }
    sets = [
        lightgbm.Dataset(np.asarray(X), y, weight=weight, init_score=margin)
        for (X, y, weight, _), margin in ((training, first), (validation, held_out))
    ]
    stop = lightgbm.early_stopping(N_ROUNDS, verbose=False)
    model = lightgbm.train(parameters, sets[0], N_TREES, sets[1:], callbacks=[stop])
    return last + model.predict(np.asarray(test), raw_score=True)


def catboost_score(training: Training, validation: Validation, test: Any) -> Any:
    """Return what CatBoost makes of the cosine."""
    from catboost import CatBoostClassifier, Pool

    first, held_out, last = margins(training, validation, test)
    sets = [
        Pool(np.asarray(X), y, weight=weight, baseline=margin)
        for (X, y, weight, _), margin in ((training, first), (validation, held_out))
    ]
    model = CatBoostClassifier(
        depth=DEPTH,
        learning_rate=RATE,
        n_estimators=N_TREES,
        early_stopping_rounds=N_ROUNDS,
        thread_count=1,
        logging_level="Silent",
        allow_writing_files=False,
    )
    model.fit(sets[0], eval_set=sets[1])
    return last + model.predict(np.asarray(test), prediction_type="RawFormulaVal")


def hist_score(training: Training, validation: Validation, test: Any) -> Any:
    """Return what scikit-learn's trees make of the features, the cosine one of them."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    first, held_out, last = (
        np.column_stack([np.asarray(X), X.cosine()])
        for X in (training.features, validation.features, test)
    )
    model = HistGradientBoostingClassifier(
        max_depth=DEPTH,
        learning_rate=RATE,
        max_iter=N_TREES,
        max_bins=32,  # to cut columns of weighted pairs into more is slow
        n_iter_no_change=N_ROUNDS,
        early_stopping=True,
    )
    model.fit(
        first,
        training.label,
        training.weight,
        X_val=held_out,
        y_val=validation.label,
        sample_weight_val=validation.weight,
    )
    return model.decision_function(last)


PEERS: dict[str, Score] = {
    "cosine": lambda _, __, test: test.cosine(),
    "plain XGBoost": xgboost_score,
    "no weights": partial(xgboost_score, weighted=False),
    "no weights, a tenth": partial(xgboost_score, weighted=False, share=0.1),
    "plain LightGBM": lightgbm_score,
    "plain CatBoost": catboost_score,
    "HistGradientBoosting": hist_score,
}


def our_score(
    training: Training, validation: Validation, test: Any, head: str, seed: int
) -> Any:
    """Return the score of a head of this package, as it comes."""
    X, label, weight, query = training
    made = make_head(head, seed=seed, n_threads=1)
    made.fit(X, label, sample_weight=weight, query=query, validation=validation)
    return made.decision_function(test)


def add_fits(
    path: Path, tasks: Iterable[tuple[str, int, str, str, int]], store: Path | None
) -> None:
    """Append a row to `path` for each fit that it doesn't have: a task is its keys."""
    kept = {tuple(row[key] for key in KEYS) for row in read_fits(path)}
    if not path.exists():
        path.write_text(csv_text([*KEYS, *NUMBERS], []), encoding="utf-8")
    wanted = [task for task in tasks if tuple(map(str, task)) not in kept]
    vectors = VectorStore(store) if store else default_store()
    with one_thread(), path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in _fits(wanted, vectors):
            writer.writerow(row)
            file.flush()
            print(*row, flush=True)


def _fits(tasks: list[tuple[str, int, str, str, int]], store: Any) -> Iterator[Any]:
    from sklearn.metrics import roc_auc_score

    gathered: dict[str, GridData] = {}
    for name, size, merge, head, seed in tasks:
        if name not in gathered:
            made = {"pocket": make_vectorizer("pocket")}
            gathered[name] = gather(read_set(SHARED / "data", name), made, store=store)
        data = gathered[name]
        sets = drawn_sets(data, size, N_TEST[name], seed)
        vectors = data.vectors["pocket"].vectors
        train, held_out, test = (
            PairFeatures(vectors, one.left, one.right, merge) for one in sets
        )
        known = [(one.label, one.weight, one.query) for one in sets]
        training = Training(train, *known[0])
        validation = Validation(held_out, *known[1])
        started = time.process_time()
        if head in HEADS and head != "cosine":
            score = our_score(training, validation, test, head, seed)
        else:
            score = PEERS[head](training, validation, test)
        seconds = time.process_time() - started
        listed = np.asarray(score, dtype=np.float64)
        _, rank, _ = match_ranks(listed, sets.test.label, sets.test.query)
        auc = roc_auc_score(sets.test.label, listed)
        numbers = (auc, (rank <= 2).mean(), seconds)
        yield [name, size, merge, head, seed, *(f"{one:.4f}" for one in numbers)]


N_TEST = {"tll": 600, "dvd-covers": 30}


def read_fits(path: Path) -> list[Row]:
    """Return the rows of a file of fits, none where it is not there."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def by_cell(rows: list[Row]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the numbers of each head, (n_seeds, 3), of each set, size and merge."""
    told: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: int(row["seed"])):
        cell = told.setdefault((row["set"], row["size"], row["merge"]), {})
        numbers = [float(row[name]) for name in NUMBERS]
        cell.setdefault(row["head"], []).append(numbers)
    order = sorted(told, key=lambda key: (key[0] != "tll", int(key[1]), key[2]))
    return {
        key: {head: np.array(one) for head, one in told[key].items()} for key in order
    }
