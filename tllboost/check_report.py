"""What a look over a pair table found, as values and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tllboost.printable import printable

__all__ = ["CheckReport"]

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
        """Whether a given split has the same picture on two sides."""
        near = bool(self.sides) and bool(self.near_duplicates)
        return bool(self.leaking_images or self.leaking_components or near)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {**asdict(self), "leaks": self.leaks}

    def lines(self) -> list[str]:
        """Return the report for a terminal."""
        n_others = self.n_pairs - self.n_matches
        share = self.n_matches / self.n_pairs if self.n_pairs else 0.0
        lines = [
            f"{self.source}: {self.n_pairs} pairs of {self.n_images} images",
            f"  matches: {self.n_matches} ({share:.0%}), non-matches: {n_others}",
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
            lines += self._picture_lines()
        lines += self._leak_lines()
        lines += [f"  note: {note}" for note in self.notes]
        return [printable(line) for line in lines]  # they hold names of files

    def _picture_lines(self) -> list[str]:
        lines = []
        if self.trivial:
            lines.append(f"  matches of a picture with its copy: {len(self.trivial)}")
            lines += _examples(" = ".join(pair) for pair in self.trivial)
        if self.contradictions:
            n_found = len(self.contradictions)
            lines.append(f"  non-matches of a picture with its copy: {n_found}")
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
        lines = ["  THE GIVEN SPLIT LEAKS: the same picture stands on several sides"]
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
