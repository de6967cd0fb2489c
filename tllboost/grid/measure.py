"""Fit one cell on its splits, and measure it on the test sets."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tllboost.calibration import Calibration
from tllboost.conventions import noted
from tllboost.merges import PairFeatures, Width
from tllboost.metrics import (
    METRICS,
    Figure,
    binary_figures,
    match_ranks,
    ranking_figures,
)
from tllboost.processes import resident
from tllboost.scoring import PairScorer
from tllboost.splits import PairSet, Split

if TYPE_CHECKING:
    from tllboost.projections.base import Projection

Floats = NDArray[np.float64]

_SMALL = 2**24  # numbers of a fold whose memory may be taken twice


class ScoredSet:
    """The scored pairs of the validation or test sets of all folds, measured together.

    Attributes
    ----------
    log_odds : list of ndarray of shape (n_pairs,), float64
        Calibrated on validation, an array a fold.
    is_flat : bool
        Whether the calibration of any fold is.
    said : list or None
        Of validation sets: what the first said while a head was fitted, to be repeated.
    """

    said: list[Any] | None = None

    def __init__(self) -> None:
        self.log_odds: list[Floats] = []
        self.is_flat = False
        self._folds: list[tuple[PairSet, Floats, NDArray[np.bool_]]] = []

    def add(
        self, pairs: PairSet, score: Floats, calibration: Calibration, threshold: float
    ) -> None:
        """Add a fold: its pairs, and their scores as the head gave them."""
        self.log_odds.append(calibration.log_odds(score))
        self.is_flat |= calibration.is_flat
        self._folds.append((pairs, score, score >= threshold))

    @property
    def first(self) -> Floats:
        """The scores of the first fold, as the head gave them."""
        return self._folds[0][1]

    def figures(self, *, resample: bool = True) -> tuple[dict[str, Figure], list[int]]:
        """Return all metrics, and the list size of each query."""
        from scipy.special import expit

        sets, scores, decisions = zip(*self._folds, strict=True)
        pairs = sum(sets[1:], sets[0])
        queries, ranks, sizes = match_ranks(
            np.concatenate(scores), pairs.label, pairs.query
        )
        order = np.argsort(pairs.query, kind="stable")
        first = order[np.searchsorted(pairs.query[order], queries)]
        ranking = ranking_figures(ranks, pairs.component[first], resample=resample)
        # Log-odds: in the order of the scores, and of one scale where folds meet.
        log_odds = np.concatenate(self.log_odds)
        binary = binary_figures(
            expit(log_odds),
            np.concatenate(decisions),
            pairs.label,
            pairs.weight,
            pairs.component,
            score=log_odds,
            resample=resample,
        )
        return ranking | binary, sizes.tolist()


@dataclass(eq=False)
class Bench:
    """The vectors and the split of a fold, and what the heads of one merge share.

    Parameters
    ----------
    vectors : ndarray of shape (n_images, n_dims), float32
        As the vectorizer gave them, or fine-tuned. These are what a bundle has, so no
        head may see what was before them.
    split : Split
    merge : str
    seed : int
    widths : sequence of sequence of Width
        Of the blocks that a vector consists of, a sequence for each part of a fusion.
    projection : Projection or None
        What maps the vectors; it may have a classification network, too.
    is_fresh : bool
        Whether nothing was fitted on the training pairs, such as the vectorizer, and
        none was chosen by its cosine: they then say what new pairs will.
    """

    vectors: NDArray[np.float32]
    split: Split
    merge: str
    seed: int
    widths: Sequence[Sequence[Width]] = ()
    projection: Projection | None = None
    is_fresh: bool = True

    def __post_init__(self) -> None:
        self._known: dict[str, Any] = {}
        blocks = [width for part in self.widths for width in part]
        self._layout: Any = blocks or None, None
        self._fold = None
        if self.projection is not None:
            self.is_fresh = False
            joined = getattr(self.projection, "joined_", None) or None
            self._known = {"frozen": self.vectors, "joined": joined}
            self._layout = self.projection.layout(blocks)
            with one_thread():
                self.vectors = self.projection.transform(self.vectors)
            train, self._fold = self.projection.inside(self.split.train)
            self.split = replace(self.split, train=train)

    @cached_property
    def features(self) -> list[PairFeatures]:
        """Lazy features of train, validation and test."""
        split, known = self.split, self._known
        sets = (split.train, self._fold), (split.validation, None), (split.test, None)
        return [
            self.scorer.features(self.vectors, pairs, fold=fold, **known)
            for pairs, fold in sets
        ]

    @cached_property
    def scorer(self) -> PairScorer:
        """What compares the pairs, with its references."""
        scorer = PairScorer(self.merge, seed=self.seed)
        scorer.compare_with(self.vectors, self.split.train, *self._layout)
        return scorer


def fit_scorer(bench: Bench, head: str) -> PairScorer:
    """Fit a head on the training set, the validation set choosing."""
    train, validation, _ = bench.features
    scorer = replace(bench.scorer, head=head, n_threads=1)
    sets = train, bench.split.train, validation, bench.split.validation
    with one_thread():
        return scorer.fit(*sets, is_fresh=bench.is_fresh)


def measure(
    benches: Sequence[Bench], head: str, names: Sequence[str] = ()
) -> tuple[dict[str, Any], tuple[ScoredSet, ScoredSet]]:
    """Fit and measure a head over all folds, whose test pairs count together.

    Parameters
    ----------
    benches : sequence of Bench
        One a fold.
    head : str
    names : sequence of str
        Of the features, where they are few.

    Returns
    -------
    figures : dict
        ``figures`` and ``validation`` {metric: value}, ``resampled`` {metric: list},
        sizes, ``threshold`` (as a probability) and costs.
    sets : tuple of ScoredSet
        Test and validation.
    """
    test, validation = ScoredSet(), ScoredSet()
    score_s, thresholds, gains = 0.0, list[float](), list[Any]()
    # XGBoost works without Python's lock: two small folds at a time, for whoever has
    # no other cell left.
    first, said = benches[0], list[Any]()
    n_train = len(first.split.train)
    n_values = n_train * first.vectors.shape[1]
    n_threads = 2 if head.startswith("xgboost") and n_values < _SMALL else 1

    def fitted(bench: Bench) -> PairScorer:
        with noted(said if bench is first else []):
            return fit_scorer(bench, head)

    with one_thread(), _peak_memory() as peak:
        started = time.perf_counter()
        with ThreadPoolExecutor(n_threads) as threads:
            # Somebody's own head may want the main thread: for signals, say.
            each = threads.map if n_threads > 1 else map
            scorers = [*each(fitted, benches)]
        fit_s = time.perf_counter() - started
        for bench, scorer in zip(benches, scorers, strict=True):
            started = time.perf_counter()
            _, validation_features, test_features = bench.features
            how = scorer.calibration_, scorer.threshold_
            test.add(bench.split.test, scorer.score(test_features), *how)
            score_s += time.perf_counter() - started
            chosen = scorer.score(validation_features)
            validation.add(bench.split.validation, chosen, *how)
            cut = scorer.probability(np.array([scorer.threshold_]))
            thresholds.append(float(cut[0]))
            gains.append(getattr(scorer.head_, "gain_", None))
    validation.said = said
    figures = figures_of(test, validation) | {
        "threshold": float(np.mean(thresholds)),
        "n_train_pairs": n_train,
        "n_features": first.features[0].shape[1],
        "fit_s": fit_s,
        "score_s": score_s,
        "peak_memory_mb": peak[0] / 2**20,
    }
    if names and gains[0] is not None:
        shares = np.mean(gains, axis=0).round(4).tolist()
        figures["feature_gain"] = dict(zip(names, shares, strict=True))
    return figures, (test, validation)


def figures_of(test: ScoredSet, validation: ScoredSet) -> dict[str, Any]:
    """Return what a record says of the scores of both sets."""
    figures, sizes = test.figures()
    chosen, _ = validation.figures(resample=False)
    return {
        "figures": {name: figures[name].value for name in METRICS},
        "resampled": {
            name: np.round(figures[name].resampled, 5).tolist() for name in METRICS
        },
        "validation": {name: chosen[name].value for name in METRICS},
        "is_flat": test.is_flat,
        "n_test_queries": len(sizes),
        "n_candidates": float(np.mean(sizes)) if sizes else 0.0,
    }


def best_of_folds(bench: Bench, head: str, n_folds: int = 10) -> float:
    """Return the highest accuracy of ten folds: the figure that 2017 quoted.

    A maximum over folds is no estimate of anything; it stands beside the held-out
    accuracy to show by how much it flatters.
    """
    split = bench.split
    order = np.random.default_rng(bench.seed).permutation(len(split.train))
    accuracies = []
    for held_out in np.array_split(order, n_folds):
        rest = np.setdiff1d(order, held_out)
        train, test = split.train.take(rest), split.train.take(held_out)
        fold = replace(bench, split=replace(split, train=train, test=test))
        scorer = fit_scorer(fold, head)
        said = scorer.score(fold.features[2]) >= scorer.threshold_
        accuracies.append(float(np.mean(said == (test.label == 1))))
    return max(accuracies)


def one_thread() -> Any:
    """Keep numerical libraries to one thread.

    Cells run side by side instead, and sums in another order would make figures
    depend on the number of cores.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)


@contextmanager
def _peak_memory(every_s: float = 0.05) -> Iterator[list[int]]:
    """Sample this process's memory; the list holds the most seen, in bytes."""
    stop, peak = threading.Event(), [resident(os.getpid())]

    def watch() -> None:
        while not stop.wait(every_s):
            peak[0] = max(peak[0], resident(os.getpid()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()
        peak[0] = max(peak[0], resident(os.getpid()))
