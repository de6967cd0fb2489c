"""What a head has learned, as plain numbers: feature rows in, a score a pair out.

Whatever the head, its score is

    part(features) + slope · cosine + intercept

where the part is linear weights, trees, both, dense layers, naive Bayes, or nothing.
The heads fit with scikit-learn, XGBoost or torch, and all of them score here, with
numpy alone: a bundle holds these numbers and needs no other library to use them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tllboost.dense import Layer, as_tensors, run_layers, take_layers
from tllboost.errors import UsageError

Rows = NDArray[np.float32]
Tensors = Mapping[str, NDArray[Any]]
_ZERO = np.float64(0)


class Part:
    """What reads the features of a head; its fields are arrays of numbers."""

    kind: ClassVar[str]

    @property
    def n_features(self) -> int:
        """Width of a feature row; here of the first array, a number a feature."""
        return next(iter(self.tensors().values())).shape[-1]

    def __call__(self, rows: Rows) -> NDArray[np.floating]:
        """Return the score of each row: (n_rows,)."""
        raise NotImplementedError

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the numbers, each array by its name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def of(cls, tensors: Tensors) -> Self:
        """Take back what `tensors` gave; ValueError if rows can't be scored by it."""
        part = cls(**tensors)
        part._check()
        return part

    def _check(self) -> None:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A head as it scores: a part that reads features, and a curve of the cosine.

    Parameters
    ----------
    part : Part or None, default=None
        None reads no feature.
    slope, intercept : numpy floating
        Of the cosine. float32 keeps the score float32.
    is_frozen : bool, default=False
        Whether the cosine is that of the vectors before the projection.

    Examples
    --------
    >>> from tllboost.merges import PairFeatures
    >>> head = FittedHead(Linear(np.float32([1, 0])), intercept=np.float32(0.5))
    >>> pairs = PairFeatures(np.float32([[3, 4], [2, 1]]), [0], [1], "dot")
    >>> head.decision_function(pairs).tolist()
    [6.5]
    """

    part: Part | None = None
    slope: np.floating = _ZERO
    intercept: np.floating = _ZERO
    is_frozen: bool = False

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Return the score of each pair, uncalibrated: (n_pairs,), more for a match.

        Parameters
        ----------
        X : array-like or PairFeatures of shape (n_pairs, n_features)
        """
        score: NDArray[np.floating] = np.zeros(len(X), dtype=np.float32)
        if self.part:  # not of no trees: then nothing needs to be merged
            parts = [self.part(block) for block in blocks_of(X)]
            score = np.concatenate(parts or [score])
        if self.slope:
            score = score + self.slope * cosine_of(X, frozen=self.is_frozen)
        return score + self.intercept

    def grown(self, trees: Trees) -> FittedHead:
        """Return this head, of linear weights or none, with trees added to it."""
        if isinstance(self.part, Linear):
            if not len(trees):
                return self
            trees = replace(trees, coef=self.part.coef)
        return replace(self, part=trees)

    @property
    def n_features_in_(self) -> int | None:
        """Width of the feature rows, None where none is read."""
        return None if self.part is None else self.part.n_features

    @property
    def kind(self) -> str:
        """The name of the part, as a bundle has it."""
        return "cosine" if self.part is None else self.part.kind

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return all of it as arrays, that `of` takes back."""
        own = {} if self.part is None else self.part.tensors()
        curve = np.array([self.slope, self.intercept])
        return {**own, "curve": curve, "is_frozen": np.array([self.is_frozen], "u1")}

    @classmethod
    def of(cls, kind: str, tensors: Tensors) -> FittedHead:
        """Take back what `tensors` gave, be it a stranger's.

        Raises
        ------
        ValueError
            If an array is missing, too many, or not what it must be.
        """
        own = dict(tensors)
        curve, is_frozen = own.pop("curve"), own.pop("is_frozen")
        if curve.shape != (2,) or curve.dtype.kind != "f" or is_frozen.shape != (1,):
            msg = "the curve of its cosine is no slope and intercept"
            raise ValueError(msg)
        part = None
        if kind != "cosine":
            part = PARTS[kind].of(own)
        elif own:
            msg = f"{sorted(own)[0]!r} has no place in a head of the cosine"
            raise ValueError(msg)
        return cls(part, curve[0], curve[1], bool(is_frozen[0]))


@dataclass(frozen=True, eq=False)
class Linear(Part):
    """Weights (n_features,), float32."""

    kind: ClassVar[str] = "linear"
    coef: NDArray[np.float32]

    def __call__(self, rows: Rows) -> NDArray[np.float32]:
        """Return the score of each row: (n_rows,)."""
        return rows @ self.coef

    def _check(self) -> None:
        _demand(self.coef.ndim == 1, "its weights are not a list of numbers")


@dataclass(frozen=True, eq=False)
class NaiveBayes(Part):
    """Means and variances (2, n_features) of both classes, and their log prior."""

    kind: ClassVar[str] = "naive-bayes"
    theta: NDArray[np.float64]
    var: NDArray[np.float64]
    log_prior: NDArray[np.float64]

    def __call__(self, rows: Rows) -> NDArray[np.float64]:
        """Return the score of each row: (n_rows,)."""
        # In place: a second array of this size takes as long as all else.
        other, match = (
            np.log(var).sum() + np.square(far := rows - mean, far) @ (1 / var)
            for mean, var in zip(self.theta, self.var, strict=True)
        )
        of_other, of_match = self.log_prior
        return (of_match - 0.5 * match) - (of_other - 0.5 * other)

    def _check(self) -> None:
        shapes = {self.theta.shape, self.var.shape, (2, self.theta.shape[-1])}
        fine = len(shapes) == 1 and self.log_prior.shape == (2,)
        _demand(fine and bool((self.var > 0).all()), "its classes are not two")


@dataclass(frozen=True, eq=False)
class Dense(Part):
    """Dense layers of one output, ReLU between them.

    Parameters
    ----------
    layers : sequence of (ndarray, ndarray)
        Weight (n_in, n_out) and bias (n_out,) of each, float32.

    Examples
    --------
    >>> network = Dense([(np.eye(2), np.zeros(2)), (np.ones((2, 1)), np.ones(1))])
    >>> network(np.float32([[1, -1], [1, 2]])).tolist()
    [2.0, 4.0]
    """

    kind: ClassVar[str] = "dense"
    layers: Sequence[Layer]

    @property
    def n_features(self) -> int:
        """Width of a feature row."""
        return len(self.layers[0][0])

    def __call__(self, rows: Rows) -> NDArray[np.float32]:
        """Return the score of each row: (n_rows,)."""
        return run_layers(self.layers, rows)[:, 0]

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the layers, numbered."""
        return as_tensors(self.layers)

    @classmethod
    def of(cls, tensors: Tensors) -> Self:
        """Take the layers back; ValueError if they do not fit each other."""
        rest = dict(tensors)
        part = cls(take_layers(rest))
        _demand(not rest, f"{sorted(rest)} have no place in dense layers")
        _demand(part.layers[-1][0].shape[1] == 1, "its dense layers have many outputs")
        return part


_WALKS = 2**14  # of a row down a tree, side by side: as many as caches like
_DEEPEST = 1_000


@dataclass(frozen=True, eq=False)
class Trees(Part):
    """The sum of decision trees, all of their nodes in one list.

    Walked here and not by the library that grew them: scikit-learn's own trees, and
    XGBoost's, are indexed without a look at the bounds, so that those of a stranger
    can crash the process. The sum is XGBoost's to the last bit, being added up in the
    same order and precision.

    Parameters
    ----------
    roots : ndarray of shape (n_trees,), int32
        First node of each tree.
    left, right : ndarray of shape (n_nodes,), int32
        Children; a leaf is its own child.
    feature : ndarray of shape (n_nodes,), int32
        Column that a node looks at.
    threshold : ndarray of shape (n_nodes,), float32
        A row goes left where its value is below this.
    nan_left : ndarray of shape (n_nodes,), uint8
        1 where a row without a value goes left.
    value : ndarray of shape (n_nodes,), float32 or float64
        What a leaf gives.
    width : ndarray of shape (1,), int32
        Number of columns that the trees were grown on.
    coef : ndarray of shape (n_features,) or (0,), float32
        Weights of the linear head that the trees were grown on, if there was one.
    """

    kind: ClassVar[str] = "trees"
    roots: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    nan_left: NDArray[np.uint8]
    value: NDArray[np.floating]
    width: NDArray[np.int32]
    coef: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    @classmethod
    def stacked(cls, trees: Iterable[Tensors], n_features: int) -> Self:
        """Put trees together, each of which has columns of its own nodes.

        ``left`` and ``right`` are below zero at a leaf, and count from the tree's root.
        """
        own = list(trees)
        sizes = [len(tree["left"]) for tree in own]
        root = np.repeat(np.cumsum([0, *sizes])[:-1], sizes)
        columns = {
            name: np.concatenate([np.zeros(0, dtype), *(tree[name] for tree in own)])
            for name, dtype in _COLUMNS.items()
        }
        is_leaf = columns["left"] < 0
        for side in ("left", "right"):
            placed = np.where(is_leaf, np.arange(len(root)), columns[side] + root)
            columns[side] = placed.astype(np.int32)
        columns["feature"] = np.where(is_leaf, 0, columns["feature"]).astype(np.int32)
        roots = np.cumsum([0, *sizes])[:-1].astype(np.int32)
        return cls(roots, **columns, width=np.array([n_features], np.int32))

    def __len__(self) -> int:
        return len(self.roots)

    @property
    def n_features(self) -> int:
        """Width of a feature row."""
        return int(self.width[0])

    def __call__(self, rows: Rows) -> NDArray[np.floating]:
        """Return the score of each row: (n_rows,)."""
        rows = np.ascontiguousarray(rows)
        step = max(1, _WALKS // len(self))
        # Both children of a node side by side: one look-up tells where a row goes.
        ways = np.stack([self.right, self.left], axis=1).ravel().astype(np.intp)
        sums = [self._sum(rows[i : i + step], ways) for i in range(0, len(rows), step)]
        score = np.concatenate(sums or [np.zeros(0, self.value.dtype)])
        return score + rows @ self.coef if len(self.coef) else score

    def _sum(self, rows: Rows, ways: NDArray[np.intp]) -> NDArray[np.floating]:
        """Walk all trees at once, a level at a time; a leaf stays where it is."""
        values = rows.ravel()
        first = np.arange(len(rows), dtype=np.int64)[:, None] * rows.shape[1]
        has_nan = bool(np.isnan(values).any())
        # At first one line for all rows; numpy's `take` wants its own kind of index.
        node = self.roots[None].astype(np.intp)
        for _ in range(self.depth):
            value = values.take(first + self.feature.take(node))
            goes_left = value < self.threshold.take(node)
            if has_nan:
                goes_left |= np.isnan(value) & self.nan_left.take(node).astype(bool)
            node = ways.take(2 * node + goes_left)
        # One after the other, as XGBoost adds; `sum` would add pairwise.
        sums = np.cumsum(self.value.take(node), axis=1)[:, -1]
        return np.broadcast_to(sums, len(rows))

    @cached_property
    def depth(self) -> int:
        """Most splits between a root and a leaf; ValueError beyond 1,000."""
        level, depth = self.roots, -1
        while len(level):
            inner = level[self.left[level] != level]
            level = np.append(self.left[inner], self.right[inner])
            depth += 1
            _demand(depth <= _DEEPEST, f"its trees are deeper than {_DEEPEST:,} splits")
        return max(depth, 0)

    def _check(self) -> None:
        columns = {name: vars(self)[name] for name in _COLUMNS}
        dtypes = _COLUMNS | {"value": self.value.dtype.type}
        fine = (
            all(columns[name].dtype == dtype for name, dtype in dtypes.items())
            and {one.shape for one in columns.values()} == {(self.left.size,)}
            and (self.roots.dtype, self.width.dtype) == (np.int32, np.int32)
            and (self.roots.ndim, self.width.shape) == (1, (1,))
            and self.value.dtype.kind == "f"
            and self.coef.dtype == np.float32
            and self.coef.shape in ((0,), (self.n_features,))
            and self._stays_inside()
        )
        _demand(fine, "its trees have indices out of range")
        _ = self.depth

    def _stays_inside(self) -> bool:
        """Tell whether every index leads somewhere, and every walk to a leaf."""
        own = np.arange(len(self.left))
        inner = own[(self.left != own) | (self.right != own)]
        # Each node is the child of one other, or a root: no walk comes back.
        entered = np.concatenate([self.roots, self.left[inner], self.right[inner]])
        return (
            bool(((entered >= 0) & (entered < len(own))).all())
            and bool(np.bincount(entered).max(initial=0) <= 1)
            and bool(((self.feature >= 0) & (self.feature < self.width)).all())
        )


class Forest(Trees):
    """The mean of decision trees, as of a random forest."""

    kind: ClassVar[str] = "forest"

    def __call__(self, rows: Rows) -> NDArray[np.floating]:
        """Return the score of each row: (n_rows,)."""
        return super().__call__(rows) / len(self)


def below_of(at_most: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return thresholds t for which x < t where a float32 x is at most the given.

    Examples
    --------
    >>> below = below_of(np.array([0.5, 0.1]))
    >>> (np.float32([0.5, 0.1]) < below).tolist()
    [True, False]
    """
    near = at_most.astype(np.float32)
    near = np.where(near > at_most, np.nextafter(near, np.float32(-np.inf)), near)
    return np.nextafter(near, np.float32(np.inf))


_COLUMNS = {
    "left": np.int32,
    "right": np.int32,
    "feature": np.int32,
    "threshold": np.float32,
    "nan_left": np.uint8,
    "value": np.float32,
}

PARTS: dict[str, type[Part]] = {
    part.kind: part for part in (Linear, NaiveBayes, Dense, Trees, Forest)
}


def blocks_of(X: Any, size: int | None = None) -> Iterable[Rows]:
    """Return the feature rows of pairs, some at a time."""
    return X.blocks(size) if hasattr(X, "blocks") else [np.asarray(X, np.float32)]


def numbered_blocks(X: Any, size: int | None = None) -> Iterator[tuple[slice, Rows]]:
    """Yield the same, each with the numbers of its rows."""
    end = 0
    for block in blocks_of(X, size):
        yield slice(end, end := end + len(block)), block


def cosine_of(X: Any, *, frozen: bool = False) -> NDArray[np.float32]:
    """Return the cosine of each pair, before the projection if `frozen`.

    Raises
    ------
    UsageError
        If `X` is a plain array, which doesn't know the vectors.
    """
    if not hasattr(X, "cosine"):
        msg = (
            "the cosine of the pairs needs PairFeatures, which know the vectors; got "
            f"{type(X).__name__} of shape {np.shape(X)}: give PairFeatures"
        )
        raise UsageError(msg)
    cosine: NDArray[np.float32] = X.cosine(frozen=frozen)
    return cosine


def head_score(head: Any, features: Any) -> NDArray[np.float64]:
    """Return the score of each pair by any fitted classifier or ranker.

    ``decision_function`` where there is one, else the probability of a match, else
    ``predict`` (a ranker). ``classes_`` says which column, or which sign, is that of a
    match; without it the last one is, as of ``[0, 1]``.

    Returns
    -------
    ndarray of shape (n_pairs,), float64

    Raises
    ------
    UsageError
        If no class of the head is 1, or its scores have another shape.
    """
    classes = np.asarray(getattr(head, "classes_", (0, 1))).tolist()
    if hasattr(head, "decision_function"):
        score = head.decision_function(features)
    elif hasattr(head, "predict_proba"):
        score = head.predict_proba(np.asarray(features))
    else:
        score, classes = head.predict(np.asarray(features)), [0, 1]
    if 1 not in classes:
        msg = f"{head!r} has classes_ {classes}, none of which is 1, a match"
        raise UsageError(msg)
    score = np.asarray(score, dtype=np.float64)
    score = score.ravel() if score.shape == (len(features), 1) else score
    if score.shape == (len(features), len(classes)):
        score = score[:, classes.index(1)]
    elif classes.index(1) != len(classes) - 1:
        score = -score
    if score.shape != (len(features),):
        msg = f"{head!r} gave scores of shape {score.shape} for {len(features)} pairs"
        raise UsageError(msg)
    return score


def _demand(fine: bool, otherwise: str) -> None:
    if not fine:
        raise ValueError(otherwise)
