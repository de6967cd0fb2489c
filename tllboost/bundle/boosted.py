"""Check a boosted head before XGBoost is given it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tllboost.bundle.ubjson import parse_ubjson
from tllboost.vectorizers.weights import first_line

__all__ = ["check_booster"]

_OBJECTIVES = ("binary:logistic", "rank:pairwise")
_NO_PARENT = 2**31 - 1
_COLUMNS = (
    "left_children",
    "right_children",
    "parents",
    "split_indices",
    "split_conditions",
    "base_weights",
    "default_left",
    "split_type",
    "loss_changes",
    "sum_hessian",
)


def check_booster(data: bytes) -> None:
    """Raise unless these are trees that XGBoost can load and walk.

    Parameters
    ----------
    data : bytes
        A booster as UBJSON.

    Raises
    ------
    ValueError
        If it is anything but plain numeric trees with every index in range and every
        number finite.
    """
    try:
        learner = parse_ubjson(data)["learner"]
        booster = learner["gradient_booster"]
        model = booster["model"]
        n_features = int(learner["learner_model_param"]["num_feature"])
        trees = model["trees"]
        _demand(booster["name"] == "gbtree", "its booster is not gbtree")
        _demand(learner["objective"]["name"] in _OBJECTIVES, "its objective is another")
        _check_model(learner["learner_model_param"], model, len(trees))
        for index, tree in enumerate(trees):
            _demand(tree["id"] == index, "its trees are out of order")
            _check_tree(tree, n_features)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        found = f"{type(error).__name__}: {first_line(error)}"
        msg = f"it lacks something, or has it in another form ({found})"
        raise ValueError(msg) from error


def _check_model(params: Any, model: Any, n_trees: int) -> None:
    base_score = float(str(params["base_score"]).strip("[]"))
    _demand(np.isfinite(base_score), "its base score is not a finite number")
    _demand(params["num_class"] == "0", "it has more than one output")
    _demand(params.get("num_target", "1") in ("0", "1"), "it has more than one output")
    counts = model["gbtree_model_param"]
    _demand(counts["num_trees"] == str(n_trees), "its number of trees is another")
    _demand(counts.get("num_parallel_tree", "1") == "1", "it has parallel trees")
    _demand(
        np.array_equal(model["tree_info"], np.zeros(n_trees)),
        "its trees have classes",
    )
    rounds = model.get("iteration_indptr", np.arange(n_trees + 1))
    _demand(np.array_equal(rounds, np.arange(n_trees + 1)), "its rounds are others")
    categories = model.get("cats", {})
    _demand(not any(len(one) for one in categories.values()), "it has categories")


def _check_tree(tree: dict[str, Any], n_features: int) -> None:
    """Check one tree; all columns are arrays of one length."""
    counts = tree["tree_param"]
    n_nodes = int(counts["num_nodes"])
    columns = {name: np.asarray(tree[name]) for name in _COLUMNS}
    _demand(n_nodes >= 1, "a tree has no node")
    _demand(
        all(column.shape == (n_nodes,) for column in columns.values()),
        "the columns of a tree differ in length",
    )
    _demand(counts["size_leaf_vector"] in ("0", "1"), "a leaf has many values")
    _demand(int(counts["num_feature"]) == n_features, "a tree has other features")
    for name in ("categories", "categories_nodes", "categories_segments"):
        _demand(len(tree[name]) == 0, "a tree has categories")
    _demand(not columns["split_type"].any(), "a tree has categories")
    for name in ("split_conditions", "base_weights"):
        _demand(bool(np.isfinite(columns[name]).all()), f"{name} are not all finite")
    _check_links(columns, n_nodes, n_features)


def _check_links(columns: dict[str, Any], n_nodes: int, n_features: int) -> None:
    """Check that every walk from the root ends in a leaf.

    Where no node has two parents and the root has none, no walk can come back.
    """
    left, right = columns["left_children"], columns["right_children"]
    parents = columns["parents"]
    inner = np.flatnonzero(left != -1)
    _demand(
        bool((right[left == -1] == -1).all()), "a node of a tree has but a right child"
    )
    children = np.concatenate([left[inner], right[inner]])
    _demand(
        bool(((children >= 1) & (children < n_nodes)).all()), "a child is out of range"
    )
    _demand(len(np.unique(children)) == len(children), "a node has two parents")
    _demand(parents[0] == _NO_PARENT, "the root of a tree has a parent")
    _demand(
        bool(((parents[1:] >= 0) & (parents[1:] < n_nodes)).all()),
        "a parent is out of range",
    )
    _demand(bool((parents[children] == np.tile(inner, 2)).all()), "a parent is another")
    split = columns["split_indices"][inner]
    _demand(
        bool(((split >= 0) & (split < n_features)).all()), "a split looks at no feature"
    )


def _demand(fine: bool, otherwise: str) -> None:
    if not fine:
        raise ValueError(otherwise)
