"""Find the picture that an id of a table means: the folders are listed once.

An id is a file name with or without its extension, below ``images`` or below the
folder of its side. Ids that are absolute or climb out of their folder are refused.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from tllboost.errors import DataError, UsageError
from tllboost.images import IMAGE_SUFFIXES
from tllboost.tables import TextTable

__all__ = ["Folder", "FoundImages", "Names", "Roots", "picture_stems"]

_MOST_HINTS = 20
_MOST_NAMES_FOR_A_HINT = 20_000


_Listing = tuple[dict[str, str], dict[str, list[str]]]


@dataclass(frozen=True, eq=False)
class FoundImages:
    """The images of a table, sorted by id, and each column as indices into them.

    An index of -1 stands where no image was found.
    """

    ids: tuple[str, ...]
    paths: tuple[Path | None, ...]
    codes: dict[str, np.ndarray]


class Folder:
    """The pictures below one folder, each subfolder listed when first asked for.

    Parameters
    ----------
    path : path-like
        The folder.
    option : str
        The option that gave it, for messages.

    Raises
    ------
    DataError
        If it is not there, or is no folder.
    """

    def __init__(self, path: str | PathLike[str], option: str) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            state = "is not a folder" if self.path.exists() else "no such folder"
            msg = f"{self.path}: {state} (given as {option})"
            raise DataError(msg)
        self._listings: dict[str, _Listing] = {}
        self._n_hints = 0

    def find(self, written: str) -> tuple[str, Path | None]:
        """Return the id and the path of the picture that `written` means.

        The id is the name below the folder without extension, or with it where two
        pictures differ by that alone.

        Raises
        ------
        LookupError
            With the reason, if there is no such picture or more than one.
        """
        place, name = posixpath.split(_inside(written))
        files, stems = self._listing(place)
        found = files.get(name)
        if found is None:
            candidates = stems.get(name, [])
            if len(candidates) != 1:
                raise LookupError(self._reason(written, place, name, candidates))
            found = candidates[0]
        stem = _stem(found)
        others = len(stems.get(_key(stem), [])) - 1 + (_key(stem) in files)
        image_id = posixpath.join(place, found if others else stem)
        return image_id, self.path / place / found

    def _listing(self, place: str) -> _Listing:
        """Return the files of a subfolder by name, and its pictures by stem."""
        if place not in self._listings:
            self._listings[place] = _list_files(self.path / place)
        return self._listings[place]

    def _reason(
        self, written: str, place: str, name: str, candidates: list[str]
    ) -> str:
        folder = self.path / place
        if candidates:
            names = ", ".join(repr(candidate) for candidate in sorted(candidates))
            return f"{written!r} may be any of {names} in {folder}; add the extension"
        msg = f"no picture {written!r} in {folder}"
        files, stems = self._listing(place)
        if self._n_hints < _MOST_HINTS and len(files) <= _MOST_NAMES_FOR_A_HINT:
            self._n_hints += 1
            known = list(files if posixpath.splitext(name)[1] else stems)
            if near := difflib.get_close_matches(name, known, n=1):
                msg += f"; did you mean {near[0]!r}?"
        return msg


class Names:
    """Ids without folders: what is written is the id.

    ``a`` and ``a.jpg`` are one image, unless there is an ``a.png`` too.

    Parameters
    ----------
    written : iterable of str
        All ids of the table.
    """

    def __init__(self, written: Iterable[str]) -> None:
        self._suffixed: dict[str, set[str]] = {}
        for name in written:
            if (stem := _stem(name)) != name:
                self._suffixed.setdefault(stem, set()).add(name)

    def find(self, written: str) -> tuple[str, Path | None]:
        """Return the id that `written` means, and no path."""
        name = _inside(written)
        full = self._suffixed.get(name, ())
        return (next(iter(full)) if len(full) == 1 else name), None


class Roots:
    """Where the ids of the two sides of a table are looked up.

    Parameters
    ----------
    images : path-like, optional
        One folder for both sides.
    left, right : path-like, optional
        A folder for each side. Ids get the prefix ``left/`` or ``right/``, unless
        both name the same folder.

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
    ) -> None:
        _check_options(images, left, right)
        self._sides: dict[str, tuple[Folder | Names, str]] = {}
        if images is not None:
            self._sides = dict.fromkeys(
                ("left", "right"), (Folder(images, "images"), "")
            )
        elif left is not None and right is not None:
            folders = Folder(left, "left"), Folder(right, "right")
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
        bare = Names(value for column in columns.values() for value in column.values)
        paths: dict[str, Path | None] = {}
        ids: dict[str, list[str | None]] = {}
        for name, column in columns.items():
            folder, prefix = self._sides.get(sides[name], (bare, ""))
            lines = table.first_lines(column)
            ids[name] = []
            for value, line in zip(column.values, lines.tolist(), strict=True):
                try:
                    image_id, path = folder.find(value)
                except LookupError as error:
                    table.problems.append((line, f"{name}: {error.args[0]}"))
                    ids[name].append(None)
                else:
                    ids[name].append(prefix + image_id)
                    paths[prefix + image_id] = path
        order = sorted(paths)
        number: dict[str | None, int] = {name: i for i, name in enumerate(order)}
        codes = {
            name: np.array([number.get(i, -1) for i in ids[name]], dtype=np.int64)[
                column.codes
            ]
            for name, column in columns.items()
        }
        return FoundImages(tuple(order), tuple(paths[i] for i in order), codes)


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


def _inside(written: str) -> str:
    """Return an id as a plain relative path with forward slashes."""
    if not written:
        msg = "an empty id; give a picture's name"
        raise LookupError(msg)
    name = written if written.isascii() else unicodedata.normalize("NFC", written)
    if "/" not in name and "\\" not in name and name not in (".", ".."):
        return name
    name = name.replace("\\", "/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        msg = f"{written!r} is an absolute path; ids stand below their folder"
        raise LookupError(msg)
    if ".." in name.split("/"):
        msg = f"{written!r} climbs out of its folder; ids stand below it"
        raise LookupError(msg)
    return posixpath.normpath(name)


def _list_files(folder: Path) -> _Listing:
    """Return the files of a folder by name, and its pictures by stem."""
    files: dict[str, str] = {}
    stems: dict[str, list[str]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    continue
                key = _key(entry.name)
                files[key] = entry.name
                if (stem := _stem(key)) != key:
                    stems.setdefault(stem, []).append(entry.name)
    except (OSError, ValueError):
        # A subfolder that an id names and that is not there: no picture is in it.
        return {}, {}
    return files, stems


def _key(name: str) -> str:
    """Return a name composed: some systems keep accents as separate characters."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _stem(name: str) -> str:
    """Return the name without the extension of a picture."""
    stem, suffix = posixpath.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def picture_stems(pictures: dict[str, Path]) -> dict[str, Path]:
    """Name pictures by stem, by full name where two differ by the extension alone."""
    count = Counter(_stem(name) for name in pictures)
    return {
        stem if count[stem := _stem(name)] == 1 else name: path
        for name, path in pictures.items()
    }
