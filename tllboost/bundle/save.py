"""Write a fitted classifier to one file."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from tllboost import __version__
from tllboost.bundle.golden import check_golden, golden_member
from tllboost.bundle.heads import head_members, restore_head
from tllboost.bundle.manifest import FORMAT, GOLDEN, VERSION
from tllboost.bundle.parts import describe_vectorizer
from tllboost.bundle.write import write_archive
from tllboost.errors import UsageError
from tllboost.merges import resolve_merge

if TYPE_CHECKING:
    from tllboost.classifier import PairClassifier

__all__ = ["save_bundle"]

_LIBRARIES = ("numpy", "scikit-learn", "xgboost", "torch", "timm", "open_clip_torch")
_MORE_LIBRARIES = ("onnxruntime", "scikit-image", "pillow", "safetensors", "skops")


def save_bundle(
    path: str | PathLike[str],
    classifier: PairClassifier,
    *,
    cell: Mapping[str, Any],
    metrics: Mapping[str, Any],
    golden: tuple[ArrayLike, ArrayLike],
) -> None:
    """Write a fitted classifier to one file that scores new pairs anywhere.

    The file holds no code and no pickle. A network that the vectorizer reads from a
    local file goes in too, up to 100 MB and unless it is a pickle (``.pt``, ``.pth``);
    else it is named with its sha256.

    Parameters
    ----------
    path : path-like
        Where to; what is there is replaced in one step.
    classifier : PairClassifier
        Fitted: with ``vectorizer_`` and ``scorer_``.
    cell : mapping of str to text, number or None
        The names of the grid's cell, for the reader.
    metrics : mapping of str to number or None
        Its figures.
    golden : tuple of two array-likes of shape (n_pairs, n_dims)
        Left and right vectors of a few pairs, scored again whenever it is loaded.

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
    scorer = classifier.scorer_
    merge = _named_merge(scorer.merge)
    head, members = head_members(scorer.head_)
    members[GOLDEN] = golden_member(golden, merge, scorer.head_)
    n_dims = len(golden[0][0])  # type: ignore[arg-type, index]
    # What can't be read back shall fail here, not where it is needed.
    head_only = {name: data for name, data in members.items() if name != GOLDEN}
    check_golden(members[GOLDEN], merge, restore_head(head, head_only), n_dims=n_dims)
    vectorizer, files = describe_vectorizer(classifier.vectorizer_, n_dims=n_dims)
    spellings = _spellings(classifier.vectorizer_, vectorizer)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "cell": _record(cell, spellings),
        "metrics": _record(metrics, spellings),
        "vectorizer": vectorizer,
        "merge": merge,
        "head": head,
        "calibration": {
            "slope": float(scorer.calibration_.slope),
            "intercept": float(scorer.calibration_.intercept),
        },
        "threshold": float(scorer.threshold_),
        "versions": _versions(),
    }
    write_archive(path, manifest, members, files)


def _named_merge(merge: Any) -> str:
    if not isinstance(merge, str):
        msg = (
            f"merge {merge!r} can't go into a bundle: it is a function; give it by "
            "name, or as package.module:function"
        )
        raise UsageError(msg)
    resolve_merge(merge)
    return merge


def _spellings(vectorizer: Any, record: Mapping[str, Any]) -> dict[str, str]:
    """Return what names files of this machine, and what stands for it in a bundle."""
    parts = list(getattr(vectorizer, "parts", None) or [vectorizer])
    spellings = {}
    for part, described in zip(parts, record["parts"], strict=True):
        file = getattr(part, "file", None)
        if file is not None:
            forms = {str(file), str(Path(file).expanduser().absolute())}
            spellings.update(dict.fromkeys(forms, described["file"]["name"]))
    return dict(sorted(spellings.items(), key=lambda item: -len(item[0])))


def _record(values: Mapping[str, Any], spellings: Mapping[str, str]) -> dict[str, Any]:
    """Return values as JSON has them, without folders of this machine."""
    return {str(key): _plain(value, spellings) for key, value in values.items()}


def _plain(value: Any, spellings: Mapping[str, str]) -> Any:
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
