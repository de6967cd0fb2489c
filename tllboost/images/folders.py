"""What images are called: find one by its name, and name those in files and folders.

A name is a file's with or without its extension, in one normal form, which
:func:`normal_name` gives: composed, with forward slashes. The path of a file stays what
it is on disk. Names that are absolute or climb out of their folder are refused, unless
their user asked for them.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path

from tllboost.errors import DataError
from tllboost.images import IMAGE_SUFFIXES, ImagePath, find_images

_MOST_HINTS = 20
_MOST_NAMES_FOR_A_HINT = 20_000
_UNLESS = ", unless --anywhere allows it"
_TWINS = "they differ only in the form of accents, slashes or outer blanks: rename one"
_STEM = "\0"  # before what is no name but a stem; no file's name holds it


def normal_name(name: str) -> str:
    r"""Return a name in the one form in which names are compared and written.

    Some systems keep accents as characters of their own, some write backslashes, and
    tables lose the blanks around a name. Bytes that are no text stay as Python has
    them.

    Examples
    --------
    >>> normal_name("cafe\u0301\\ a.jpg") == "caf\u00e9/a.jpg"
    True
    """
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    if "/" not in name and "\\" not in name:
        return name.strip() or name
    parts = name.replace("\\", "/").split("/")
    parts = [part.strip() or part for part in parts]
    name = "/".join(parts)
    # A name that climbs stays one that does, for whoever refuses it.
    return name if ".." in parts else posixpath.normpath(name)


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
        self._listings: dict[str, dict[str, list[str]]] = {}
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
        root, place = str(self.path), ""
        if self.anywhere and written:
            base = os.path.abspath(root)
            slashed = normal_name(written) if "\\" in written else written
            there = Path(os.path.normpath(os.path.join(base, slashed)))
            if not there.is_relative_to(base):
                # From its folder, as that is written, or else from the top.
                root = str(there.parent if there.parent.is_dir() else there.anchor)
                base, place = root, normal_name(root)
            name = normal_name(str(there.relative_to(base)))
        else:
            name = _inside(written)
        found = self._matches(root, name) or self._matches(root, name, _STEM)
        if not found:
            # Tables often name the folder again: images/a.jpg below images.
            parts, own = name.split("/"), normal_name(os.path.abspath(root)).split("/")
            for n in range(1, len(parts)):
                if own[-n:] == parts[:n]:
                    return self.find("/".join(parts[n:]))
        if len(found) != 1:
            raise LookupError(self._reason(written, root, name, found))
        stem = without_suffix(name)
        same = {*self._matches(root, stem), *self._matches(root, stem, _STEM)}
        return posixpath.join(place, name if len(same) > 1 else stem), Path(found[0])

    def _matches(self, folder: str, name: str, mark: str = "") -> list[str]:
        """Return the files below a folder that have a name, or with a mark a stem.

        What is on disk may be written in another form; its own may hold backslashes.
        """
        if folder not in self._listings:
            known = self._listings[folder] = {}
            with suppress(OSError, ValueError), os.scandir(folder) as entries:
                for entry in entries:
                    own = normal_name(entry.name).lstrip("/")
                    is_link = entry.is_symlink()
                    keys = [own, _STEM + without_suffix(own)]
                    if os.path.isdir(entry.path) if is_link else entry.is_dir():
                        keys = [f"{own}/"]
                    for key in keys:
                        known.setdefault(key, []).append(entry.name)
        known = self._listings[folder]
        found = [os.path.join(folder, one) for one in known.get(mark + name, ())]
        for slash in re.finditer("/", name):
            for one in known.get(name[: slash.end()], ()):
                below = os.path.join(folder, one)
                found += self._matches(below, name[slash.end() :], mark)
        return found

    def _reason(self, written: str, root: str, name: str, found: list[str]) -> str:
        if found:
            names = ", ".join(f"{os.path.relpath(o, root)!a}" for o in sorted(found))
            are_twins = len({normal_name(one) for one in found}) < len(found)
            remedy = _TWINS if are_twins else "add the extension"
            return f"{written!r} may be any of {names} in {root}; {remedy}"
        place, _, name = name.rpartition("/")
        folder = os.path.join(root, *filter(None, place.split("/")))
        msg = f"no image {written!r} in {folder}"
        known = self._listings.get(folder, ())
        listing = [one.lstrip(_STEM) for one in known if not one.endswith("/")]
        if self._n_hints < _MOST_HINTS and len(listing) <= _MOST_NAMES_FOR_A_HINT:
            self._n_hints += 1
            near = [one for one in listing if posixpath.splitext(one)[0] == name]
            if near := near or difflib.get_close_matches(name, listing, n=1):
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
    for one in map(normal_name, written):
        if (stem := without_suffix(one)) != one:
            suffixed.setdefault(stem, set()).add(one)

    def find(written: str) -> tuple[str, Path | None]:
        name = normal_name(written) if anywhere and written else _inside(written)
        full = suffixed.get(name, ())
        return (next(iter(full)) if len(full) == 1 else name), None

    return find


def _inside(written: str) -> str:
    """Return an id as a plain relative path with forward slashes."""
    name = normal_name(written)
    if not name:
        msg = "an empty id; give an image's name"
        raise LookupError(msg)
    if name.startswith("/") or ("/" in name and re.match(r"[A-Za-z]:", name)):
        msg = f"{written!r} is an absolute path; give one below its folder{_UNLESS}"
        raise LookupError(msg)
    if ".." in name.split("/"):
        msg = f"{written!r} is outside its folder; ids must be below it{_UNLESS}"
        raise LookupError(msg)
    return name


def without_suffix(name: str) -> str:
    """Return the name without the extension of an image."""
    stem, _, suffix = name.rpartition(".")
    is_image = stem.strip() and f".{suffix.lower()}" in IMAGE_SUFFIXES
    return stem.rstrip() if is_image and not stem.endswith("/") else name


def image_stems(images: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Name images by stem, by full name where two differ by the extension alone.

    Raises
    ------
    DataError
        If two of them have one name.
    """
    named: dict[str, Path] = {}
    for name, path in images:
        other = named.setdefault(normal_name(name), path)
        if other is not path and other.absolute() != path.absolute():
            msg = f"{str(other)!a} and {str(path)!a} have the same name; {_TWINS}"
            raise DataError(msg)
    count = Counter(map(without_suffix, named))
    return {
        name
        if count[stem := without_suffix(name)] > 1 or (stem != name and stem in named)
        else stem: path
        for name, path in named.items()
    }


def name_images(
    given: Sequence[ImagePath], *, tell: Callable[[str], None] | None = None
) -> dict[str, Path]:
    """Return the images in files and folders under the ids of a pair table.

    Parameters
    ----------
    given : sequence of path-like
        Files, and folders that are searched with all their subfolders. A file is
        taken whatever its name, and need not be there: reading it will say so.
    tell : callable, optional
        As of :func:`~tllboost.images.find_images`.

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
        If there is no image, or two of them have one name.

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
        for path in (find_images(root, tell=tell) if root.is_dir() else [root])
    ]
    if not found:
        places = ", ".join(repr(str(root)) for root in roots)
        msg = f"no images in {places}: give files, or folders that hold some"
        raise DataError(msg)
    names = [
        normal_name(str(path.name if path == root else path.relative_to(root)))
        for path, root in found
    ]
    if _are_shared(names, found):
        names = [
            f"{(root.parent if path == root else root).resolve().name}/{name}"
            for name, (path, root) in zip(names, found, strict=True)
        ]
    if _are_shared(names, found):
        names = [path.as_posix() for path, _ in found]
    return image_stems(zip(names, (path for path, _ in found), strict=True))


def _are_shared(names: list[str], found: list[tuple[Path, Path]]) -> bool:
    """Tell whether two images have the same name."""
    absolute = [path.absolute() for path, _ in found]
    return len(set(names)) < len(set(zip(names, absolute, strict=True)))
