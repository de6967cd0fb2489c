"""Bundles: one file that holds a fitted classifier and scores new pairs anywhere.

A ``.tllb`` file is a zip archive:

    manifest.json             what it is: vectorizers, cells, calibration, threshold,
                              metrics, versions, sha256 of every other member
    0/head.safetensors        what the head of cell 0 learned; of a head of
                              scikit-learn's own, head.skops
    0/projection.safetensors  what its projection learned, if it has one
    1/…                       the same of the other cells of an ensemble
    network/*                 the networks that were local files, up to 100 MB each
    golden.safetensors        vectors of a few pairs and the scores that they must get

It holds no code and no pickle. A sha256 tells a damaged bundle from a whole one; it
does not tell who wrote it, so whatever a bundle says is taken as a stranger's word.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load, save

from tllboost.bundle.archive import (
    FORMAT,
    GOLDEN,
    HEAD,
    MAX_CELLS,
    PROJECTION,
    REFERENCES,
    SKOPS,
    VERSION,
    members_of,
    open_archive,
    write_archive,
)
from tllboost.bundle.vectorizers import (
    BundledVectorizer,
    Described,
    code_in,
    first_alike,
    not_for_bundles,
    place_networks,
    restore_vectorizers,
)
from tllboost.calibration import Calibration
from tllboost.conventions import environment
from tllboost.errors import BundleError, UsageError
from tllboost.heads import HEADS
from tllboost.heads.fitted import FittedHead
from tllboost.merges import resolve_merge
from tllboost.projections import PROJECTIONS, is_built_in, make_projection
from tllboost.references import References
from tllboost.registry import parse_spec, path_of
from tllboost.scoring import FittedCell, PairScorer, Scorer, combined_score
from tllboost.vectorizers import Vectorizer, check_device
from tllboost.vectorizers.weights import first_line

FilePath = str | PathLike[str]
Block = tuple[ArrayLike, ArrayLike]
Arrays = Mapping[str, NDArray[Any]]


# Other processors and BLAS libraries add up in another order, which moves a float32
# score by some 1e-6 of its size; a head that is not the one saved, or that a new
# library reads in another way, moves it by far more than this.
_TOLERANCE = 1e-4
_N_GOLDEN = 8


def save_bundle(
    path: FilePath,
    classifier: Scorer,
    *,
    cell: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    golden: Sequence[Block] | None = None,
) -> None:
    """Write a fitted classifier to one file that scores new pairs anywhere.

    The file holds no code and no pickle. A network that a vectorizer reads from a
    local file goes in too, once for all cells, if it has at most 100 MB and is not a
    pickle (``.pt``, ``.pth``); else it is named with its sha256.

    Parameters
    ----------
    path : path-like
        The file to write; an old one is replaced in one step.
    classifier : Scorer or PairClassifier
        Fitted; at most 64 cells.
    cell : mapping of str to text, number or None, optional
        The names of the grid's row, for the reader.
    metrics : mapping of str to number or None, optional
        Its figures.
    golden : sequence of two array-likes (n_pairs, n_dims), length n_cells, optional
        For each of ``classifier.cells_`` the left and the right vectors of the same few
        pairs, which are scored again whenever it is loaded. Random vectors by default.

    Raises
    ------
    UsageError
        If a part can't be saved: a merge that is a function, a head that is not safe
        to load, a vectorizer that is an object.
    DataError
        If the file can't be written.

    See Also
    --------
    tllboost.load : Read it.
    """
    cells = classifier.cells_
    if golden is None:
        shapes = [(2, _N_GOLDEN, one.vectorizer.n_dims) for one in cells]
        golden = [tuple(np.random.default_rng(0).normal(size=one)) for one in shapes]
    if len(cells) > MAX_CELLS:
        msg = f"an ensemble of {len(cells)} cells is too large: {MAX_CELLS} at most"
        raise UsageError(msg)
    n_pairs = {np.shape(side)[0] for block in golden for side in block}
    if len(golden) != len(cells) or len(n_pairs) != 1:
        msg = (
            "golden must be the left and the right vectors of the same pairs for each "
            f"of {len(cells)} cells"
        )
        raise UsageError(msg)
    vectors = [np.stack(block).astype(np.float32) for block in golden]
    described = Described()
    records, members = [], dict[str, Any]()
    for index, (one, block) in enumerate(zip(cells, vectors, strict=True)):
        record, learned = _describe_cell(one)
        members |= {f"{index}/{name}": data for name, data in learned.items()}
        own_parts = described.add(one.vectorizer, block.shape[2])
        records.append({"vectorizer": own_parts, **record})
    first = first_alike(records)
    arrays = {f"vectors.{at}": vectors[at] for at in first}
    scores = {"scores": _golden_scores(arrays, cells, first)}
    members[GOLDEN] = save(arrays | scores)
    known = environment()
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "cell": _plain(cell or {}, described.spellings),
        "metrics": _plain(metrics or {}, described.spellings),
        "vectorizers": list(described.records.values()),
        "cells": records,
        "calibration": classifier.calibration_._asdict(),
        "threshold": classifier.threshold_,
        "refitted": classifier.refitted_,
        "versions": {"python": known["python"], **known["versions"]},
    }
    # What can't be read back shall fail here, not where it is needed.
    _restore(manifest, members.__getitem__, what="the new bundle")
    write_archive(path, manifest, members | described.members)


def _plain(values: Mapping[str, Any], spellings: Mapping[str, str]) -> dict[str, Any]:
    """Return values as JSON has them, without folders of this machine."""
    plain: dict[str, Any] = {}
    for key, value in values.items():
        if hasattr(value, "item"):  # of numpy
            value = value.item()
        if value is not None and not isinstance(value, bool | int | float):
            value = str(value)
            for there in sorted(spellings, key=len, reverse=True):
                value = value.replace(there, spellings[there])
        plain[str(key)] = value
    return plain


def read_manifest(path: FilePath) -> dict[str, Any]:
    """Return what a bundle says of itself, after checking every member's sha256.

    Nothing is loaded or run.

    Parameters
    ----------
    path : path-like
        The bundle.

    Returns
    -------
    dict
        ``format``, ``version``, ``created``, ``cell``, ``metrics``, ``vectorizers``,
        ``cells``, ``calibration``, ``threshold``, ``refitted``, ``versions``,
        ``members``.

    Raises
    ------
    DataError
        If there is no such file.
    BundleError
        If it is no bundle, or a damaged or changed one.
    """
    with open_archive(path) as archive:
        archive.verify()
        return archive.manifest


def read_scorer(
    path: FilePath,
    *,
    weights: FilePath | Iterable[FilePath] | None = None,
    device: str = "auto",
    store: FilePath | None = None,
    offline: bool = False,
    trust_code: bool = False,
) -> Scorer:
    """Return what is in a bundle as :func:`tllboost.load` does, importing numpy alone.

    scikit-learn, half a second to import, is not needed to score.
    """
    check_device(device)
    with open_archive(path) as archive:
        archive.verify()
        manifest = archive.manifest
        if (code := code_in(manifest)) and not trust_code:
            msg = (
                f"{path}: loading it runs code of {', '.join(code)}: if you trust "
                "that code, give --trust-code (trust_code=True)"
            )
            raise UsageError(msg)
        cells, vectorizers = _restore(
            manifest, archive.read, what=archive.what, device=device, offline=offline
        )
        # Last, so that nothing is unpacked of what is refused.
        place_networks(archive, vectorizers, weights)
    scorer = Scorer(
        cells,
        calibration=Calibration(**manifest["calibration"]),
        threshold=manifest["threshold"],
        store=store,
    )
    scorer.refitted_ = manifest["refitted"]
    return scorer


def _restore(
    manifest: Mapping[str, Any],
    read: Callable[[str], bytes],
    *,
    what: str,
    **options: Any,
) -> tuple[list[FittedCell], list[BundledVectorizer]]:
    """Return cells that score golden pairs as before, and their vectorizers.

    `read` returns the bytes of a member, `options` are those of vectorizers.
    """
    try:
        vectorizers, of_cells = restore_vectorizers(manifest, **options)
        cells = []
        for at, record in enumerate(manifest["cells"]):
            members = {name: read(f"{at}/{name}") for name in members_of(record)}
            cells.append(_restore_cell(record, members, of_cells[at]))
        arrays = _read_tensors(GOLDEN, read(GOLDEN))
        _check_golden(arrays, cells, first_alike(manifest["cells"]))
    except ValueError as error:
        msg = f"{what}: {error}: do not use it"
        raise BundleError(msg) from error
    return cells, vectorizers


def _golden_scores(
    arrays: Arrays, cells: Sequence[FittedCell], first: Sequence[int]
) -> NDArray[np.float64]:
    """Return the scores of each cell, and of all together: (n_cells + 1, n_pairs)."""
    scores = []
    for cell, at in zip(cells, first, strict=True):
        left, right = arrays[f"vectors.{at}"]
        index = np.arange(len(left))
        scores.append(cell.score(np.vstack([left, right]), index, index + len(left)))
    return np.stack([*scores, combined_score(cells, scores)])


def _check_golden(
    arrays: Arrays, cells: Sequence[FittedCell], first: Sequence[int]
) -> None:
    """Raise ValueError if a score differs by more than 1e-4 of the largest one."""
    wanted = arrays.get("scores", np.empty((0, 0)))
    n_pairs = wanted.size // (len(cells) + 1)
    shapes: dict[str, Any] = {
        f"vectors.{at}": ("float32", (2, n_pairs, cells[at].vectorizer.n_dims))
        for at in first
    }
    shapes["scores"] = ("float64", (len(cells) + 1, n_pairs))
    found = {name: (str(one.dtype), one.shape) for name, one in arrays.items()}
    if found != shapes or not n_pairs:
        msg = f"its golden pairs are {found}, must be {shapes}"
        raise ValueError(msg)
    with _refusing("its golden pairs can't be scored"), np.errstate(all="ignore"):
        scores = _golden_scores(arrays, cells, first)
    off = np.abs(scores - wanted)
    limit = _TOLERANCE * np.abs(wanted).max(axis=1, keepdims=True) + 1e-9
    # Not >: a NaN is no match either.
    for cell, pair in np.argwhere(~(off <= limit)):
        msg = (
            f"golden pair {pair} scores {scores[cell, pair]:.6g} here and scored "
            f"{wanted[cell, pair]:.6g} when it was saved"
        )
        raise ValueError(msg)


# The cells: projection, merge, head and calibration, in and out. What was learned goes
# in as tensors, numbers alone and all of them finite. A head that is scikit-learn's own
# goes in as skops, of which no type is loaded whose code trusts a file.

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


def _describe_cell(cell: FittedCell) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest's record of a cell but for its vectorizer, and its members.

    Raises
    ------
    UsageError
        If a part can't be made again elsewhere.
    """
    scorer, projection = cell.scorer, cell.projection
    if not isinstance(scorer.merge, str):
        why = "it is a function; give it by name, or as package.module:function"
        raise not_for_bundles(scorer.merge, "merge", why)
    if projection is not None and not is_built_in(projection):
        why = f"built-in ones can: {', '.join(PROJECTIONS)}"
        raise not_for_bundles(path_of(projection), "projection", why)
    head, members = _describe_head(scorer)
    if projection is not None:
        members[PROJECTION] = save(projection.to_tensors())
    if scorer.references is not None:
        members[REFERENCES] = save(scorer.references.tensors())
    record = {
        "projection": cell.projection_spec,
        "merge": scorer.merge,
        "head": head,
        "calibration": scorer.calibration_._asdict(),
        "threshold": scorer.threshold_,
        "weight": cell.weight,
    }
    return record, members


def _restore_cell(
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
    with _refusing("its projection can't be loaded"):
        if ":" in record["projection"]:  # a stranger's code is never run
            msg = f"{record['projection']!r} is not allowed in a bundle"
            raise ValueError(msg)
        projection = make_projection(record["projection"], device="cpu")
        if projection is not None:
            tensors = _read_tensors(PROJECTION, members[PROJECTION])
            projection = projection.from_tensors(tensors)
    with _refusing("its head can't be loaded"):
        head, name = _restore_head(record["head"], members)
    references = None
    if REFERENCES in members:
        references = References.of(_read_tensors(REFERENCES, members[REFERENCES]))
    scorer = PairScorer(record["merge"], name, references=references)
    scorer.head_ = head
    scorer.calibration_ = Calibration(**record["calibration"])
    scorer.threshold_ = float(record["threshold"])
    return FittedCell(vectorizer, projection, scorer, float(record["weight"]))


@contextmanager
def _refusing(what: str) -> Iterator[None]:
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


def _read_tensors(name: str, data: bytes) -> dict[str, Any]:
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
    >>> _read_tensors("head.safetensors", save({"coef": np.float32([1, np.nan])}))
    Traceback (most recent call last):
      ...
    ValueError: 'coef' of head.safetensors has a value that is not a finite number
    """
    with _refusing(f"{name} is damaged"):
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
        record = {"name": HEADS.name_of(scorer.head), "format": head.kind}
        return record, {HEAD: save(head.tensors())}
    import skops.io

    path, given = path_of(head), scorer.head
    try:
        data = skops.io.dumps(head)
    except Exception as error:
        why = f"skops can't store it ({first_line(error)})"
        raise not_for_bundles(path, "head", why) from error
    if refused := _refused_types(data):
        what = f"it holds {refused[0]}, which is not safe to load from a file"
        why = f"{what}; built-in heads can: {', '.join(HEADS)}"
        raise not_for_bundles(path, "head", why)
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
    arrays = _read_tensors(HEAD, members[HEAD])
    return FittedHead.of(record["format"], arrays), record["name"]


def _load_skops(data: bytes) -> Any:
    import skops.io

    with _refusing(f"{SKOPS} is damaged"):
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
