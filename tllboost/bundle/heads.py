"""Tensors out of a bundle: numbers alone, and all of them finite.

Read the dialect of UBJSON that XGBoost writes, and nothing else.

XGBoost trusts the trees in a file: a child out of range makes it read beyond its
memory. What is read here can be checked before XGBoost sees it. Anything that XGBoost
itself does not write is refused, so that the two can't read one file in two ways.

Check a boosted head before XGBoost is given it.

Heads in and out of a bundle, as members that hold no code.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from tllboost.errors import UsageError
from tllboost.heads import HEADS
from tllboost.registry import import_path
from tllboost.vectorizers.weights import first_line

__all__ = ["check_tensors", "head_members", "restore_head"]


def check_tensors(name: str, data: bytes) -> None:
    """Raise unless a safetensors member holds finite numbers and nothing else.

    Parameters
    ----------
    name : str
        Of the member, for messages.
    data : bytes

    Raises
    ------
    ValueError
        If it is damaged, or a number is not finite.

    Examples
    --------
    >>> from safetensors.numpy import save
    >>> check_tensors("head.safetensors", save({"coef": np.float32([1, np.nan])}))
    Traceback (most recent call last):
      ...
    ValueError: 'coef' of head.safetensors holds what is not a finite number
    """
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except Exception as error:
        msg = f"{name} is damaged ({first_line(error)})"
        raise ValueError(msg) from error
    for key, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            msg = f"{key!r} of {name} holds what is not a finite number"
            raise ValueError(msg)


_NUMBERS = {
    b"i": ">i1",
    b"U": ">u1",
    b"I": ">i2",
    b"l": ">i4",
    b"L": ">i8",
    b"d": ">f4",
    b"D": ">f8",
}
_MAX_DEPTH = 32


def parse_ubjson(data: bytes) -> Any:
    r"""Return what a UBJSON document holds; arrays of one type as ndarrays.

    Raises
    ------
    ValueError
        If it is damaged, or not as XGBoost writes it.

    Examples
    --------
    >>> parse_ubjson(b"{L" + bytes(7) + b"\x01a[$U#L" + bytes(7) + b"\x02\x05\x06}")
    {'a': array([5, 6], dtype=uint8)}
    """
    reader = _Reader(data)
    document = reader.value(reader.take(1), 0)
    if reader.place != len(data):
        msg = "bytes after the end"
        raise ValueError(msg)
    return document


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, n_bytes: int) -> bytes:
        piece = self.data[self.place : self.place + n_bytes]
        if n_bytes < 0 or len(piece) < n_bytes:
            msg = "the end is missing"
            raise ValueError(msg)
        self.place += n_bytes
        return piece

    def value(self, marker: bytes, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            msg = "nested too deeply"
            raise ValueError(msg)
        if marker == b"{":
            return self._object(depth)
        if marker == b"[":
            return self._array(depth)
        if marker == b"S":
            return self._text()
        if marker in (b"T", b"F", b"Z"):
            return {b"T": True, b"F": False, b"Z": None}[marker]
        if marker in _NUMBERS:
            return self._numbers(marker, 1)[0].item()
        msg = f"unknown marker {marker!r}"
        raise ValueError(msg)

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while (marker := self.take(1)) != b"}":
            self.place -= len(marker)
            key = self._text()
            if key in found:
                msg = f"the key {key!r} stands twice"
                raise ValueError(msg)
            found[key] = self.value(self.take(1), depth + 1)
        return found

    def _array(self, depth: int) -> Any:
        marker = self.take(1)
        if marker == b"$":
            kind = self.take(1)
            self._expect(b"#")
            if kind not in _NUMBERS:
                msg = f"array of {kind!r}"
                raise ValueError(msg)
            return self._numbers(kind, self._length())
        if marker != b"#":
            msg = "array without a length"
            raise ValueError(msg)
        return [self.value(self.take(1), depth + 1) for _ in range(self._length())]

    def _numbers(self, kind: bytes, n_values: int) -> Any:
        dtype = np.dtype(_NUMBERS[kind])
        raw = self.take(n_values * dtype.itemsize)
        return np.frombuffer(raw, dtype).astype(dtype.newbyteorder("="))

    def _text(self) -> str:
        return self.take(self._length()).decode()

    def _length(self) -> int:
        self._expect(b"L")
        (length,) = struct.unpack(">q", self.take(8))
        return length

    def _expect(self, marker: bytes) -> None:
        if self.take(1) != marker:
            msg = f"{marker!r} is missing"
            raise ValueError(msg)


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


BUILT_IN = "built-in"
SKOPS = "skops"
_SKOPS_MEMBER = "head.skops"
_MAX_BYTES = 500_000_000

# skops keeps unknown types out; these are the known ones whose code checks its bounds.
# scikit-learn's own trees, neighbour searches and libsvm index whatever a file says.
_ALLOWED = (
    "builtins.",
    "numpy.",
    "scipy.sparse.",
    "sklearn.decomposition.",
    "sklearn.discriminant_analysis.",
    "sklearn.dummy.",
    "sklearn.linear_model.",
    "sklearn.naive_bayes.",
    "sklearn.neighbors._nearest_centroid.",
    "sklearn.neural_network.",
    "sklearn.pipeline.",
    "sklearn.preprocessing.",
    "sklearn.svm._classes.LinearSVC",
)


def head_members(head: Any) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the manifest's record of a fitted head, and its members.

    Parameters
    ----------
    head : estimator
        Fitted.

    Raises
    ------
    UsageError
        If it is neither built in nor a scikit-learn estimator that is safe to load.
    """
    path = _path_of(head)
    for name, entry in HEADS.items():
        if entry.path == path:
            return {"name": name, "format": BUILT_IN}, head.to_members()
    data = _dumps(head, path)
    refused = _refused_types(data)
    if refused:
        msg = (
            f"head {path!r} can't go into a bundle: it holds {refused[0]}, which is "
            f"not safe to load from a file; built-in heads can: {', '.join(HEADS)}"
        )
        raise UsageError(msg)
    return {"name": path, "format": SKOPS}, {_SKOPS_MEMBER: data}


def _dumps(head: Any, path: str) -> bytes:
    import skops.io

    try:
        return skops.io.dumps(head)
    except Exception as error:
        reason = first_line(error)
        msg = f"head {path!r} can't go into a bundle: skops can't store it ({reason})"
        raise UsageError(msg) from error


def restore_head(record: Mapping[str, str], members: Mapping[str, bytes]) -> Any:
    """Return a fitted head from the members of a bundle.

    Parameters
    ----------
    record : mapping
        ``name`` and ``format``, as the manifest has them.
    members : mapping of str to bytes
        The ``head.*`` members.

    Raises
    ------
    ValueError
        If it is not to be trusted, or damaged.
    """
    if record["format"] == SKOPS:
        return _restore_skops(members)
    if record["format"] != BUILT_IN or record["name"] not in HEADS:
        msg = f"head {record['name']!r} of format {record['format']!r} is not known"
        raise ValueError(msg)
    for name, data in members.items():
        _check_member(name, data)
    head = import_path(HEADS[record["name"]].path)()
    try:
        return head.from_members(dict(members))
    except Exception as error:  # whatever a stranger's numbers may do to it
        msg = f"its head can't be loaded ({type(error).__name__}: {first_line(error)})"
        raise ValueError(msg) from error


def _check_member(name: str, data: bytes) -> None:
    if name == "head.ubj":
        check_booster(data)
    elif name == "head.safetensors":
        check_tensors(name, data)
    elif name != "head.json":
        msg = f"{name} has no place in a built-in head"
        raise ValueError(msg)


def _restore_skops(members: Mapping[str, bytes]) -> Any:
    import skops.io

    if set(members) != {_SKOPS_MEMBER}:
        msg = f"its head must be one {_SKOPS_MEMBER}"
        raise ValueError(msg)
    data = members[_SKOPS_MEMBER]
    try:
        refused = _refused_types(data)
    except Exception as error:
        msg = f"{_SKOPS_MEMBER} is damaged ({first_line(error)})"
        raise ValueError(msg) from error
    if refused:
        msg = f"its head holds {refused[0]}, which is not safe to load"
        raise ValueError(msg)
    try:
        head = skops.io.loads(data, trusted=[])
    except Exception as error:
        msg = f"its head can't be loaded ({type(error).__name__}: {first_line(error)})"
        raise ValueError(msg) from error
    if not _path_of(head).startswith("sklearn."):
        msg = f"its head is {_path_of(head)!r}, no estimator of scikit-learn"
        raise ValueError(msg)
    return head


def _refused_types(data: bytes) -> list[str]:
    """Return the types in a skops file that are outside the allow-list, sorted."""
    import skops.io

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(info.file_size for info in archive.infolist()) > _MAX_BYTES:
            msg = f"it unpacks to more than {_MAX_BYTES:,} bytes"
            raise ValueError(msg)
        schema = json.loads(archive.read("schema.json"))
    refused = set(skops.io.get_untrusted_types(data=data))
    refused |= {name for name in _types(schema) if not name.startswith(_ALLOWED)}
    return sorted(refused)


def _types(node: Any) -> set[str]:
    """Return every type that a skops schema names, at whatever depth."""
    found: set[str] = set()
    todo = [node]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            if "__class__" in node:
                found.add(f"{node.get('__module__')}.{node['__class__']}")
            todo += node.values()
        elif isinstance(node, list):
            todo += node
    return found


def _path_of(head: Any) -> str:
    return f"{type(head).__module__}:{type(head).__qualname__}"
