"""Read a bundle: everything is checked before anything is built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.bundle.archive import Archive
from tllboost.bundle.bundled import BundledVectorizer, check_spec
from tllboost.bundle.golden import check_golden
from tllboost.bundle.heads import BUILT_IN, restore_head
from tllboost.bundle.manifest import GOLDEN
from tllboost.bundle.networks import unpacked
from tllboost.calibration import Calibration
from tllboost.classifier import PairClassifier
from tllboost.errors import BundleError, UsageError, WeightsError
from tllboost.merges import MERGES
from tllboost.scorer import PairScorer
from tllboost.vectorizers import VECTORIZERS, Vectorizer
from tllboost.vectorizers.fusion import FusionVectorizer
from tllboost.vectorizers.spec import parse_spec
from tllboost.vectorizers.weights import local_file, sha256_of

__all__ = ["load_bundle", "read_manifest"]

FilePath = str | PathLike[str]


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
        ``format``, ``version``, ``created``, ``cell``, ``metrics``, ``vectorizer``,
        ``merge``, ``head``, ``calibration``, ``threshold``, ``versions``, ``members``.

    Raises
    ------
    DataError
        If there is no such file.
    BundleError
        If it is no bundle, or a damaged or changed one.
    """
    with Archive(path) as archive:
        archive.verify()
        return archive.manifest


def load_bundle(
    path: FilePath,
    *,
    weights: FilePath | Iterable[FilePath] | None = None,
    device: str = "auto",
    store: FilePath | None = None,
    offline: bool = False,
    trust_code: bool = False,
) -> PairClassifier:
    """Return the fitted classifier in a bundle.

    Every member must have its sha256, the head's numbers must be finite and its trees
    sound, and golden pairs must get the scores that they got when it was saved. The
    network is not opened: it is when a picture has no vector in the store.

    Parameters
    ----------
    path : path-like
        The bundle.
    weights : path-like or several, optional
        Where the networks lie that the bundle names and does not hold; told apart by
        their sha256.
    device : str, default="auto"
        Where networks run.
    store : path-like, optional
        Folder of the vector store; None keeps vectors for this process alone.
    offline : bool, default=False
        Never ask a hub for weights.
    trust_code : bool, default=False
        Import the modules that the bundle names, if it has a vectorizer or merge of
        somebody's own. That runs their code.

    Returns
    -------
    PairClassifier

    Raises
    ------
    DataError
        If there is no such file.
    BundleError
        If it must not be used; the message says why.
    UsageError
        If it names code and `trust_code` was not said.
    WeightsError
        If a file of `weights` is none that the bundle names.

    Examples
    --------
    >>> load_bundle("best.tllb").predict_proba([["a.jpg", "b.jpg"]])  # doctest: +SKIP
    array([[0.12, 0.88]])
    """
    with Archive(path) as archive:
        archive.verify()
        manifest = archive.manifest
        try:
            _check_code(manifest, archive.what, trust_code=trust_code)
            _check_vectorizer(manifest["vectorizer"])
            scorer = _restore_scorer(archive, manifest)
        except ValueError as error:
            if isinstance(error, BundleError | UsageError):
                raise
            msg = f"{archive.what}: {error}: not to be used"
            raise BundleError(msg) from error
        files = _networks(archive, manifest["vectorizer"]["parts"], _several(weights))
    parts = [
        BundledVectorizer(record, file, device=device, offline=offline)
        for record, file in zip(manifest["vectorizer"]["parts"], files, strict=True)
    ]
    vectorizer: Vectorizer = parts[0] if len(parts) == 1 else FusionVectorizer(parts)
    classifier = PairClassifier(
        vectorizer, merge=scorer.merge, head=scorer.head, store=store, device=device
    )
    classifier.vectorizer_ = vectorizer
    classifier.scorer_ = scorer
    classifier.classes_ = np.array([0, 1])
    return classifier


def _check_code(manifest: Mapping[str, Any], what: str, *, trust_code: bool) -> None:
    """Refuse names that would be imported, unless the caller trusts them."""
    specs = [part["spec"] for part in manifest["vectorizer"]["parts"]]
    code = [spec for spec in specs if parse_spec(spec).kind not in VECTORIZERS]
    code += [
        name
        for name in map(str.strip, manifest["merge"].split("+"))
        if name not in MERGES
    ]
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


def _check_vectorizer(vectorizer: Mapping[str, Any]) -> None:
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
    whole = parts[0]["fingerprint"]
    if len(parts) > 1:
        whole = FusionVectorizer([BundledVectorizer(one) for one in parts]).fingerprint
    if vectorizer["fingerprint"] != whole:
        msg = "the fingerprint of its vectorizer is not that of its parts"
        raise ValueError(msg)
    if vectorizer["n_dims"] != sum(part["n_dims"] for part in parts):
        msg = "the width of its vectors is not that of its parts"
        raise ValueError(msg)


def _restore_scorer(archive: Archive, manifest: Mapping[str, Any]) -> PairScorer:
    members = manifest["members"]
    if GOLDEN not in members:
        msg = "has no golden pairs"
        raise ValueError(msg)
    head_names = [name for name in members if name.startswith("head.")]
    head = restore_head(
        manifest["head"], {name: archive.read(name) for name in head_names}
    )
    n_dims = manifest["vectorizer"]["n_dims"]
    check_golden(archive.read(GOLDEN), manifest["merge"], head, n_dims=n_dims)
    name = manifest["head"]["name"]
    if manifest["head"]["format"] != BUILT_IN:
        name = f"{type(head).__module__}:{type(head).__qualname__}"
    scorer = PairScorer(manifest["merge"], name)
    scorer.head_ = head
    scorer.calibration_ = Calibration(**manifest["calibration"])
    scorer.threshold_ = float(manifest["threshold"])
    return scorer


def _several(weights: FilePath | Iterable[FilePath] | None) -> list[FilePath]:
    if weights is None:
        return []
    return [weights] if isinstance(weights, str | PathLike) else list(weights)


def _networks(
    archive: Archive, parts: Iterable[Mapping[str, Any]], weights: list[FilePath]
) -> list[Path | None]:
    """Return where the network of each part lies, None where that is not known."""
    files = [part["file"] for part in parts]
    wanted = {file["sha256"]: file["name"] for file in files if file is not None}
    given = {}
    for one in weights:
        path = local_file(Path(one), what=archive.what)
        sha256 = sha256_of(path)
        if sha256 not in wanted:
            names = ", ".join(f"{n} ({s[:12]}…)" for s, n in wanted.items()) or "none"
            msg = (
                f"{archive.what}: {str(one)!r} (sha256 {sha256[:12]}…) is no network "
                f"of this bundle; it has: {names}"
            )
            raise WeightsError(msg)
        given[sha256] = path
    return [_network(archive, file, given) for file in files]


def _network(
    archive: Archive, file: Mapping[str, Any] | None, given: Mapping[str, Path]
) -> Path | None:
    if file is None:
        return None
    if file["sha256"] in given or not file["embedded"]:
        return given.get(file["sha256"])
    member = f"network/{file['name']}"
    record = archive.manifest["members"].get(member)
    if record is None or record["sha256"] != file["sha256"]:
        msg = f"{archive.what}: network {file['name']!r} is not in it: not to be used"
        raise BundleError(msg)
    return unpacked(
        lambda: archive.verified_chunks(member),
        name=file["name"],
        sha256=file["sha256"],
    )
