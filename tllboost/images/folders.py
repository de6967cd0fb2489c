"""What images are called: find one by its name, and name those in files and folders.

A name is a file's with or without its extension. Names that are absolute or climb out
of their folder are refused, unless their user asked for them.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TypeVar

from tllboost.errors import DataError
from tllboost.images import IMAGE_SUFFIXES, find_images

__all__ = ["Folder", "find_names", "image_stems", "name_images", "without_suffix"]

T = TypeVar("T")
_MOST_HINTS = 20
_MOST_NAMES_FOR_A_HINT = 20_000
_UNLESS = ", unless --anywhere allows it"


_Listing = dict[str, tuple[str, str]]
"""What may be written for the files of one folder, and the id and the name of each."""


class Folder:
    """The images below one folder, each subfolder listed when first asked for.

    Parameters
    ----------
    path : path-like
        The folder.
    option : str
        The option that gave it, for messages.
    anywhere : bool, default=False
        Whether a name may be absolute or climb out of the folder.

    Raises
    ------
    DataError
        If it is not there, or is no folder.
    """

    def __init__(
        self, path: str | PathLike[str], option: str, *, anywhere: bool = False
    ) -> None:
        self.path = Path(path)
        self.anywhere = anywhere
        if not self.path.is_dir():
            state = "is not a folder" if self.path.exists() else "no such folder"
            msg = f"{self.path}: {state} (given as {option})"
            raise DataError(msg)
        self._listings: dict[str, _Listing] = {}
        self._n_hints = 0

    def find(self, written: str) -> tuple[str, Path | None]:
        """Return the id and the path of the image that `written` means.

        The id is below the folder, or absolute where that is allowed: the file's name
        without extension, or with it where two images differ by that alone.

        Raises
        ------
        LookupError
            With the reason, if there is no such image or more than one.
        """
        located = self._located(written)
        place, name = posixpath.split(located)
        if place not in self._listings:
            try:
                with os.scandir(self.path / place) as entries:
                    names = [entry.name for entry in entries if not entry.is_dir()]
            except (OSError, ValueError):
                names = []  # a subfolder that an id names and that is not there
            ids = image_stems({_composed(name): name for name in names})
            by_id = {one: (one, file) for one, file in ids.items()}
            by_name = {_composed(file): by_id[one] for one, file in ids.items()}
            self._listings[place] = by_id | by_name
        if name not in self._listings[place]:
            # Tables often name the folder again: images/a.jpg below images.
            parts, own = located.split("/"), Path(os.path.abspath(self.path)).parts
            for n in range(1, len(parts)):
                if own[-n:] == tuple(parts[:n]):
                    return self.find("/".join(parts[n:]))
            raise LookupError(self._reason(written, place, name))
        image_id, file = self._listings[place][name]
        return posixpath.join(place, image_id), Path(self.path, place, file)

    def _located(self, written: str) -> str:
        """Return an id relative to the folder, or absolute if it leads out of it."""
        if not self.anywhere or not written:
            return _inside(written)
        root = os.path.abspath(self.path)
        there = os.path.normpath(os.path.join(root, _composed(written)))
        try:
            below = os.path.commonpath([root, there]) == root
        except ValueError:  # another drive
            below = False
        return Path(os.path.relpath(there, root) if below else there).as_posix()

    def _reason(self, written: str, place: str, name: str) -> str:
        folder, listing = self.path / place, self._listings[place]
        if several := [one for one in listing if without_suffix(one) == name]:
            names = ", ".join(map(repr, sorted(several)))
            return f"{written!r} may be any of {names} in {folder}; add the extension"
        msg = f"no image {written!r} in {folder}"
        if self._n_hints < _MOST_HINTS and len(listing) <= _MOST_NAMES_FOR_A_HINT:
            self._n_hints += 1
            if near := difflib.get_close_matches(name, listing, n=1):
                msg += f"; did you mean {near[0]!r}?"
        return msg


def find_names(
    written: Iterable[str], *, anywhere: bool = False
) -> Callable[[str], tuple[str, Path | None]]:
    """Return what finds ids without folders: what is written is the id.

    ``a`` and ``a.jpg`` are one image, unless there is an ``a.png`` too.

    Parameters
    ----------
    written : iterable of str
        All ids of the table.
    anywhere : bool, default=False
        Whether an id may be absolute or climb: it is kept as it is then.
    """
    suffixed: dict[str, set[str]] = {}
    for one in written:
        if (stem := without_suffix(one)) != one:
            suffixed.setdefault(stem, set()).add(one)

    def find(written: str) -> tuple[str, Path | None]:
        name = _composed(written) if anywhere and written else _inside(written)
        full = suffixed.get(name, ())
        return (next(iter(full)) if len(full) == 1 else name), None

    return find


def _inside(written: str) -> str:
    """Return an id as a plain relative path with forward slashes."""
    if not written:
        msg = "an empty id; give an image's name"
        raise LookupError(msg)
    name = _composed(written)
    if "/" not in name and "\\" not in name and name not in (".", ".."):
        return name
    name = name.replace("\\", "/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        msg = f"{written!r} is an absolute path; ids lie below their folder{_UNLESS}"
        raise LookupError(msg)
    if ".." in name.split("/"):
        msg = f"{written!r} climbs out of its folder; ids lie below it{_UNLESS}"
        raise LookupError(msg)
    return posixpath.normpath(name)


def _composed(name: str) -> str:
    """Return a name composed: some systems keep accents as separate characters."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def without_suffix(name: str) -> str:
    """Return the name without the extension of an image."""
    stem, _, suffix = name.rpartition(".")
    return stem if stem and f".{suffix.lower()}" in IMAGE_SUFFIXES else name


def image_stems(images: dict[str, T]) -> dict[str, T]:
    """Name images by stem, by full name where two differ by the extension alone."""
    count = Counter(without_suffix(name) for name in images)
    return {
        stem if count[stem := without_suffix(name)] == 1 else name: path
        for name, path in images.items()
    }


def name_images(given: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """Return the images in files and folders under the ids of a pair table.

    Parameters
    ----------
    given : sequence of path-like
        Files, and folders that are searched with all their subfolders. A file is
        taken whatever its name, and need not be there: reading it will say so.

    Returns
    -------
    dict of str to Path
        In the order given. The id is the name below the folder without extension, or
        with it where two images differ by that alone. Where names in two folders
        are equal, all begin with their folder's own name, as in ``left/aaa``; where
        that does not help, they are the paths as given.

    Raises
    ------
    DataError
        If there is no image.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "cat.jpg").touch()
    ...     list(name_images([folder, "dog.png"]))
    ['cat', 'dog']
    """
    roots = [Path(one) for one in given]
    found = [
        (path, root)
        for root in roots
        for path in (find_images(root, recursive=True) if root.is_dir() else [root])
    ]
    if not found:
        places = ", ".join(repr(str(root)) for root in roots)
        msg = f"no images in {places}: give files, or folders that hold some"
        raise DataError(msg)
    names = [
        path.name if path == root else path.relative_to(root).as_posix()
        for path, root in found
    ]
    if _are_shared(names, found):
        names = [
            f"{(root.parent if path == root else root).resolve().name}/{name}"
            for name, (path, root) in zip(names, found, strict=True)
        ]
    if _are_shared(names, found):
        names = [path.as_posix() for path, _ in found]
    paths = (path for path, _ in found)
    return image_stems(dict(zip(names, paths, strict=True)))


def _are_shared(names: list[str], found: list[tuple[Path, Path]]) -> bool:
    """Tell whether two images have the same name."""
    absolute = [path.absolute() for path, _ in found]
    return len(set(names)) < len(set(zip(names, absolute, strict=True)))
