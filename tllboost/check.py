"""Look a pair table over before anything is computed from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tllboost.errors import printable
from tllboost.pairs import PairTable
from tllboost.processes import Progress
from tllboost.similar import find_similar
from tllboost.splits import match_components
from tllboost.store import VectorStore

_MOST_EXAMPLES = 5
_LEAST = 0.7
"""Cosine of `tllboost.similar.DEFAULT` from which on images are near-duplicates: crops
by 8 % have more, and so have nearly all grey copies; no unrelated pair had
(``results/similar``)."""


@dataclass(frozen=True)
class CheckReport:
    """What `check_pairs` found.

    Parameters
    ----------
    source : str
        The table.
    n_pairs, n_matches, n_images : int
        Rows, rows that are matches, unique images.
    n_read : int
        Images whose files were read; 0 for a table without folders.
    unreadable : tuple of (str, str)
        Image and reason.
    identical : tuple of tuple of str
        Images whose files have the same bytes.
    trivial : tuple of (str, str)
        Matches of two files with the same bytes: every scorer finds them.
    contradictions : tuple of (str, str)
        Non-matches of two files with the same bytes.
    tied_non_matches : tuple of (str, str)
        Other non-matches inside one component: matches tie their images, as where a–b
        and b–c match and a–c is 0.
    near_duplicates : tuple of (str, str, float)
        Other images that look the same, and their cosine. With a split column only
        those in two of its sets, without one all that no match ties.
    n_shared : int
        Images that stand in more than one pair.
    n_components, largest_component : int
        Sets of images tied by matches or by equal bytes, and the images of the
        largest: what a leak-free split deals out whole.
    sets : dict of str to dict
        Pairs, matches and images of each set of a given split.
    leaking_images : tuple of (str, tuple of str)
        Images in more than one set of the given split, and the sets.
    leaking_components : tuple of dict of str to str
        Components in more than one set: of each, one image a set.
    notes : tuple of str
        What was left out or not looked at.
    """

    source: str
    n_pairs: int
    n_matches: int
    n_images: int
    n_read: int
    unreadable: tuple[tuple[str, str], ...]
    identical: tuple[tuple[str, ...], ...]
    trivial: tuple[tuple[str, str], ...]
    contradictions: tuple[tuple[str, str], ...]
    tied_non_matches: tuple[tuple[str, str], ...]
    near_duplicates: tuple[tuple[str, str, float], ...]
    n_shared: int
    n_components: int
    largest_component: int
    sets: dict[str, dict[str, int]]
    leaking_images: tuple[tuple[str, tuple[str, ...]], ...]
    leaking_components: tuple[dict[str, str], ...]
    notes: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether a given split has the same image in two sets."""
        near = bool(self.sets) and bool(self.near_duplicates)
        return bool(self.leaking_images or self.leaking_components or near)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {**asdict(self), "leaks": self.leaks}

    def lines(self) -> list[str]:
        """Return the report for a terminal."""
        share = self.n_matches / self.n_pairs if self.n_pairs else 0.0
        lines = [
            f"{self.source}: {self.n_pairs} pairs of {self.n_images} images",
            f"  matches: {self.n_matches} ({share:.0%}), "
            f"non-matches: {self.n_pairs - self.n_matches}",
            f"  images in more than one pair: {self.n_shared}",
            f"  components: {self.n_components}, the largest of "
            f"{self.largest_component} images",
        ]
        lines += [
            f"  {name}: {counts['n_pairs']} pairs, {counts['n_matches']} matches, "
            f"{counts['n_images']} images"
            for name, counts in self.sets.items()
        ]
        found: dict[str, Iterable[str]] = {}
        if self.n_read:
            where = " across the split" if self.sets else " that are not matches"
            found = {
                "unreadable images": map(": ".join, self.unreadable),
                "groups of byte-identical images": map(" = ".join, self.identical),
                "matches of an image with its copy": map(" = ".join, self.trivial),
                "non-matches of an image with its copy": map(
                    " = ".join, self.contradictions
                ),
                f"near-duplicates{where}": (
                    f"{a} ~ {b} (cosine {c:g})" for a, b, c in self.near_duplicates
                ),
            }
        found["non-matches that contradict matches"] = map(
            " ~ ".join, self.tied_non_matches
        )
        if self.leaks:
            lines += ["  THE GIVEN SPLIT LEAKS: the same image is in several sets"]
            found["images in more than one set"] = (
                f"{image}: {', '.join(on)}" for image, on in self.leaking_images
            )
            found["components in more than one set"] = (
                ", ".join(f"{image} in {name}" for name, image in one.items())
                for one in self.leaking_components
            )
        elif self.sets:
            lines += ["  the given split does not leak"]
        for title, texts in found.items():
            shown = [f"    {text}" for text in texts]
            lines += [f"  {title}: {len(shown)}", *shown[:_MOST_EXAMPLES]]
            if len(shown) > _MOST_EXAMPLES:
                lines += [f"    and {len(shown) - _MOST_EXAMPLES} more"]
        lines += [f"  note: {note}" for note in self.notes]
        return [printable(line) for line in lines]  # they hold names of files


def check_pairs(
    table: PairTable,
    *,
    store: VectorStore | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Read every image of a pair table and look for what would spoil its figures.

    Parameters
    ----------
    table : PairTable
        The pairs; without paths only the table itself is looked at.
    store : VectorStore, optional
        Where the vectors are kept by which images are compared.
    progress : callable, optional
        Called with (done, total, what) as images are vectorized.

    Returns
    -------
    CheckReport

    Examples
    --------
    >>> from tllboost.pairs import PairTable
    >>> left, right = np.array([0, 1]), np.array([1, 2])
    >>> split = np.array(["train", "test"])
    >>> table = PairTable(
    ...     "pairs.csv", ("a", "b", "c"), (None,) * 3, left, right,
    ...     np.ones(2, np.int8), None, split, np.array([2, 3]),
    ... )
    >>> report = check_pairs(table)
    >>> report.leaks, report.leaking_images
    (True, (('b', ('train', 'test')),))
    """
    matches, left, right, ids = table.label == 1, table.left, table.right, table.ids
    paths = {image: str(path) for image, path in enumerate(table.paths) if path}
    same, notes = np.arange(table.n_images), list(table.notes)
    reasons: dict[str, str] = {}
    alike: list[tuple[int, int, float]] = []
    if paths:
        similar = find_similar(
            [*paths.values()], least=_LEAST, store=store, progress=progress
        )
        images = np.array([*paths])
        first, other = images[similar.pairs["left"]], images[similar.pairs["right"]]
        is_copy = similar.told["same_bytes"] == 1
        same[other[is_copy]] = first[is_copy]
        told = zip(first, other, similar.pairs["score"].round(3), strict=True)
        alike = [(int(i), int(j), float(cosine)) for i, j, cosine in told]
        reasons = similar.failures
    else:
        notes.append("no image was read: add --images, or --left and --right")
    copies = (same[left] == same[right]) & (left != right)
    ties = [(first, i) for i, first in enumerate(same.tolist()) if first != i]
    groups: dict[int, list[int]] = {}
    for first, image in ties:
        groups.setdefault(first, [first]).append(image)
    component = match_components(table.n_images, left[matches], right[matches], ties)
    tied = (component[left] == component[right]) & ~copies & ~matches
    sizes = np.bincount(component, minlength=1)
    sets = {
        name: rows
        for name in ("train", "validation", "test")
        if table.split is not None and (rows := table.split == name).any()
    }
    # Which images are in which set.
    on = np.zeros((len(sets), table.n_images), dtype=bool)
    for images, rows in zip(on, sets.values(), strict=True):
        images[left[rows]] = images[right[rows]] = True
    # Of each component, its first image in each set.
    found: dict[int, dict[str, int]] = defaultdict(dict)
    for name, images in zip(sets, on, strict=True):
        for image in np.flatnonzero(images).tolist():
            found[component[image]].setdefault(name, image)
    near = [  # those that matter: no match or equal bytes tie them
        (ids[i], ids[j], cosine)
        for i, j, cosine in alike
        if component[i] != component[j]
        and (not len(on) or (on[:, i] != on[:, j]).any())
    ]
    in_pairs = np.bincount(
        np.concatenate([left, right[left != right]]), minlength=table.n_images
    )
    return CheckReport(
        source=table.source,
        n_pairs=table.n_pairs,
        n_matches=int(matches.sum()),
        n_images=table.n_images,
        n_read=len(paths),
        unreadable=tuple(
            (ids[image], reasons[path])
            for image, path in paths.items()
            if path in reasons
        ),
        identical=tuple(
            tuple(ids[image] for image in group) for _, group in sorted(groups.items())
        ),
        trivial=_names(table, copies & matches),
        contradictions=_names(table, copies & ~matches),
        tied_non_matches=_names(table, tied),
        near_duplicates=tuple(near),
        n_shared=int((in_pairs > 1).sum()),
        n_components=len(sizes),
        largest_component=int(sizes.max()),
        sets={
            name: {
                "n_pairs": int(rows.sum()),
                "n_matches": int(table.label[rows].sum()),
                "n_images": int(images.sum()),
            }
            for (name, rows), images in zip(sets.items(), on, strict=True)
        },
        leaking_images=tuple(
            (ids[image], tuple(np.array(list(sets))[on[:, image]].tolist()))
            for image in np.flatnonzero(on.sum(axis=0) > 1)
        ),
        leaking_components=tuple(
            {name: ids[image] for name, image in found[code].items()}
            for code in sorted(found)
            if len(found[code]) > 1
        ),
        notes=tuple(notes),
    )


def _names(table: PairTable, rows: np.ndarray) -> tuple[tuple[str, str], ...]:
    pairs = zip(table.left[rows], table.right[rows], strict=True)
    return tuple((table.ids[i], table.ids[j]) for i, j in pairs)
