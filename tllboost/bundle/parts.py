"""Describe vectorizers so that another machine can make them again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tllboost.bundle.bundled import BundledVectorizer, build_part
from tllboost.bundle.limits import MAX_NETWORK_BYTES, size_limit
from tllboost.errors import TllboostError, UsageError
from tllboost.registry import import_path
from tllboost.vectorizers import VECTORIZERS, Vectorizer
from tllboost.vectorizers.custom import CustomVectorizer
from tllboost.vectorizers.spec import with_weights
from tllboost.vectorizers.weights import local_file, sha256_of
from tllboost.vectorizing import space_of

__all__ = ["describe_vectorizers", "parts_of"]


def describe_vectorizers(
    vectorizers: Sequence[Vectorizer], n_dims: Sequence[int]
) -> tuple[list[dict[str, Any]], dict[str, Path]]:
    """Return the manifest's records of vectorizers, and the networks to carry.

    What two of them share, the whole or a part, has one record and one network.

    Parameters
    ----------
    vectorizers : sequence of Vectorizer, length n_vectorizers
        Any that have a name: built in, a fusion, or importable without arguments.
    n_dims : sequence of int, length n_vectorizers
        Width of the vectors of each.

    Returns
    -------
    records : list of dict
        ``spec``, ``label``, ``fingerprint``, ``n_dims``, ``parts``; no folder of this
        machine is in it.
    files : dict of str to Path
        Members to be, and where they lie now.

    Raises
    ------
    UsageError
        If one can't be made again from its name, or its vectors are not that wide.
    WeightsError
        If its network is not there.
    """
    files: dict[str, Path] = {}
    known: dict[str, dict[str, Any]] = {}
    records = [
        _describe_whole(vectorizer, width, files, known)
        for vectorizer, width in zip(vectorizers, n_dims, strict=True)
    ]
    return records, files


def parts_of(vectorizer: Vectorizer) -> list[Vectorizer]:
    """Return the parts of a fusion, and of any other itself."""
    return list(getattr(vectorizer, "parts", None) or [vectorizer])


def _describe_whole(
    vectorizer: Vectorizer,
    n_dims: int,
    files: dict[str, Path],
    known: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    parts = parts_of(vectorizer)
    records = []
    for part in parts:
        space = space_of(part)
        if space not in known:
            width = n_dims if len(parts) == 1 else part.n_dims
            known[space] = _describe(part, width, files)
        records.append(known[space])
    width = sum(one["n_dims"] for one in records)
    if width != n_dims:
        msg = (
            f"golden vectors of {vectorizer.label!r} have {n_dims} numbers, its own "
            f"have {width}: give those that it makes"
        )
        raise UsageError(msg)
    weights = getattr(vectorizer, "weights", None)
    return {
        "spec": "+".join(with_weights([one["spec"] for one in records], weights)),
        "label": "+".join(with_weights([one["label"] for one in records], weights)),
        "fingerprint": vectorizer.fingerprint,
        "n_dims": width,
        "parts": records,
        **({} if weights is None else {"weights": list(weights)}),
    }


def _describe(part: Vectorizer, n_dims: int, files: dict[str, Path]) -> dict[str, Any]:
    file = getattr(part, "file", None)
    network, name = None, ""
    if file is not None:
        path = local_file(file, what=part.label)
        network, name = _describe_file(path, part.fingerprint, files)
    return {
        "spec": _spec_of(part, name),
        "label": part.label,
        "fingerprint": part.fingerprint,
        "n_dims": n_dims,
        "input_size": part.input_size,
        "needs_images": part.needs_images,
        "file": network,
    }


def _describe_file(
    path: Path, fingerprint: str, files: dict[str, Path]
) -> tuple[dict[str, Any], str]:
    """Return the record of a network's file, and its name in the bundle.

    Carried if it is not too large, is no pickle, and has no data files beside it.
    """
    sha256, size = sha256_of(path), path.stat().st_size
    if f"sha256:{sha256}" not in fingerprint:
        msg = f"{str(path)!r} is not the file that the vectors came from any more"
        raise UsageError(msg)
    name = _safe_name(path.name)
    held = {sha256_of(other): member for member, other in files.items()}
    member = f"network/{name}"
    if sha256 in held:
        member = held[sha256]
    elif member in files:
        member = f"network/{sha256[:8]}-{name}"
    name = member.removeprefix("network/")
    embedded = (
        size <= MAX_NETWORK_BYTES
        and size_limit(member) > 0
        and f"sha256:{sha256}+" not in fingerprint
    )
    if embedded:
        files[member] = path
    record = {"name": name, "sha256": sha256, "size": size, "embedded": embedded}
    return record, name


def _safe_name(name: str) -> str:
    """Return a file's name without what could mean something elsewhere.

    Examples
    --------
    >>> _safe_name("my net+v2?.onnx")
    'my_net_v2_.onnx'
    """
    plain = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII).lstrip(".-")
    return plain[-80:].lstrip(".-") or "network"


def _spec_of(part: Vectorizer, name: str) -> str:
    """Return the spelling of a part, its file by `name` alone."""
    if isinstance(part, BundledVectorizer):
        return part.name
    if part.source is not None:
        msg = (
            f"vectorizer {part.label!r} can't go into a bundle: give its base as the "
            "vectorizer and what is learned as the projection; a bundle holds both"
        )
        raise UsageError(msg)
    path = f"{type(part).__module__}:{type(part).__qualname__}"
    kinds = {entry.path: kind for kind, entry in VECTORIZERS.items()}
    if path not in kinds:
        return _import_spec(part, path)
    spec = part.short_name
    if name:
        alone = part.name == f"{kinds[path]}:{part.file}"  # type: ignore[attr-defined]
        spec = f"{kinds[path]}:{name}" if alone else f"{part.short_name}@{name}"
    spec += part._options_text(skip=part.UNSEEN)
    if _differs(build_part(spec, None, device="cpu", offline=True), part):
        msg = f"vectorizer {part.label!r} can't go into a bundle: {spec!r} is another"
        raise UsageError(msg)
    return spec


def _import_spec(part: Vectorizer, path: str) -> str:
    """Return the import path of a vectorizer of the user's own."""
    if isinstance(part, CustomVectorizer):
        if isinstance(part.target, str):
            return part.target
    else:
        try:
            if import_path(path) is type(part) and not list(part._changed()):
                return path
        except TllboostError:
            pass
    msg = (
        f"vectorizer {part.label!r} can't go into a bundle: it is an object; give it "
        "by name, package.module:Class, of a class that is made without arguments"
    )
    raise UsageError(msg)


def _differs(one: Vectorizer, other: Vectorizer) -> bool:
    """Tell whether two vectorizers differ in more than where their file lies."""
    skip = {*one.UNSEEN, "file"}
    first, second = _seen(one, skip), _seen(other, skip)
    return first != second


def _seen(vectorizer: Vectorizer, skip: set[str]) -> Mapping[str, Any]:
    params = vectorizer.get_params()
    return {key: value for key, value in params.items() if key not in skip}
