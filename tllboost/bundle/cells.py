"""The cells of a bundle: projection, merge, head and calibration, in and out.

What was learned goes in as tensors, numbers alone and all of them finite. A head that
is scikit-learn's own goes in as skops, of which no type is loaded whose code trusts a
file.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from tllboost.calibration import Calibration
from tllboost.errors import TllboostError, UsageError
from tllboost.heads import HEADS
from tllboost.heads.fitted import FittedHead
from tllboost.merges import resolve_merge
from tllboost.projections import PROJECTIONS, is_built_in, make_projection
from tllboost.scoring import FittedCell, PairScorer
from tllboost.vectorizers import Vectorizer
from tllboost.vectorizers.weights import first_line

__all__ = ["describe_cell", "restore_cell"]

Members = Mapping[str, bytes]
SKOPS = "skops"
_PROJECTION, _HEAD, _SKOPS = "projection.safetensors", "head.safetensors", "head.skops"
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


def describe_cell(
    cell: FittedCell, vectorizer: int
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest's record of a cell, and its members.

    Parameters
    ----------
    cell : FittedCell
    vectorizer : int
        Which of the bundle's vectorizers is its own.

    Raises
    ------
    UsageError
        If a part can't be made again elsewhere.
    """
    scorer, projection = cell.scorer, cell.projection
    if not isinstance(scorer.merge, str):
        msg = (
            f"merge {scorer.merge!r} can't go into a bundle: it is a function; give it "
            "by name, or as package.module:function"
        )
        raise UsageError(msg)
    resolve_merge(scorer.merge)
    if projection is not None and not is_built_in(projection):
        msg = (
            f"projection {_path_of(projection)!r} can't go into a bundle: built-in "
            f"ones can: {', '.join(PROJECTIONS)}"
        )
        raise UsageError(msg)
    learned = {} if projection is None else projection.to_members()
    head, members = _describe_head(scorer)
    record = {
        "vectorizer": vectorizer,
        "projection": cell.projection_spec,
        "merge": scorer.merge,
        "head": head,
        "calibration": {
            name: float(value) for name, value in scorer.calibration_._asdict().items()
        },
        "threshold": float(scorer.threshold_),
    }
    return record, {**learned, **members}


def restore_cell(
    record: Mapping[str, Any], members: Members, vectorizer: Vectorizer
) -> FittedCell:
    """Return a fitted cell from its record and its members.

    Parameters
    ----------
    record : mapping
        As the manifest has it.
    members : mapping of str to bytes
        By the names that :func:`describe_cell` gave.
    vectorizer : Vectorizer

    Raises
    ------
    ValueError
        If it is not to be trusted, or damaged.
    """
    learned = dict(members)
    projection = _restore_projection(
        record["projection"], learned.pop(_PROJECTION, None)
    )
    head, name = _restore_head(record["head"], learned)
    scorer = PairScorer(record["merge"], name)
    scorer.head_ = head
    scorer.calibration_ = Calibration(**record["calibration"])
    scorer.threshold_ = float(record["threshold"])
    return FittedCell(vectorizer, projection, scorer)


def read_tensors(name: str, data: bytes) -> dict[str, Any]:
    """Return what a safetensors member holds, finite numbers and nothing else.

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
    >>> read_tensors("head.safetensors", save({"coef": np.float32([1, np.nan])}))
    Traceback (most recent call last):
      ...
    ValueError: 'coef' of head.safetensors holds what is not a finite number
    """
    try:
        arrays = load(data)
    except Exception as error:
        msg = f"{name} is damaged ({first_line(error)})"
        raise ValueError(msg) from error
    for key, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            msg = f"{key!r} of {name} holds what is not a finite number"
            raise ValueError(msg)
    return arrays


def _restore_projection(spec: str, data: bytes | None) -> Any:
    """Return a fitted projection, None for none."""
    if ":" in spec:  # an import path: a stranger's code is never run
        msg = f"its projection {spec!r} is none that a bundle may hold"
        raise ValueError(msg)
    try:
        projection = make_projection(spec, device="cpu")
    except TllboostError as error:
        msg = f"projection {spec!r}: {error}"
        raise ValueError(msg) from error
    if (projection is None) != (data is None):
        what = "has tensors of one" if data else "has no tensors of it"
        msg = f"its projection is {spec!r}, and it {what}"
        raise ValueError(msg)
    if projection is None or data is None:
        return None
    read_tensors(_PROJECTION, data)
    with _loading("projection"):
        return projection.from_members({_PROJECTION: data})


def _describe_head(scorer: PairScorer) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return name and format of a fitted head, and its member."""
    head = scorer.fitted
    if isinstance(head, FittedHead):
        given = scorer.head
        path = given if isinstance(given, str) else _path_of(given)
        names = {entry.path: name for name, entry in HEADS.items()}
        record = {"name": names.get(path, path), "format": head.kind}
        return record, {_HEAD: save(head.tensors())}
    import skops.io

    path = _path_of(head)
    try:
        data = skops.io.dumps(head)
    except Exception as error:
        reason = first_line(error)
        msg = f"head {path!r} can't go into a bundle: skops can't store it ({reason})"
        raise UsageError(msg) from error
    refused = _refused_types(data)
    if refused:
        msg = (
            f"head {path!r} can't go into a bundle: it holds {refused[0]}, which is "
            f"not safe to load from a file; built-in heads can: {', '.join(HEADS)}"
        )
        raise UsageError(msg)
    return {"name": path, "format": SKOPS}, {_SKOPS: data}


def _restore_head(record: Mapping[str, str], members: Members) -> tuple[Any, str]:
    """Return a fitted head and its name."""
    member = _SKOPS if record["format"] == SKOPS else _HEAD
    if set(members) != {member}:
        msg = f"its head must be one {member}"
        raise ValueError(msg)
    data = members[member]
    if member == _SKOPS:
        head = _load_skops(data)
        return head, _path_of(head)
    if record["name"] not in HEADS:
        msg = f"head {record['name']!r} is not known"
        raise ValueError(msg)
    arrays = read_tensors(_HEAD, data)
    with _loading("head"):
        return FittedHead.of(record["format"], arrays), record["name"]


def _load_skops(data: bytes) -> Any:
    import skops.io

    try:
        refused = _refused_types(data)
    except Exception as error:
        msg = f"{_SKOPS} is damaged ({first_line(error)})"
        raise ValueError(msg) from error
    if refused:
        msg = f"its head holds {refused[0]}, which is not safe to load"
        raise ValueError(msg)
    with _loading("head"):
        head = skops.io.loads(data, trusted=[])
    if not _path_of(head).startswith("sklearn."):
        msg = f"its head is {_path_of(head)!r}, no estimator of scikit-learn"
        raise ValueError(msg)
    return head


@contextmanager
def _loading(what: str) -> Iterator[None]:
    """Say in one line what a stranger's numbers did, whatever it was."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        msg = f"its {what} can't be loaded ({reason})"
        raise ValueError(msg) from error


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


def _path_of(thing: Any) -> str:
    kind = thing if isinstance(thing, type) else type(thing)
    return f"{kind.__module__}:{kind.__qualname__}"
