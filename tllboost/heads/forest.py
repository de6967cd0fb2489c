"""The trees of a forest as plain arrays: safe to store, and walked without code.

Random forest and naive Bayes, on what scikit-learn has for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.naive_bayes import GaussianNB

from tllboost.errors import BundleError
from tllboost.heads.base import PairHead, Training, fits_memory, within_memory

__all__ = ["NaiveBayesHead", "RandomForestHead", "Trees"]

_WALKS = 2**14  # of a row down a tree, side by side: as many as caches like


class Trees(NamedTuple):
    """Decision trees, all nodes in one list.

    scikit-learn's own tree object is indexed without bounds checks, so a stored one
    from a stranger can crash the process; these arrays are checked when loaded.

    Parameters
    ----------
    roots : ndarray of shape (n_trees,), int32
        First node of each tree.
    left, right : ndarray of shape (n_nodes,), int32
        Children; a leaf is its own child.
    feature : ndarray of shape (n_nodes,), int32
        Column that a node looks at.
    threshold : ndarray of shape (n_nodes,), float64
        A row goes left where its value is at most this.
    vote : ndarray of shape (n_nodes,), float64
        Share of matches among the training pairs of the node.
    n_features : ndarray of shape (1,), int32
        Columns the trees were grown on.
    """

    roots: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    vote: NDArray[np.float64]
    n_features: NDArray[np.int32]

    @classmethod
    def of(cls, forest: Any) -> Trees:
        """Copy the trees out of a fitted scikit-learn forest of two classes."""
        trees = [estimator.tree_ for estimator in forest.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
        node = [np.arange(tree.node_count) for tree in trees]
        is_leaf = [tree.children_left < 0 for tree in trees]

        def children(side: str) -> NDArray[np.int32]:
            placed = [
                np.where(leaf, own, getattr(tree, side)) + root
                for tree, leaf, own, root in zip(
                    trees, is_leaf, node, roots, strict=True
                )
            ]
            return np.concatenate(placed).astype(np.int32)

        return cls(
            roots=roots.astype(np.int32),
            left=children("children_left"),
            right=children("children_right"),
            feature=np.concatenate([t.feature for t in trees]).clip(0).astype(np.int32),
            threshold=np.concatenate([t.threshold for t in trees]),
            vote=np.concatenate([_match_share(t.value[:, 0]) for t in trees]),
            n_features=np.array([forest.n_features_in_], dtype=np.int32),
        )

    @classmethod
    def joined(cls, forests: Sequence[Trees]) -> Trees:
        """Return the trees of several forests as those of one."""
        first = np.cumsum([0, *(len(forest.left) for forest in forests)])
        columns = {
            name: np.concatenate([getattr(forest, name) for forest in forests])
            for name in ("feature", "threshold", "vote")
        }
        for name in ("roots", "left", "right"):
            moved = [getattr(f, name) + n for f, n in zip(forests, first, strict=False)]
            columns[name] = np.concatenate(moved).astype(np.int32)
        return cls(**columns, n_features=forests[0].n_features)

    def votes(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the mean vote of all trees: (n_rows,) float64 in [0, 1]."""
        total = np.zeros(len(rows))
        some = max(1, _WALKS // max(1, len(rows)))
        for first in range(0, len(self.roots), some):
            for vote in self.vote[self._leaves(rows, self.roots[first : first + some])]:
                total += vote
        return total / len(self.roots)

    def _leaves(
        self, rows: NDArray[np.float32], roots: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Return where each row ends in some of the trees: (n_trees, n_rows)."""
        node = np.repeat(roots, len(rows))
        row = np.tile(np.arange(len(rows)), len(roots))
        active = np.arange(len(node))
        while len(active):
            at = node[active]
            goes_left = rows[row[active], self.feature[at]] <= self.threshold[at]
            following = np.where(goes_left, self.left[at], self.right[at])
            node[active] = following
            active = active[following != at]
        return node.reshape(len(roots), len(rows))

    def checked(self) -> Trees:
        """Return the trees, or refuse them where walking them could go astray."""
        if not (self._has_form() and self._stays_inside()):
            msg = "the trees of the head have indices out of range: not to be used"
            raise BundleError(msg)
        return self

    def _has_form(self) -> bool:
        """Tell whether the columns are of one length, and indices whole numbers."""
        indices = (self.roots, self.left, self.right, self.feature, self.n_features)
        return (
            all(column.dtype.kind == "i" for column in indices)
            and {column.shape for column in self[1:6]} == {(self.left.size,)}
            and self.roots.ndim == 1
            and self.roots.size > 0
            and self.n_features.shape == (1,)
        )

    def _stays_inside(self) -> bool:
        """Tell whether every index leads somewhere, and every walk to a leaf."""
        n_nodes = len(self.left)
        own = np.arange(n_nodes)
        is_leaf = (self.left == own) & (self.right == own)
        # Children behind their parent: every walk ends.
        forward = (self.left > own) & (self.right > own)
        in_range = (self.left < n_nodes) & (self.right < n_nodes)
        return (
            bool(((is_leaf | forward) & in_range).all())
            and bool(((self.roots >= 0) & (self.roots < n_nodes)).all())
            and bool(((self.feature >= 0) & (self.feature < self.n_features)).all())
            and bool(np.isfinite(self.threshold).all() and np.isfinite(self.vote).all())
        )


def _match_share(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the second class at each node: (n_nodes,) float64."""
    return value[:, 1] / value.sum(axis=1)


_PARTS = 10


class RandomForestHead(PairHead):
    """A random forest of 300 trees, its cut points drawn, each on 0.3 of the pairs.

    Breiman's forest ("Random forests", 2001) asks only that trees differ by chance.
    Here, beside the pairs and columns that they see, the cut points are drawn, as in
    "Extremely randomized trees" (Geurts, Ernst and Wehenkel, 2006), and the best of
    the drawn cuts is taken: nothing is sorted, which is what a forest on many columns
    spends its time on. On validation pairs of the Totally-Looks-Like challenge (two
    networks, two merges, three seeds each) it ranks better than trees that search for
    their cuts, in less than half the time: mean reciprocal rank +0.017 with a standard
    error of 0.009; on DVD covers +0.030 with 0.009.
    """

    def __init__(
        self,
        *,
        n_estimators: int = 300,
        max_features: float | str = "sqrt",
        max_samples: float = 0.3,
        min_samples_leaf: int = 5,
        n_jobs: int | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.n_estimators = n_estimators
        self.max_features = max_features
        self.max_samples = max_samples
        self.min_samples_leaf = min_samples_leaf
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: NDArray[np.integer],
        *,
        sample_weight: NDArray[np.float64] | None = None,
        **_: Any,
    ) -> RandomForestHead:
        """Grow the trees.

        Of more pairs than 256 MiB hold the features of, each tenth of the
        trees sees as many as that holds, drawn anew.
        """
        every = Training(X, np.asarray(y), sample_weight)
        n_parts = 1 if fits_memory(every) else min(_PARTS, self.n_estimators)
        edges = [self.n_estimators * part // n_parts for part in range(n_parts + 1)]
        parts = []
        for part, (first, end) in enumerate(pairwise(edges)):
            seed = None if self.random_state is None else self.random_state + part
            some = within_memory(every, seed=seed)
            parts.append(self._grow(some, end - first, seed))
        self.trees_ = Trees.joined(parts)
        self.n_features_in_ = X.shape[1]
        return self

    def _grow(self, some: Training, n_trees: int, seed: int | None) -> Trees:
        features = _columns(some.features)
        # scikit-learn takes values less than 1e-7 apart for equal, so they are brought
        # to the size of one; a power of two leaves all their digits as they are.
        largest = float(max(features.max(), -features.min())) or 1.0
        unit = 2.0 ** round(np.log2(largest))
        features /= unit
        forest = ExtraTreesClassifier(**self.get_params(), bootstrap=True)
        n_drawn = self._n_drawn(len(features), some.weight)
        forest.set_params(n_estimators=n_trees, max_samples=n_drawn, random_state=seed)
        forest.fit(features, some.label, sample_weight=some.weight)
        trees = Trees.of(forest)
        return trees._replace(threshold=trees.threshold * unit)

    def _n_drawn(self, n_pairs: int, weight: NDArray[np.float64] | None) -> int:
        """Return what a tree draws; of a share, scikit-learn's releases differ."""
        total = n_pairs if weight is None else float(weight.sum())
        return min(n_pairs, max(10, int(self.max_samples * total)))

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Return the trees' mean vote for a match, minus a half: (n_pairs,) float64."""
        votes = [self.trees_.votes(block) for block in _blocks(X)]
        return np.concatenate(votes or [np.zeros(0)]) - 0.5

    def to_members(self) -> dict[str, bytes]:
        """Return the trees as safetensors."""
        return {"head.safetensors": save(self.trees_._asdict())}

    def from_members(self, members: dict[str, bytes]) -> RandomForestHead:
        """Take the trees back, once every index in them is known to be in range."""
        self.trees_ = Trees(**load(members["head.safetensors"])).checked()
        self.n_features_in_ = int(self.trees_.n_features[0])
        return self


class NaiveBayesHead(PairHead):
    """Gaussian naive Bayes, fitted and read a block at a time.

    Examples
    --------
    >>> X = np.float32([[0, 1], [1, 0], [0.1, 2], [2, 0.2]])
    >>> NaiveBayesHead().fit(X, np.array([0, 1, 0, 1])).predict(X).tolist()
    [0, 1, 0, 1]
    """

    def fit(
        self,
        X: Any,
        y: NDArray[np.integer],
        *,
        sample_weight: NDArray[np.float64] | None = None,
        **_: Any,
    ) -> NaiveBayesHead:
        """Estimate a mean and a variance for each column and class."""
        model = GaussianNB()
        y = np.asarray(y)
        weight = np.ones(len(y)) if sample_weight is None else sample_weight
        start = 0
        for block in _blocks(X):
            rows = slice(start, start + len(block))
            # In float64: a feature that hardly varies is divided by next to nothing.
            wide = block.astype(np.float64)
            model.partial_fit(wide, y[rows], [0, 1], weight[rows])
            start = rows.stop
        self.theta_ = model.theta_
        # Zero only where no feature varies at all; any number does then.
        self.var_ = np.where(model.var_ > 0, model.var_, 1.0)
        self.log_prior_ = np.log(model.class_prior_)
        self.n_features_in_ = model.n_features_in_
        return self

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Return the log-odds of a match: (n_pairs,) float64."""
        scores = [self._log_odds(block) for block in _blocks(X)]
        return np.concatenate(scores or [np.zeros(0)])

    def _log_odds(self, block: NDArray[np.float32]) -> NDArray[np.float64]:
        joint = [
            prior - 0.5 * (np.log(var).sum() + np.square(block - mean) @ (1 / var))
            for prior, mean, var in zip(
                self.log_prior_, self.theta_, self.var_, strict=True
            )
        ]
        return joint[1] - joint[0]

    def to_members(self) -> dict[str, bytes]:
        """Return means, variances and priors as safetensors."""
        arrays = {"theta": self.theta_, "var": self.var_, "log_prior": self.log_prior_}
        return {"head.safetensors": save(arrays)}

    def from_members(self, members: dict[str, bytes]) -> NaiveBayesHead:
        """Take them back."""
        arrays = load(members["head.safetensors"])
        self.theta_, self.var_ = arrays["theta"], arrays["var"]
        self.log_prior_ = arrays["log_prior"]
        self.n_features_in_ = self.theta_.shape[1]
        return self


def _columns(X: Any) -> NDArray[np.float32]:
    """Return the features with each column in one piece: trees read them by column."""
    columns = np.empty(X.shape, dtype=np.float32, order="F")
    start = 0
    for block in _blocks(X):
        columns[start : start + len(block)] = block
        start += len(block)
    return columns


def _blocks(X: Any) -> Any:
    return X.blocks() if hasattr(X, "blocks") else [np.asarray(X, dtype=np.float32)]
