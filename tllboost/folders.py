"""Find the picture that a name means, in a folder that is listed once.

A name is a file's with or without its extension. Names that are absolute or climb out
of their folder are refused.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from tllboost.errors import DataError
from tllboost.images import IMAGE_SUFFIXES

__all__ = ["Folder", "Names", "picture_stems"]

_MOST_HINTS = 20
_MOST_NAMES_FOR_A_HINT = 20_000


_Listing = tuple[dict[str, str], dict[str, list[str]]]


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
