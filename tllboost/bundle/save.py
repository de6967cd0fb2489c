"""Write a fitted classifier to one file."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tllboost import __version__
from tllboost.bundle.archive import write_archive
from tllboost.bundle.cells import describe_cell, restore_cell
from tllboost.bundle.golden import Block, check_golden, golden_member
from tllboost.bundle.manifest import FORMAT, GOLDEN, MAX_CELLS, VERSION
from tllboost.bundle.vectorizers import describe_vectorizers, parts_of
from tllboost.errors import UsageError
from tllboost.vectorizing import space_of

if TYPE_CHECKING:
    from tllboost.scoring import Scorer
    from tllboost.vectorizers import Vectorizer

__all__ = ["save_bundle"]

_LIBRARIES = ("numpy", "scikit-learn", "xgboost", "torch", "timm", "open_clip_torch")
_MORE_LIBRARIES = ("onnxruntime", "scikit-image", "pillow", "safetensors", "skops")


def save_bundle(
    path: str | PathLike[str],
    classifier: Scorer,
    *,
    cell: Mapping[str, Any],
    metrics: Mapping[str, Any],
    golden: Block | Sequence[Block],
) -> None:
    """Write a fitted classifier to one file that scores new pairs anywhere.

    The file holds no code and no pickle. A network that a vectorizer reads from a
    local file goes in too, once for all cells, up to 100 MB and unless it is a pickle
    (``.pt``, ``.pth``); else it is named with its sha256.

    Parameters
    ----------
    path : path-like
        Where to; what is there is replaced in one step.
    classifier : Scorer or PairClassifier
        Fitted; at most 64 cells.
    cell : mapping of str to text, number or None
        The names of the grid's row, for the reader.
    metrics : mapping of str to number or None
        Its figures.
    golden : tuple of two array-likes of shape (n_pairs, n_dims), or a list of such
        Left and right vectors of a few pairs, scored again whenever it is loaded. As a
        tuple those of the one vectorizer of all cells; as a list one tuple a cell, of
        the same pairs, in the order of ``classifier.cells_``.

    Raises
    ------
    UsageError
        If a part can't be made again elsewhere: a merge that is a function, a head
        that is not safe to load, a vectorizer that is an object.
    DataError
        If the file can't be written.

    See Also
    --------
    load_bundle : The way back.
    """
    cells = classifier.cells_
    own = [golden] * len(cells) if isinstance(golden, tuple) else list(golden)
    if len(cells) > MAX_CELLS:
        msg = (
            f"an ensemble of {len(cells)} cells is too large for a bundle: {MAX_CELLS}"
        )
        raise UsageError(msg)
    if len(own) != len(cells):
        msg = (
            f"golden has {len(own)} blocks for {len(cells)} cells: give (left, right) "
            "vectors of the same pairs for each cell"
        )
        raise UsageError(msg)
    spaces = [space_of(one.vectorizer) for one in cells]
    distinct = list(dict.fromkeys(spaces))
    which = [distinct.index(space) for space in spaces]
    first = [spaces.index(space) for space in distinct]
    blocks = [own[index] for index in first]
    described = [describe_cell(one, at) for one, at in zip(cells, which, strict=True)]
    data = golden_member(blocks, cells, which)
    n_dims = [len(left[0]) for left, _ in blocks]  # type: ignore[index, arg-type]
    # What can't be read back shall fail here, not where it is needed.
    again = [
        restore_cell(*parts, one.vectorizer)
        for parts, one in zip(described, cells, strict=True)
    ]
    check_golden(data, again, which, n_dims=n_dims)
    vectorizers = [cells[index].vectorizer for index in first]
    records, files = describe_vectorizers(vectorizers, n_dims)
    spellings = _spellings(vectorizers, records)
    members = {GOLDEN: data}
    for index, (_, learned) in enumerate(described):
        members |= {f"{index}/{name}": one for name, one in learned.items()}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "cell": _plain(cell, spellings),
        "metrics": _plain(metrics, spellings),
        "vectorizers": records,
        "cells": [record for record, _ in described],
        "calibration": {
            name: float(value)
            for name, value in classifier.calibration_._asdict().items()
        },
        "threshold": float(classifier.threshold_),
        "versions": _versions(),
    }
    write_archive(path, manifest, members, files)


def _spellings(
    vectorizers: Sequence[Vectorizer], records: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Return what names files of this machine, and what stands for it in a bundle."""
    spellings = {}
    for vectorizer, record in zip(vectorizers, records, strict=True):
        for part, described in zip(parts_of(vectorizer), record["parts"], strict=True):
            file = getattr(part, "file", None)
            if file is not None:
                forms = {str(file), str(Path(file).expanduser().absolute())}
                spellings.update(dict.fromkeys(forms, described["file"]["name"]))
    return dict(sorted(spellings.items(), key=lambda item: -len(item[0])))


def _plain(value: Any, spellings: Mapping[str, str]) -> Any:
    """Return a value as JSON has it, without folders of this machine."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one, spellings) for key, one in value.items()}
    if hasattr(value, "item"):  # of numpy
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    for there, here in spellings.items():
        text = text.replace(there, here)
    return text


def _versions() -> dict[str, str]:
    """Return the versions of what scores may depend on, importing none of it."""
    versions = {"tllboost": __version__, "python": platform.python_version()}
    for name in (*_LIBRARIES, *_MORE_LIBRARIES):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
