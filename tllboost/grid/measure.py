"""Fit one cell on the sides of its splits and measure it on the test sides."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.metrics import (
    METRICS,
    Figure,
    binary_figures,
    match_ranks,
    ranking_figures,
)
from tllboost.scorer import PairScorer
from tllboost.splits import PairSet, Split

__all__ = ["Bench", "best_of_folds", "fit_scorer", "measure"]


@dataclass(eq=False)
class Bench:
    """Vectors and splits, and the lazy features that the heads of one merge share."""

    vectors: NDArray[np.float32]
    splits: list[Split]
    merge: str
    seed: int

    @cached_property
    def features(self) -> list[tuple[Any, Any, Any]]:
        """Features of train, validation and test, for each split."""
        scorer = PairScorer(self.merge)
        return [
            (
                scorer.features(self.vectors, split.train),
                scorer.features(self.vectors, split.validation),
                scorer.features(self.vectors, split.test),
            )
            for split in self.splits
        ]


@dataclass(eq=False)
class _Scored:
    """Scores of one side, folds one behind the other."""

    pairs: list[PairSet] = field(default_factory=list)
    score: list[NDArray[np.float64]] = field(default_factory=list)
    probability: list[NDArray[np.float64]] = field(default_factory=list)
    decision: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, scorer: PairScorer, features: Any, pairs: PairSet) -> None:
        score = scorer.score(features)
        self.pairs.append(pairs)
        self.score.append(score)
        self.probability.append(scorer.probability(score))
        self.decision.append(score >= scorer.threshold_)

    def figures(self) -> tuple[dict[str, Figure], list[int]]:
        """Return all metrics, and the list size of each query."""
        ranks, components, sizes = [], [], []
        for pairs, score in zip(self.pairs, self.score, strict=True):
            queries, rank, size = match_ranks(score, pairs.label, pairs.query)
            first = np.searchsorted(np.sort(pairs.query), queries)
            order = np.argsort(pairs.query, kind="stable")
            components.append(pairs.component[order[first]])
            ranks.append(rank)
            sizes.append(size)
        ranking = ranking_figures(np.concatenate(ranks), np.concatenate(components))
        binary = binary_figures(
            np.concatenate(self.probability),
            np.concatenate(self.decision),
            np.concatenate([pairs.label for pairs in self.pairs]),
            np.concatenate([pairs.weight for pairs in self.pairs]),
            np.concatenate([pairs.component for pairs in self.pairs]),
        )
        return ranking | binary, np.concatenate(sizes).tolist()


def fit_scorer(bench: Bench, head: str, fold: int = 0) -> PairScorer:
    """Fit a head on one split's training side, its validation side choosing."""
    split = bench.splits[fold]
    train, validation, _ = bench.features[fold]
    scorer = PairScorer(bench.merge, head, seed=bench.seed, n_threads=1)
    with one_thread():
        return scorer.fit(train, split.train, validation, split.validation)


def measure(bench: Bench, head: str) -> dict[str, Any]:
    """Fit and measure a head over all splits; test pairs of all folds count together.

    Returns
    -------
    dict
        ``figures`` and ``validation`` {metric: value}, ``resampled`` {metric: list},
        sizes, ``threshold`` (as a probability) and costs.
    """
    test, validation = _Scored(), _Scored()
    fit_s = score_s = 0.0
    thresholds = []
    with one_thread(), _peak_memory() as peak:
        for fold, split in enumerate(bench.splits):
            started = time.perf_counter()
            scorer = fit_scorer(bench, head, fold)
            fitted = time.perf_counter()
            _, validation_features, test_features = bench.features[fold]
            test.add(scorer, test_features, split.test)
            score_s += time.perf_counter() - fitted
            fit_s += fitted - started
            validation.add(scorer, validation_features, split.validation)
            cut = scorer.probability(np.array([scorer.threshold_]))
            thresholds.append(float(cut[0]))
    figures, sizes = test.figures()
    chosen, _ = validation.figures()
    return {
        "figures": {name: figures[name].value for name in METRICS},
        "resampled": {
            name: np.round(figures[name].resampled, 5).tolist() for name in METRICS
        },
        "validation": {name: chosen[name].value for name in METRICS},
        "threshold": float(np.mean(thresholds)),
        "n_train_pairs": len(bench.splits[0].train),
        "n_test_queries": len(sizes),
        "n_candidates": float(np.mean(sizes)) if sizes else 0.0,
        "n_features": bench.features[0][0].shape[1],
        "fit_s": fit_s,
        "score_s": score_s,
        "peak_memory_mb": peak[0] / 2**20,
    }


def best_of_folds(bench: Bench, head: str, n_folds: int = 10) -> float:
    """Return the highest accuracy of ten folds: the figure that 2017 quoted.

    A maximum over folds is no estimate of anything; it stands beside the held-out
    accuracy to show by how much it flatters.
    """
    (split,) = bench.splits
    order = np.random.default_rng(bench.seed).permutation(len(split.train))
    accuracies = []
    for held_out in np.array_split(order, n_folds):
        rest = np.setdiff1d(order, held_out)
        fold = Split(
            split.train.take(rest),
            split.validation,
            split.train.take(held_out),
            split.side,
        )
        one = Bench(bench.vectors, [fold], bench.merge, bench.seed)
        scorer = fit_scorer(one, head)
        said = scorer.score(one.features[0][2]) >= scorer.threshold_
        accuracies.append(float(np.mean(said == (fold.test.label == 1))))
    return max(accuracies)


def one_thread() -> Any:
    """Keep numerical libraries to one thread.

    Cells run side by side instead, and sums in another order would make figures hang
    on the number of cores.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)


@contextmanager
def _peak_memory(every_s: float = 0.05) -> Iterator[list[int]]:
    """Sample this process's memory; the list holds the most seen, in bytes."""
    import psutil

    process, stop = psutil.Process(), threading.Event()
    peak = [process.memory_info().rss]

    def watch() -> None:
        while not stop.wait(every_s):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()
        peak[0] = max(peak[0], process.memory_info().rss)
