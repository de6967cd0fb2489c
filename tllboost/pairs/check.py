"""Look a pair table over before anything is computed from it."""

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
from PIL import Image

from tllboost.errors import ImageError, printable
from tllboost.images import read_image_bytes
from tllboost.images.decoders import DECODERS
from tllboost.pairs import PairTable, first_equal
from tllboost.splits import match_components

__all__ = ["check_pairs"]

Progress = Callable[[int, int, str], None]

_MOST_EXAMPLES = 5
_MOST_COMPARED = 100_000
_ENOUGH_PIXELS = 64


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
        Other images that look the same, and their distance (0 to 1). With a split
        column only those in two of its sets, without one all that no match ties.
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
                    f"{a} ~ {b} (distance {d:g})" for a, b, d in self.near_duplicates
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
    n_read, digests, hashes, reasons = _look(table, progress)
    matches, left, right, ids = table.label == 1, table.left, table.right, table.ids
    # Of each image, the first one with the same bytes.
    contents = [digests.get(image, str(image)) for image in range(table.n_images)]
    same = first_equal(np.array(contents, dtype=object))
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
    near: list[tuple[int, int, float]] = []
    notes = list(table.notes)
    if not n_read:
        notes.append("no image was read: add --images, or --left and --right")
    elif n_read > _MOST_COMPARED:
        many = f"{n_read} images, over {_MOST_COMPARED}"
        notes.append(f"near-duplicates not looked for: {many}")
    else:
        near = [  # those that matter: no match or equal bytes tie them
            (i, j, distance)
            for i, j, distance in find_near_duplicates(hashes)
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
        n_read=n_read,
        unreadable=tuple((ids[image], why) for image, why in sorted(reasons.items())),
        identical=tuple(
            tuple(ids[image] for image in group) for _, group in sorted(groups.items())
        ),
        trivial=_names(table, copies & matches),
        contradictions=_names(table, copies & ~matches),
        tied_non_matches=_names(table, tied),
        near_duplicates=tuple((ids[i], ids[j], d) for i, j, d in near),
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


def _look(
    table: PairTable, progress: Progress | None
) -> tuple[int, dict[int, str], np.ndarray, dict[int, str]]:
    """Read, hash and decode every image once, a few at a time.

    Returns how many were read, the digest of each that could be, the difference
    hashes of all, and why an image could not be read or decoded.
    """
    files = [(image, path) for image, path in enumerate(table.paths) if path]
    digests: dict[int, str] = {}
    reasons: dict[int, str] = {}
    hashes = np.zeros((table.n_images, HASH_BITS), dtype=bool)

    def look_at(file: tuple[int, Path]) -> None:
        image, path = file
        try:
            data = read_image_bytes(path)
            digests[image] = hashlib.sha256(data).hexdigest()
            decoded = DECODERS.decode(data, path=path, shrink_to=_ENOUGH_PIXELS)
            hashes[image] = difference_hash(decoded)
        except ImageError as error:
            reasons[image] = error.reason

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for done, _ in enumerate(pool.map(look_at, files), start=1):
            if progress is not None:
                progress(done, len(files), "images read")
    return len(files), digests, hashes, reasons


def _names(table: PairTable, rows: np.ndarray) -> tuple[tuple[str, str], ...]:
    pairs = zip(table.left[rows], table.right[rows], strict=True)
    return tuple((table.ids[i], table.ids[j]) for i, j in pairs)


# A difference hash keeps, for each cell of a coarse grid, whether the grey level rises
# towards its right and its lower neighbour (N. Krawetz, "Kind of like that", 2013). A
# rise must exceed a margin here, so that noise on a plain background sets no bits.
_GRID = 12
_MARGIN = 3
_FEWEST_RISES = 24
_BLOCK = 4096

HASH_BITS = 2 * _GRID * _GRID
"""Bits of a hash: those towards the right, then those downwards."""


def difference_hash(image: Image.Image) -> np.ndarray:
    """Return the difference hash of an image.

    Parameters
    ----------
    image : PIL.Image.Image
        The image.

    Returns
    -------
    ndarray of shape (HASH_BITS,), bool

    Examples
    --------
    >>> rising = Image.linear_gradient("L").rotate(90)
    >>> int(difference_hash(rising).sum()) == HASH_BITS // 2
    True
    """
    size = (_GRID + 1, _GRID + 1)
    small = image.convert("L").resize(size, Image.Resampling.BOX, reducing_gap=None)
    grey = np.asarray(small, dtype=np.int16)
    across = np.diff(grey, axis=1)[:_GRID] > _MARGIN
    down = np.diff(grey, axis=0)[:, :_GRID] > _MARGIN
    return np.concatenate([across.ravel(), down.ravel()])


def find_near_duplicates(
    hashes: np.ndarray, *, threshold: float = 0.25
) -> list[tuple[int, int, float]]:
    """Return all pairs of hashes that share most of their rises.

    The distance of two hashes is the share of rises that only one of them has, of
    all that either has (Jaccard). A recompressed, resized or brightened copy of a
    photograph stays below 0.15, one cropped by 3 % mostly below 0.25, and among a
    million pairs of different photographs hardly one comes below 0.3. Exact, by matrix
    products over blocks. Plain images, with hardly a rise, are near no other.

    Parameters
    ----------
    hashes : ndarray of shape (n_images, HASH_BITS), bool
        Their difference hashes.
    threshold : float, default=0.25
        The largest distance, 0 to 1.

    Returns
    -------
    list of (int, int, float)
        Index of one, index of the other, distance; the nearest first.

    Examples
    --------
    >>> hashes = np.zeros((3, HASH_BITS), dtype=bool)
    >>> hashes[0, :100] = hashes[1, :90] = hashes[2, 100:] = True
    >>> find_near_duplicates(hashes)
    [(0, 1, 0.1)]
    """
    telling = np.flatnonzero(hashes.sum(axis=1) >= _FEWEST_RISES)
    rises = hashes[telling].astype(np.float32)
    n_rises = rises.sum(axis=1)
    found: list[tuple[int, int, float]] = []
    step = max(1, _BLOCK**2 // max(1, len(rises)))
    for start in range(0, len(rises), step):
        rows, rest = slice(start, start + step), slice(start, None)
        both = rises[rows] @ rises[rest].T
        distance = 1 - both / (n_rises[rows, None] + n_rises[rest] - both)
        i, j = np.nonzero(distance <= threshold)
        near = distance[i, j].astype(np.float64).round(3)[i < j]
        i, j = telling[i[i < j] + start], telling[j[i < j] + start]
        found += zip(i.tolist(), j.tolist(), near.tolist(), strict=True)
    return sorted(found, key=lambda pair: (pair[2], pair))
