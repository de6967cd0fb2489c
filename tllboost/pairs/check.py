"""What a look over a pair table found, as values and as lines for a terminal.

Look a pair table over before anything is computed from it.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.errors import ImageError, printable
from tllboost.images import decode_image, read_image_bytes
from tllboost.images.near_duplicates import (
    HASH_BITS,
    difference_hash,
    find_near_duplicates,
)
from tllboost.pairs.pair_table import PairTable
from tllboost.splits import match_components

__all__ = ["check_pairs"]

_MOST_EXAMPLES = 5


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
    near_duplicates : tuple of (str, str, float)
        Other images that look the same, and their distance (0 to 1). With a split
        column only those on two sides of it, without one all that no match ties.
    n_shared : int
        Images that stand in more than one pair.
    n_components, largest_component : int
        Sets of images tied by matches or by equal bytes, and the images of the
        largest: what a leak-free split deals out whole.
    sides : dict of str to dict
        Pairs, matches and images of each side of a given split.
    leaking_images : tuple of (str, tuple of str)
        Images on more than one side of the given split, and the sides.
    leaking_components : tuple of dict of str to str
        Components on more than one side: of each, one image a side.
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
    near_duplicates: tuple[tuple[str, str, float], ...]
    n_shared: int
    n_components: int
    largest_component: int
    sides: dict[str, dict[str, int]]
    leaking_images: tuple[tuple[str, tuple[str, ...]], ...]
    leaking_components: tuple[dict[str, str], ...]
    notes: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether a given split has the same image on two sides."""
        near = bool(self.sides) and bool(self.near_duplicates)
        return bool(self.leaking_images or self.leaking_components or near)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {**asdict(self), "leaks": self.leaks}

    def lines(self) -> list[str]:
        """Return the report for a terminal."""
        n_distractors = self.n_pairs - self.n_matches
        share = self.n_matches / self.n_pairs if self.n_pairs else 0.0
        lines = [
            f"{self.source}: {self.n_pairs} pairs of {self.n_images} images",
            f"  matches: {self.n_matches} ({share:.0%}), non-matches: {n_distractors}",
            f"  images in more than one pair: {self.n_shared}",
            f"  components: {self.n_components}, the largest of "
            f"{self.largest_component} images",
        ]
        for side, counts in self.sides.items():
            lines.append(
                f"  {side}: {counts['n_pairs']} pairs, {counts['n_matches']} matches, "
                f"{counts['n_images']} images"
            )
        if self.n_read:
            lines.append(f"  unreadable images: {len(self.unreadable)}")
            lines += _examples(f"{name}: {why}" for name, why in self.unreadable)
            lines.append(f"  groups of byte-identical images: {len(self.identical)}")
            lines += _examples(" = ".join(group) for group in self.identical)
            lines += self._image_lines()
        lines += self._leak_lines()
        lines += [f"  note: {note}" for note in self.notes]
        return [printable(line) for line in lines]  # they hold names of files

    def _image_lines(self) -> list[str]:
        lines = []
        if self.trivial:
            lines.append(f"  matches of an image with its copy: {len(self.trivial)}")
            lines += _examples(" = ".join(pair) for pair in self.trivial)
        if self.contradictions:
            n_found = len(self.contradictions)
            lines.append(f"  non-matches of an image with its copy: {n_found}")
            lines += _examples(" = ".join(pair) for pair in self.contradictions)
        where = " across the split" if self.sides else " that no match ties"
        lines.append(f"  near-duplicates{where}: {len(self.near_duplicates)}")
        found = self.near_duplicates
        return lines + _examples(f"{a} ~ {b} (distance {d:g})" for a, b, d in found)

    def _leak_lines(self) -> list[str]:
        if not self.sides:
            return []
        if not self.leaks:
            return ["  the given split does not leak"]
        lines = ["  THE GIVEN SPLIT LEAKS: the same image stands on several sides"]
        lines.append(f"  images on more than one side: {len(self.leaking_images)}")
        lines += _examples(f"{i}: {', '.join(s)}" for i, s in self.leaking_images)
        n_found = len(self.leaking_components)
        lines.append(f"  components on more than one side: {n_found}")
        return lines + _examples(
            ", ".join(f"{image} in {side}" for side, image in component.items())
            for component in self.leaking_components
        )


def _examples(found: Iterable[str]) -> list[str]:
    shown = list(found)
    lines = [f"    {text}" for text in shown[:_MOST_EXAMPLES]]
    if len(shown) > _MOST_EXAMPLES:
        lines.append(f"    and {len(shown) - _MOST_EXAMPLES} more")
    return lines


Progress = Callable[[int, int, str], None]

_MOST_COMPARED = 100_000
_ENOUGH_PIXELS = 64


def check_pairs(table: PairTable, *, progress: Progress | None = None) -> CheckReport:
    """Read every image of a pair table and look for what would spoil its figures.

    Parameters
    ----------
    table : PairTable
        The pairs; without paths only the table itself is looked at.
    progress : callable, optional
        Called with (done, total, what) as images are read.

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
    looked = _look(table, progress)
    identical = _identical(looked.digests)
    matches = table.label == 1
    component = match_components(
        table.n_images,
        table.left[matches],
        table.right[matches],
        [(group[0], other) for group in identical for other in group[1:]],
    )
    sizes = np.bincount(component, minlength=1)
    sides = _image_sides(table)
    near, notes = _near(looked, component, sides)
    copies = _copies(table, looked.digests)
    name = table.ids.__getitem__
    return CheckReport(
        source=table.source,
        n_pairs=table.n_pairs,
        n_matches=int(matches.sum()),
        n_images=table.n_images,
        n_read=looked.n_read,
        unreadable=tuple((name(i), looked.reasons[i]) for i in sorted(looked.reasons)),
        identical=tuple(tuple(map(name, group)) for group in identical),
        trivial=_named_pairs(table, copies & matches),
        contradictions=_named_pairs(table, copies & ~matches),
        near_duplicates=tuple((name(i), name(j), d) for i, j, d in near),
        n_shared=int((_n_pairs_of_image(table) > 1).sum()),
        n_components=len(sizes),
        largest_component=int(sizes.max()),
        sides=_side_counts(table, sides),
        leaking_images=tuple((name(i), s) for i, s in _leaking_images(sides)),
        leaking_components=tuple(
            {side: name(image) for side, image in images.items()}
            for images in _leaking_components(component, sides)
        ),
        notes=table.notes + notes,
    )


@dataclass(frozen=True, eq=False)
class _Looked:
    """What reading the files told."""

    n_read: int
    digests: dict[int, str]
    hashes: np.ndarray
    reasons: dict[int, str]


def _look(table: PairTable, progress: Progress | None) -> _Looked:
    """Read, hash and decode every image once, a few at a time."""
    files = [(i, path) for i, path in enumerate(table.paths) if path is not None]
    digests: dict[int, str] = {}
    reasons: dict[int, str] = {}
    hashes = np.zeros((table.n_images, HASH_BITS), dtype=bool)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        seen = pool.map(_look_at, [path for _, path in files])
        for done, ((image, _), (digest, bits, reason)) in enumerate(
            zip(files, seen, strict=True), start=1
        ):
            if digest is not None:
                digests[image] = digest
            if bits is not None:
                hashes[image] = bits
            if reason is not None:
                reasons[image] = reason
            if progress is not None:
                progress(done, len(files), "images read")
    return _Looked(len(files), digests, hashes, reasons)


def _look_at(path: Path) -> tuple[str | None, np.ndarray | None, str | None]:
    """Return the digest and difference hash of a file, or why there is none."""
    digest = None
    try:
        data = read_image_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        image = decode_image(data, path=path, shrink_to=_ENOUGH_PIXELS)
        return digest, difference_hash(image), None
    except ImageError as error:
        return digest, None, error.reason


def _identical(digests: dict[int, str]) -> list[list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for image, digest in sorted(digests.items()):
        groups[digest].append(image)
    return [group for group in groups.values() if len(group) > 1]


def _copies(table: PairTable, digests: dict[int, str]) -> np.ndarray:
    """Return which pairs are of two images with the same bytes."""
    code = {digest: i for i, digest in enumerate(sorted(set(digests.values())))}
    codes = np.array(
        [code[digests[i]] if i in digests else -1 - i for i in range(table.n_images)],
        dtype=np.int64,
    )
    return (codes[table.left] == codes[table.right]) & (table.left != table.right)


def _named_pairs(table: PairTable, rows: np.ndarray) -> tuple[tuple[str, str], ...]:
    return tuple(
        (table.ids[i], table.ids[j])
        for i, j in zip(table.left[rows], table.right[rows], strict=True)
    )


def _n_pairs_of_image(table: PairTable) -> np.ndarray:
    count = np.bincount(table.left, minlength=table.n_images)
    other = table.right[table.left != table.right]
    return count + np.bincount(other, minlength=table.n_images)


def _image_sides(table: PairTable) -> dict[str, np.ndarray]:
    """Return which images stand on each side of the given split."""
    if table.split is None:
        return {}
    sides = {}
    for side in ("train", "validation", "test"):
        rows = table.split == side
        if rows.any():
            sides[side] = np.zeros(table.n_images, dtype=bool)
            sides[side][table.left[rows]] = sides[side][table.right[rows]] = True
    return sides


def _side_counts(
    table: PairTable, sides: dict[str, np.ndarray]
) -> dict[str, dict[str, int]]:
    counts = {}
    for side, images in sides.items():
        rows = np.asarray(table.split == side)
        counts[side] = {
            "n_pairs": int(rows.sum()),
            "n_matches": int(table.label[rows].sum()),
            "n_images": int(images.sum()),
        }
    return counts


def _leaking_images(
    sides: dict[str, np.ndarray],
) -> list[tuple[int, tuple[str, ...]]]:
    """Return the images that stand on several sides, and which."""
    if not sides:
        return []
    several = np.flatnonzero(np.sum(list(sides.values()), axis=0) > 1).tolist()
    return [(i, tuple(side for side in sides if sides[side][i])) for i in several]


def _leaking_components(
    component: np.ndarray, sides: dict[str, np.ndarray]
) -> list[dict[str, int]]:
    """Return one image a side of each component that stands on several sides."""
    first: dict[int, dict[str, int]] = defaultdict(dict)
    for side, images in sides.items():
        codes, places = np.unique(component[images], return_index=True)
        members = np.flatnonzero(images)[places]
        for code, image in zip(codes.tolist(), members.tolist(), strict=True):
            first[code][side] = image
    return [first[code] for code in sorted(first) if len(first[code]) > 1]


def _near(
    looked: _Looked, component: np.ndarray, sides: dict[str, np.ndarray]
) -> tuple[list[tuple[int, int, float]], tuple[str, ...]]:
    """Return the near-duplicates that matter: no match or equal bytes tie them."""
    if not looked.n_read:
        return [], ("no folder of images was given: only the table was looked at",)
    if looked.n_read > _MOST_COMPARED:
        n_read, most = looked.n_read, _MOST_COMPARED
        return [], (f"near-duplicates not looked for: {n_read} images, over {most}",)
    untied = [
        (i, j, distance)
        for i, j, distance in find_near_duplicates(looked.hashes)
        if component[i] != component[j]
    ]
    if sides:
        untied = [(i, j, d) for i, j, d in untied if _apart(i, j, sides)]
    return untied, ()


def _apart(i: int, j: int, sides: dict[str, np.ndarray]) -> bool:
    """Return whether two images stand on different sides."""
    return {s for s, images in sides.items() if images[i]} != {
        s for s, images in sides.items() if images[j]
    }
