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

from tllboost.bundle.manifest import HEAD, PROJECTION, REFERENCES, SKOPS
from tllboost.calibration import Calibration
from tllboost.errors import UsageError
from tllboost.heads import HEADS
from tllboost.heads.fitted import FittedHead
from tllboost.merges import resolve_merge
from tllboost.projections import PROJECTIONS, is_built_in, make_projection
from tllboost.references import References
from tllboost.registry import parse_spec, path_of
from tllboost.scoring import FittedCell, PairScorer
from tllboost.vectorizers import Vectorizer
from tllboost.vectorizers.weights import first_line

__all__ = ["describe_cell", "read_tensors", "refusing", "restore_cell"]

Members = Mapping[str, bytes]
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


def describe_cell(cell: FittedCell) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest's record of a cell but for its vectorizer, and its members.

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
    if projection is not None and not is_built_in(projection):
        msg = (
            f"projection {path_of(projection)!r} can't go into a bundle: built-in "
            f"ones can: {', '.join(PROJECTIONS)}"
        )
        raise UsageError(msg)
    learned = {}
    if projection is not None:
        learned[PROJECTION] = save(projection.to_tensors())
    if scorer.references is not None:
        learned[REFERENCES] = save(scorer.references.tensors())
    head, member = _describe_head(scorer)
    record = {
        "projection": cell.projection_spec,
        "merge": scorer.merge,
        "head": head,
        "calibration": scorer.calibration_._asdict(),
        "threshold": scorer.threshold_,
        "weight": cell.weight,
    }
    return record, {**learned, **member}


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
    resolve_merge(record["merge"])
    with refusing("its projection can't be loaded"):
        if ":" in record["projection"]:  # a stranger's code is never run
            msg = f"{record['projection']!r} is not allowed in a bundle"
            raise ValueError(msg)
        projection = make_projection(record["projection"], device="cpu")
        if projection is not None:
            tensors = read_tensors(PROJECTION, members[PROJECTION])
            projection = projection.from_tensors(tensors)
    with refusing("its head can't be loaded"):
        head, name = _restore_head(record["head"], members)
    references = None
    if REFERENCES in members:
        references = References.of(read_tensors(REFERENCES, members[REFERENCES]))
    scorer = PairScorer(record["merge"], name, references=references)
    scorer.head_ = head
    scorer.calibration_ = Calibration(**record["calibration"])
    scorer.threshold_ = float(record["threshold"])
    return FittedCell(vectorizer, projection, scorer, float(record["weight"]))


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Say in one line what a stranger's numbers did, whatever it was.

    Raises
    ------
    ValueError
        In place of any other exception.
    """
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        msg = f"{what} ({kind}{first_line(error)})"
        raise ValueError(msg) from error


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
    ValueError: 'coef' of head.safetensors has a value that is not a finite number
    """
    with refusing(f"{name} is damaged"):
        arrays = load(data)
    for key, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            msg = f"{key!r} of {name} has a value that is not a finite number"
            raise ValueError(msg)
    return arrays


def _describe_head(scorer: PairScorer) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return name and format of a fitted head, and its member."""
    head = scorer.fitted
    if isinstance(head, FittedHead):
        given = scorer.head
        name = given if isinstance(given, str) else HEADS.name_of(given)
        record = {"name": name, "format": head.kind}
        return record, {HEAD: save(head.tensors())}
    import skops.io

    path, given = path_of(head), scorer.head
    try:
        data = skops.io.dumps(head)
    except Exception as error:
        reason = first_line(error)
        msg = f"head {path!r} can't go into a bundle: skops can't store it ({reason})"
        raise UsageError(msg) from error
    if refused := _refused_types(data):
        msg = (
            f"head {path!r} can't go into a bundle: it holds {refused[0]}, which is "
            f"not safe to load from a file; built-in heads can: {', '.join(HEADS)}"
        )
        raise UsageError(msg)
    name = given if isinstance(given, str) else path
    return {"name": name, "format": "skops"}, {SKOPS: data}


def _restore_head(record: Mapping[str, str], members: Members) -> tuple[Any, str]:
    """Return a fitted head and its name."""
    if record["format"] == "skops":
        head = _load_skops(members[SKOPS])
        # Its path is its own: the name is a stranger's, and may lead anywhere.
        _, mark, options = record["name"].partition("?")
        return head, f"{path_of(head)}{mark}{options}"
    if parse_spec(record["name"]).kind not in HEADS:
        msg = f"head {record['name']!r} is not known"
        raise ValueError(msg)
    arrays = read_tensors(HEAD, members[HEAD])
    return FittedHead.of(record["format"], arrays), record["name"]


def _load_skops(data: bytes) -> Any:
    import skops.io

    with refusing(f"{SKOPS} is damaged"):
        refused = _refused_types(data)
    if refused:
        msg = f"it holds {refused[0]}, which is not safe to load"
        raise ValueError(msg)
    head = skops.io.loads(data, trusted=[])
    if not path_of(head).startswith("sklearn."):
        msg = f"it is {path_of(head)!r}, not an estimator of scikit-learn"
        raise ValueError(msg)
    return head


def _refused_types(data: bytes) -> list[str]:
    """Return the types in a skops file that are outside the allow-list, sorted."""
    import skops.io

    types: set[str] = set()

    def note(node: dict[str, Any]) -> dict[str, Any]:
        if "__class__" in node:
            types.add(f"{node.get('__module__')}.{node['__class__']}")
        return node

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(info.file_size for info in archive.infolist()) > _MAX_BYTES:
            msg = f"it unpacks to more than {_MAX_BYTES:,} bytes"
            raise ValueError(msg)
        json.loads(archive.read("schema.json"), object_hook=note)
    refused = {one for one in types if not one.startswith(_ALLOWED)}
    return sorted(refused.union(skops.io.get_untrusted_types(data=data)))
