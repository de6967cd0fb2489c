"""Read a bundle: everything is checked before anything is built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from tllboost.bundle.archive import Archive
from tllboost.bundle.cells import restore_cell
from tllboost.bundle.golden import check_golden
from tllboost.bundle.manifest import GOLDEN
from tllboost.bundle.vectorizers import (
    BundledVectorizer,
    check_code,
    distinct_parts,
    network_files,
)
from tllboost.calibration import Calibration
from tllboost.errors import BundleError, UsageError
from tllboost.scoring import FittedCell, Scorer
from tllboost.vectorizers import Vectorizer
from tllboost.vectorizers.fusion import FusionVectorizer
from tllboost.vectorizing import space_of

if TYPE_CHECKING:
    from tllboost.classifier import PairClassifier

__all__ = ["load_bundle", "read_manifest", "read_scorer"]

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
        ``format``, ``version``, ``created``, ``cell``, ``metrics``, ``vectorizers``,
        ``cells``, ``calibration``, ``threshold``, ``versions``, ``members``.

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
    """Return the fitted classifier in a bundle: one cell, or an ensemble of several.

    Every member must have its sha256, the numbers of projections and heads must be
    finite and trees sound, and golden pairs must get the scores that they got when it
    was saved. No network is opened: it is when an image has no vector in the store.

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

    See Also
    --------
    read_scorer : The same without scikit-learn.

    Examples
    --------
    >>> load_bundle("best.tllb").predict_proba([["a.jpg", "b.jpg"]])  # doctest: +SKIP
    array([[0.12, 0.88]])
    """
    from tllboost.classifier import ensemble

    scorer = read_scorer(
        path,
        weights=weights,
        device=device,
        store=store,
        offline=offline,
        trust_code=trust_code,
    )
    return ensemble(
        scorer.cells_,
        calibration=scorer.calibration_,
        threshold=scorer.threshold_,
        store=store,
        device=device,
    )


def read_scorer(
    path: FilePath,
    *,
    weights: FilePath | Iterable[FilePath] | None = None,
    device: str = "auto",
    store: FilePath | None = None,
    offline: bool = False,
    trust_code: bool = False,
) -> Scorer:
    """Return what is in a bundle as :func:`load_bundle` does, importing numpy alone.

    scikit-learn, half a second to import, is not needed to score.
    """
    with Archive(path) as archive:
        archive.verify()
        manifest = archive.manifest
        try:
            check_code(manifest, archive.what, trust_code=trust_code)
            records = distinct_parts(manifest)
            parts = {
                space: BundledVectorizer(record, device=device, offline=offline)
                for space, record in records.items()
            }
            cells = _cells(archive, parts)
        except ValueError as error:
            if isinstance(error, BundleError | UsageError):
                raise
            msg = f"{archive.what}: {error}: not to be used"
            raise BundleError(msg) from error
        # Last, so that nothing is unpacked of what is refused.
        files = network_files(archive, records.values(), weights)
    for part, file in zip(parts.values(), files, strict=True):
        part.file = file
    return Scorer(
        cells,
        calibration=Calibration(**manifest["calibration"]),
        threshold=float(manifest["threshold"]),
        store=store,
    )


def _cells(
    archive: Archive, parts: Mapping[str, BundledVectorizer]
) -> list[FittedCell]:
    """Return the cells, once golden pairs get the scores that they got before."""
    manifest = archive.manifest
    members = manifest["members"]
    if GOLDEN not in members:
        msg = "has no golden pairs"
        raise ValueError(msg)
    vectorizers: list[Vectorizer] = []
    for record in manifest["vectorizers"]:  # those that share a part share the object
        own = [parts[space_of(BundledVectorizer(one))] for one in record["parts"]]
        fusion = FusionVectorizer(own, record.get("weights"))
        vectorizers.append(own[0] if len(own) == 1 else fusion)
    which = [record["vectorizer"] for record in manifest["cells"]]
    cells = []
    for index, record in enumerate(manifest["cells"]):
        folder = f"{index}/"
        data = {
            name.removeprefix(folder): archive.read(name)
            for name in members
            if name.startswith(folder)
        }
        cells.append(restore_cell(record, data, vectorizers[which[index]]))
    n_dims = [vectorizer.n_dims for vectorizer in vectorizers]
    check_golden(archive.read(GOLDEN), cells, which, n_dims=n_dims)
    return cells
