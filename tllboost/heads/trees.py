"""The trees of a forest as plain arrays: safe to store, and walked without code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import BundleError

__all__ = ["Trees"]

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
