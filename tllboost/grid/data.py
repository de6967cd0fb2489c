"""From a pair table to what all cells share: vectors, components, splits.

And what a reader of their figures should be told: what test sets share with training,
weights that were trained on test images, metrics that some records lack, and sets of so
few groups that figures tell little.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.calibration import FLAT
from tllboost.errors import DataError, HubError
from tllboost.grid.cells import Plan, digest
from tllboost.metrics import METRICS
from tllboost.pairs import PairTable, first_equal
from tllboost.processes import Backend, Progress
from tllboost.projections import NONE
from tllboost.splits import Protocol, Split, SplitTable, make_splits, match_components
from tllboost.store import VectorStore, hash_files
from tllboost.vectorizing import Vectorized, space_of, vectorize


@dataclass(eq=False)
class GridData:
    """Everything that all cells see alike.

    Attributes
    ----------
    table : PairTable
        Pairs of two readable images, in an order that is always the same.
    protocol : Protocol
    vectors : dict of str to Vectorized
        By the label that cells know a vectorizer under.
    spaces : dict of str to str
        What those vectors are stored under.
    failures : dict of int to str
        Why some vectorizer could not read an image; its pairs are in no cell, so that
        all cells are measured on the same pairs.
    component : ndarray of shape (n_images,), int64
    contents : list of str
        The hash of each image's bytes, its name where it has no file.
    same : ndarray of shape (n_images,), int64
        The first image of the same content.
    digest : str
        Hash of all that the splits and labels depend on.
    n_dropped : int
        Pairs left out.
    unavailable : dict of str to str
        Why no hub gives the weights of a vectorizer.
    whole : bool
        Whether all pairs are the training set: see
        :func:`~tllboost.splits.make_splits`.
    """

    table: PairTable
    protocol: Protocol
    vectors: dict[str, Vectorized]
    spaces: dict[str, str]
    failures: dict[int, str]
    component: NDArray[np.int64]
    contents: list[str]
    same: NDArray[np.int64]
    digest: str
    n_dropped: int
    unavailable: dict[str, str]
    whole: bool = False
    _splits: dict[int, list[Split]] = field(default_factory=dict, init=False)

    def splits(self, seed: int) -> list[Split]:
        """Return the splits of one seed, made once."""
        if seed not in self._splits:
            own = self.table
            table = SplitTable(
                own.left, own.right, own.label, self.component, own.query, own.split
            )
            self._splits[seed] = make_splits(
                table, protocol=self.protocol, seed=seed, whole=self.whole
            )
        return self._splits[seed]

    def split_digest(self, seed: int) -> str:
        """Hash the pairs of every set: another way to split is another cell."""
        names = ("left", "right", "label", "query")
        return digest(
            [
                [sha256(getattr(pairs, one).tobytes()).hexdigest() for one in names]
                for split in self.splits(seed)
                for pairs in (split.train, split.validation, split.test)
            ]
        )


@dataclass(frozen=True, eq=False)
class Learned:
    """What became of a projection: of its fit, and of the fine-tuning below it.

    Attributes
    ----------
    files : tuple of Path
        What was fitted last, a file a fold; none where nothing was to be, or it failed.
    seconds : float
        Of all folds together.
    error : str
        Why it failed, or nothing.
    said : sequence of list of float
        What validation said in each fold.
    """

    files: tuple[Path, ...] = ()
    seconds: float = 0.0
    error: str = ""
    said: Sequence[list[float]] = ()


Key = tuple[str, str, int]
"""A vectorizer, a projection or fine-tuning, and a seed."""


@dataclass(frozen=True, eq=False)
class Grid:
    """One grid: what is measured, on what, by whom, and where it is written.

    Attributes
    ----------
    out : Path
    plan : Plan
    seeds : sequence of int
    metric : str
        What figures are told in.
    data : GridData
    store : VectorStore or path-like
    device : str
    backend : Processes or Cluster
    progress : callable or None
    learned : dict of (vectorizer, projection, seed) to Learned
        What was fitted before the cells.
    tuned : dict of (vectorizer, fine-tuning, seed) to (list, list)
        Fine-tuned networks and their vectors, one a fold.
    refit : bool
        Whether what goes into bundles is fitted again on all pairs.
    earlier : dict of (vectorizer, projection, seed) to Learned
        Where this is such a fit: what is to be repeated on all pairs.
    """

    out: Path
    plan: Plan
    seeds: Sequence[int]
    metric: str
    data: GridData
    store: VectorStore | str | os.PathLike[str]
    device: str
    backend: Backend
    progress: Progress | None
    learned: dict[Key, Learned] = field(default_factory=dict)
    tuned: dict[Key, tuple[list[Any], list[NDArray[np.float32]]]] = field(
        default_factory=dict
    )
    refit: bool = True
    earlier: Mapping[Key, Learned] = field(default_factory=dict)

    def bases(
        self, vectorizer: str, tuning: str, seed: int
    ) -> list[NDArray[np.float32]]:
        """Return the vectors that are mapped after a fine-tuning, an array a fold."""
        if tuning != NONE:
            return self.tuned[vectorizer, tuning, seed][1]
        vectors = self.data.vectors[vectorizer].vectors
        return [vectors] * len(self.data.splits(seed))


def gather(
    table: PairTable,
    vectorizers: Mapping[str, Any],
    protocol: Protocol | None = None,
    **how: Any,
) -> GridData:
    """Vectorize the images of a table and tie them into components.

    Parameters
    ----------
    table : PairTable
    vectorizers : mapping of str to Vectorizer
        By the label that cells know them under.
    protocol : Protocol or None
        None takes the default.
    **how
        For :func:`~tllboost.vectorize`: ``store``, ``backend``, ``progress``, and
        ``strict``, to raise the first failure of an image.

    Raises
    ------
    ImageError
        If an image fails and ``strict`` is set.
    DataError
        If no match is left.
    UsageError
        If a vectorizer needs images and there are none.
    HubError
        If no vectorizer's published weights can be had.
    """
    vectors: dict[str, Vectorized] = {}
    failures: dict[int, str] = {}
    unavailable: dict[str, str] = {}
    for label, vectorizer in vectorizers.items():
        if not getattr(vectorizer, "needs_images", True):
            vectorizer = copy(vectorizer)  # ends, and its file's vectors with it
        try:
            result = vectorize(vectorizer, table.paths, ids=table.ids, **how)
        except HubError as error:
            unavailable[label] = str(error)
            if len(unavailable) == len(vectorizers):
                raise
            continue
        failures = result.failures | failures
        vectors[label] = result
    good = np.ones(table.n_images, dtype=bool)
    good[list(failures)] = False
    kept = table.take(good[table.left] & good[table.right])
    if not (kept.label == 1).any():
        first = next(iter(failures.values()), "there is none")
        msg = f"{table.source}: no match has two readable images ({first})"
        raise DataError(msg)
    # Figures must not depend on the order in which a table happens to list its pairs.
    kept = kept.take(np.lexsort((kept.label, kept.right, kept.left)))
    # What an image is: the hash of its bytes, or its name where it has none.
    paths = [path for path in kept.paths if path is not None]
    hashes: dict[Any, Any] = dict(zip(paths, hash_files(paths), strict=True))
    contents = [
        content if isinstance(content := hashes.get(path), str) else name
        for name, path in zip(kept.ids, kept.paths, strict=True)
    ]
    # Each image is tied to the first one of the same content.
    same = first_equal(np.array(contents, dtype=object))
    is_match = kept.label == 1
    columns = (kept.left, kept.right, kept.label, kept.query, kept.split)
    return GridData(
        kept,
        protocol or Protocol(),
        vectors,
        {label: space_of(vectorizers[label]) for label in vectors},
        failures,
        match_components(
            kept.n_images, kept.left[is_match], kept.right[is_match], enumerate(same)
        ),
        contents,
        same,
        digest(contents, [None if one is None else one.tolist() for one in columns]),
        table.n_pairs - kept.n_pairs,
        unavailable,
    )


# What a reader of figures should be told of a run, before trusting them

_DIGITS = 16
_FEW_TESTED = 10
_FEW_CHOOSING = 5


def notes_on(grid: Grid, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return all notes on a run, one line each."""
    from tllboost.finetune.settings import trained_on

    data, protocol = grid.data, grid.data.protocol
    splits, table = data.splits(grid.seeds[0]), data.table
    notes = few_notes(splits, protocol)
    seen = between = total = 0
    for split in splits:
        # An image and its copy, byte for byte, are one.
        sets = (split.train, split.validation, split.test)
        train, chosen, test = (data.same[np.stack([s.left, s.right])] for s in sets)
        seen += int(np.isin(test, train).any(axis=0).sum())
        between += len(np.intersect1d(chosen, np.append(train, test)))
        total += len(split.test)
    if seen or between:  # ours never have
        what = f"{100 * seen / total:.1f} % of its test pairs share an image with "
        if not seen:
            what = f"{between} images of its validation set are in test or "
        names = "; tllboost check names them" if protocol.name == "given" else ""
        notes.append(
            f"protocol {protocol.name} leaks: {what}training; don't compare it with "
            f"other protocols{names}"
        )
    ends = data.component[table.left], data.component[table.right]
    tied = np.flatnonzero((table.label == 0) & (ends[0] == ends[1]))
    if len(tied):
        first, other = (table.ids[side[tied[0]]] for side in (table.left, table.right))
        notes.append(
            f"{len(tied)} non-matches contradict the matches, which put their images "
            f"into one component, {first!r} and {other!r} first; tllboost check names "
            "them"
        )
    # Weights that `tllboost finetune` wrote name the images that they have seen.
    tested = np.zeros(len(data.contents), dtype=bool)
    for seed in grid.seeds:
        for split in data.splits(seed):
            tested[split.test.left] = tested[split.test.right] = True
    for label, vectorizer in grid.plan.made.items():
        parts = getattr(vectorizer, "parts", None) or [vectorizer]
        files = [str(getattr(part, "file", None)) for part in parts]
        tuned = [file for file in files if file.endswith(".safetensors")]
        known = frozenset().union(*map(trained_on, tuned))
        shared = sum(c[:_DIGITS] in known for c in np.array(data.contents)[tested])
        if shared:
            notes.append(
                f"{label} leaks: its weights were fine-tuned on {shared} of the "
                f"{int(tested.sum())} test images; its figures are not held out"
            )
    flat = [record["cell"].values() for record in records if record.get("is_flat")]
    if mute := sorted({" × ".join(parts) for parts in flat}):
        more = f" and {len(mute) - 3} cells more" if len(mute) > 3 else ""
        notes.append(f"{', '.join(mute[:3])}{more}: {FLAT}")
    # Cells that are older than a metric lack it.
    figures = [record["figures"] for record in records if record["status"] == "ok"]
    for name in METRICS:
        if count := sum(name not in one for one in figures):
            notes.append(
                f"{count} of {len(figures)} cells have no {name}, since an earlier "
                f"version measured them: --metric {name} or --overwrite measures them "
                "again"
            )
    return notes


def leak_report(grid: Grid) -> list[tuple[str, str]]:
    """Return what training and test share over all splits: what, and how many."""
    data = grid.data
    shared = tested = tied = components = 0
    for seed in grid.seeds:
        for split in data.splits(seed):
            rest = split.train + split.validation
            known = np.union1d(rest.left, rest.right)
            test = np.union1d(split.test.left, split.test.right)
            shared += int(np.isin(data.same[test], data.same[known]).sum())
            tested += len(test)
            own = np.unique(data.component[test])
            tied += len(np.intersect1d(own, data.component[known]))
            components += len(own)
    copies = len(data.contents) - len(set(data.contents))
    return [
        ("test images that are in training or validation", f"{shared} of {tested}"),
        (
            "test components shared with training or validation",
            f"{tied} of {components}",
        ),
        ("copies, byte for byte, tied into one component", str(copies)),
        ("near-duplicates", "not looked for here: tllboost check finds them"),
    ]


def few_notes(splits: Sequence[Split], protocol: Protocol) -> list[str]:
    """Return a note where the test or the validation set has few components.

    Every figure may then be 1.000, with an interval of no width, and a threshold that
    two groups chose calls anything a match.

    Parameters
    ----------
    splits : sequence of Split
        The folds of one seed.
    protocol : Protocol
    """
    tested = len(np.unique(np.concatenate([one.test.component for one in splits])))
    choosing = min(len(np.unique(one.validation.component)) for one in splits)
    if tested >= _FEW_TESTED and choosing >= _FEW_CHOOSING:
        return []
    query = np.concatenate([split.test.query for split in splits])
    n_lists = sum(len(np.unique(q[q >= 0])) for q in (s.test.query for s in splits))
    met = ""
    if n_lists:
        met = f", {np.sum(query >= 0) / n_lists:.1f} candidates for each query"
    remedy = ", or --protocol kfold" if protocol.name == "holdout" else ""
    return [
        f"few groups: {tested} components to test on, {choosing} to choose by{met}: "
        f"the figures are uncertain; give more groups{remedy}"
    ]
