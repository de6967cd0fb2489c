"""Heads in and out of a bundle, as members that hold no code."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

from tllboost.bundle.boosted import check_booster
from tllboost.bundle.tensors import check_tensors
from tllboost.errors import UsageError
from tllboost.heads import HEADS
from tllboost.registry import import_path
from tllboost.vectorizers.weights import first_line

__all__ = ["head_members", "restore_head"]

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
