"""Turn the ids of a table into images: one folder for both sides, or one for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from tllboost.errors import UsageError
from tllboost.images.folders import Folder, Names
from tllboost.pairs.tables import Column, TextTable

__all__ = ["Roots"]


@dataclass(frozen=True, eq=False)
class FoundImages:
    """The images of a table, sorted by id, and each column as indices into them.

    An index of -1 stands where no image was found.
    """

    ids: tuple[str, ...]
    paths: tuple[Path | None, ...]
    codes: dict[str, np.ndarray]


class Roots:
    """Where the ids of the two sides of a table are looked up.

    Parameters
    ----------
    images : path-like, optional
        One folder for both sides.
    left, right : path-like, optional
        A folder for each side. Ids get the prefix ``left/`` or ``right/``, unless
        both name the same folder.
    anywhere : bool, default=False
        Whether ids may be absolute or climb out of their folder.

    Raises
    ------
    UsageError
        If one side has a folder and the other has not, or `images` is given as well.
    DataError
        If a folder is not there.
    """

    def __init__(
        self,
        images: str | PathLike[str] | None = None,
        left: str | PathLike[str] | None = None,
        right: str | PathLike[str] | None = None,
        *,
        anywhere: bool = False,
    ) -> None:
        self.anywhere = anywhere
        _check_options(images, left, right)
        self._sides: dict[str, tuple[Folder | Names, str]] = {}
        if images is not None:
            self._sides = dict.fromkeys(
                ("left", "right"), (Folder(images, "images", anywhere=anywhere), "")
            )
        elif left is not None and right is not None:
            folders = (
                Folder(left, "left", anywhere=anywhere),
                Folder(right, "right", anywhere=anywhere),
            )
            if folders[0].path.resolve() == folders[1].path.resolve():
                self._sides = dict.fromkeys(("left", "right"), (folders[0], ""))
            else:
                self._sides["left"] = folders[0], "left/"
                self._sides["right"] = folders[1], "right/"

    def find_images(self, table: TextTable, sides: dict[str, str]) -> FoundImages:
        """Look up every id of a table once; what is not found joins its problems.

        Parameters
        ----------
        table : TextTable
            The table.
        sides : dict of str to str
            The columns that hold ids, and the side (``"left"`` or ``"right"``) of each.
        """
        columns = {name: table.columns[name] for name in sides}
        values = [] if self._sides else _all_values(columns)
        bare = Names(values, anywhere=self.anywhere)
        files: dict[str, tuple[Folder | Names, str]] = {}
        ids: dict[str, list[str | None]] = {}
        for name, column in columns.items():
            folder, prefix = self._sides.get(sides[name], (bare, ""))
            lines = table.first_lines(column)
            ids[name] = []
            for value, line in zip(column.values, lines.tolist(), strict=True):
                try:
                    image_id, file = folder.find(value)
                except LookupError as error:
                    table.problems.append((line, f"{name}: {error.args[0]}"))
                    ids[name].append(None)
                else:
                    ids[name].append(prefix + image_id)
                    files[prefix + image_id] = folder, file
        order = sorted(files)
        number: dict[str | None, int] = {name: i for i, name in enumerate(order)}
        codes = {
            name: np.array([number.get(i, -1) for i in ids[name]], dtype=np.int64)[
                column.codes
            ]
            for name, column in columns.items()
        }
        found = (files[name] for name in order)
        paths = tuple(folder.path_of(file) for folder, file in found)
        return FoundImages(tuple(order), paths, codes)


def _all_values(columns: dict[str, Column]) -> Iterator[str]:
    return itertools.chain.from_iterable(column.values for column in columns.values())


def _check_options(images: object, left: object, right: object) -> None:
    if images is not None and (left is not None or right is not None):
        msg = (
            f"images={str(images)!r} is one folder for both sides: "
            "give it alone, or give left and right"
        )
        raise UsageError(msg)
    if (left is None) != (right is None):
        given, other = ("left", "right") if right is None else ("right", "left")
        msg = f"{given} has a folder and {other} has none: give both, or images"
        raise UsageError(msg)
