"""Name the pictures of a command: files, and all pictures below folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tllboost.errors import DataError, UsageError
from tllboost.folders import picture_stems
from tllboost.images import find_images

__all__ = ["name_pictures"]


def name_pictures(given: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """Return the pictures in files and folders under the ids of a pair table.

    Parameters
    ----------
    given : sequence of path-like
        Files, and folders that are searched with all their subfolders. A file is
        taken whatever its name, and need not be there: reading it will say so.

    Returns
    -------
    dict of str to Path
        In the order given. The id is the name below the folder without extension, or
        with it where two pictures differ by that alone. With several folders it
        begins with the folder's own name, as in ``left/aaa``.

    Raises
    ------
    DataError
        If there is no picture.
    UsageError
        If two pictures would have the same id.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "cat.jpg").touch()
    ...     list(name_pictures([folder, "dog.png"]))
    ['cat', 'dog']
    """
    roots = [Path(one) for one in given]
    several = sum(root.is_dir() for root in roots) > 1
    named: dict[str, Path] = {}
    for root in roots:
        for path in find_images(root, recursive=True) if root.is_dir() else [root]:
            _add(named, _name(path, root, several), path)
    if not named:
        places = ", ".join(repr(str(root)) for root in roots)
        msg = f"no pictures in {places}: give files, or folders that hold some"
        raise DataError(msg)
    return picture_stems(named)


def _name(path: Path, root: Path, several: bool) -> str:
    if path == root:
        return path.name
    name = path.relative_to(root).as_posix()
    return f"{root.resolve().name}/{name}" if several else name


def _add(named: dict[str, Path], name: str, path: Path) -> None:
    known = named.setdefault(name, path)
    if known != path and known.absolute() != path.absolute():
        msg = (
            f"{str(known)!r} and {str(path)!r} would both be named {name!r}: give the "
            "folder above both, so that their names differ"
        )
        raise UsageError(msg)
