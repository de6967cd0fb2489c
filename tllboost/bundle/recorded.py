"""Check what a manifest says of vectorizers and merges, before any is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tllboost.bundle.bundled import BundledVectorizer, check_spec
from tllboost.errors import UsageError
from tllboost.merges import MERGES
from tllboost.vectorizers import VECTORIZERS
from tllboost.vectorizers.fusion import FusionVectorizer
from tllboost.vectorizers.spec import parse_spec
from tllboost.vectorizing import space_of

__all__ = ["check_code", "distinct_parts"]

Record = Mapping[str, Any]


def check_code(manifest: Record, what: str, *, trust_code: bool) -> None:
    """Refuse names that would be imported, unless the caller trusts them.

    Raises
    ------
    UsageError
        If it is code, and not trusted.
    ValueError
        If it is neither code nor a name that is known.
    """
    code = list(dict.fromkeys(_unknown_names(manifest)))
    for name in code:
        module, colon, attribute = name.partition(":")
        legal = colon and all(map(str.isidentifier, (*module.split("."), attribute)))
        if not legal:
            msg = f"{name!r} is no vectorizer or merge that is known"
            raise ValueError(msg)
    if code and not trust_code:
        msg = (
            f"{what}: runs code of {', '.join(code)}: if you trust it, say "
            "--trust-code (trust_code=True)"
        )
        raise UsageError(msg)


def _unknown_names(manifest: Record) -> Iterator[str]:
    for vectorizer in manifest["vectorizers"]:
        for part in vectorizer["parts"]:
            if parse_spec(part["spec"]).kind not in VECTORIZERS:
                yield part["spec"]
    for cell in manifest["cells"]:
        for name in map(str.strip, cell["merge"].split("+")):
            if name not in MERGES:
                yield name


def distinct_parts(manifest: Record) -> dict[str, Record]:
    """Return the parts of all vectorizers, each once, by what they are stored under.

    Raises
    ------
    ValueError
        If a record contradicts itself or another.
    """
    distinct: dict[str, Record] = {}
    for vectorizer in manifest["vectorizers"]:
        _check_vectorizer(vectorizer)
        for part in vectorizer["parts"]:
            space = space_of(BundledVectorizer(part))
            if distinct.setdefault(space, part) != part:
                msg = f"two vectorizers of the fingerprint of {part['label']!r} differ"
                raise ValueError(msg)
    return distinct


def _check_vectorizer(vectorizer: Record) -> None:
    parts = vectorizer["parts"]
    for part in parts:
        network = part["file"]
        if parse_spec(part["spec"]).kind in VECTORIZERS:
            check_spec(part["spec"], has_file=network is not None)
        if (
            network is not None
            and f"sha256:{network['sha256']}" not in part["fingerprint"]
        ):
            msg = f"the fingerprint of {part['label']!r} is not that of its network"
            raise ValueError(msg)
    if len(vectorizer.get("weights", parts)) != len(parts):
        msg = "the weights of its vectorizer are not those of its parts"
        raise ValueError(msg)
    whole = parts[0]["fingerprint"]
    if len(parts) > 1:
        own = [BundledVectorizer(one) for one in parts]
        whole = FusionVectorizer(own, vectorizer.get("weights")).fingerprint
    if vectorizer["fingerprint"] != whole:
        msg = "the fingerprint of its vectorizer is not that of its parts"
        raise ValueError(msg)
    if vectorizer["n_dims"] != sum(part["n_dims"] for part in parts):
        msg = "the width of its vectors is not that of its parts"
        raise ValueError(msg)
