"""What a reader of figures should be told of a run, before trusting them.

What test sets share with training, weights that were trained on test images, metrics
that some records lack, and sets of so few groups that figures tell little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tllboost.grid.data import Grid
from tllboost.metrics import METRICS
from tllboost.splits import PairSet, Protocol, Split
from tllboost.splits.sets import Integers

__all__ = ["few_notes", "leak_report", "notes_on"]

_DIGITS = 16
_FEW_TESTED = 10
_FEW_CHOOSING = 5


def notes_on(grid: Grid, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return all notes on a run, one line each."""
    splits, protocol = grid.data.splits(grid.seeds[0]), grid.data.protocol
    return [
        *few_notes(splits, protocol),
        *_leak_notes(splits, protocol),
        *_tuning_notes(grid),
        *_missing_notes(records),
    ]


def _leak_notes(splits: list[Split], protocol: Protocol) -> list[str]:
    """Say how much of a test set training has seen; ours never has."""
    seen = total = 0
    for split in splits:
        known = np.union1d(split.train.left, split.train.right)
        left, right = np.isin(split.test.left, known), np.isin(split.test.right, known)
        seen += int(np.count_nonzero(left | right))
        total += len(split.test)
    if not seen:
        return []
    return [
        f"protocol {protocol.name} leaks: {100 * seen / total:.1f} % of its test pairs "
        "share an image with training; compare it with no other protocol"
    ]


def leak_report(grid: Grid) -> list[tuple[str, str]]:
    """Return what training and test share over all splits: what, and how many."""
    data = grid.data
    shared = tested = tied = components = 0
    for seed in grid.seeds:
        for split in data.splits(seed):
            seen = [_images(pairs) for pairs in (split.train, split.validation)]
            test = _images(split.test)
            known = np.union1d(*seen)
            shared += len(np.intersect1d(test, known))
            tested += len(test)
            own = np.unique(data.component[test])
            tied += len(np.intersect1d(own, data.component[known]))
            components += len(own)
    copies = len(data.contents) - len(set(data.contents))
    return [
        ("test images that training or validation holds", f"{shared} of {tested}"),
        (
            "test components shared with training or validation",
            f"{tied} of {components}",
        ),
        ("copies, byte for byte, tied into one component", str(copies)),
        ("near-duplicates", "not looked for here: tllboost check finds them"),
    ]


def _images(pairs: PairSet) -> Integers:
    return np.union1d(pairs.left, pairs.right)


def _tuning_notes(grid: Grid) -> list[str]:
    """Say which weights were fine-tuned on images that are tested here.

    Weights that ``tllboost finetune`` wrote name the images that they have seen.
    """
    from tllboost.finetune.settings import trained_on

    data, notes = grid.data, []
    for label, vectorizer in grid.plan.made.items():
        parts = getattr(vectorizer, "parts", None) or [vectorizer]
        files = [str(getattr(part, "file", None)) for part in parts]
        tuned = [file for file in files if file.endswith(".safetensors")]
        known = frozenset().union(*map(trained_on, tuned))
        if not known:
            continue
        seen = np.array([content[:_DIGITS] in known for content in data.contents])
        tested = np.zeros(len(seen), dtype=bool)
        for seed in grid.seeds:
            for split in data.splits(seed):
                tested[_images(split.test)] = True
        shared = int(np.count_nonzero(seen & tested))
        if shared:
            notes.append(
                f"{label} leaks: its weights were fine-tuned on {shared} of the "
                f"{int(tested.sum())} test images; its figures are not held out"
            )
    return notes


def _missing_notes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which metrics some records lack: those of cells that are older than they."""
    figures = [record["figures"] for record in records if record["status"] == "ok"]
    lacking = {name: sum(name not in one for one in figures) for name in METRICS}
    return [
        f"{name} is missing of {count} of {len(figures)} cells, which an earlier "
        f"version measured: --metric {name} or --overwrite measures them again"
        for name, count in lacking.items()
        if count
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
    met = (
        f", a query meets {np.sum(query >= 0) / n_lists:.1f} candidates"
        if n_lists
        else ""
    )
    remedy = ", or --protocol kfold" if protocol.name == "holdout" else ""
    return [
        f"few groups: {tested} components are tested, {choosing} choose threshold and "
        f"cell{met}: the figures tell little; give more groups{remedy}"
    ]
