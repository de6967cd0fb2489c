"""What a reader of figures should be told of a run, before trusting them.

What test sets share with training, weights that were trained on test images, metrics
that some records lack, and sets of so few groups that figures tell little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tllboost.calibration import FLAT
from tllboost.grid.data import Grid
from tllboost.metrics import METRICS
from tllboost.splits import Protocol, Split

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
