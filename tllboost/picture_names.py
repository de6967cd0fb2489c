"""Name the pictures of a command: files, and all pictures below folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tllboost.errors import DataError
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
        with it where two pictures differ by that alone. Where names in two folders
        are equal, all begin with their folder's own name, as in ``left/aaa``; where
        that does not help, they are the paths as given.

    Raises
    ------
    DataError
        If there is no picture.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "cat.jpg").touch()
    ...     list(name_pictures([folder, "dog.png"]))
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
        msg = f"no pictures in {places}: give files, or folders that hold some"
        raise DataError(msg)
    named = (
        _named(found, _name)
        or _named(found, _name_with_folder)
        or {path.as_posix(): path for path, _ in found}
    )
    return picture_stems(named)


def _named(
    found: Sequence[tuple[Path, Path]], name_of: Callable[[Path, Path], str]
) -> dict[str, Path] | None:
    """Return the pictures by name, or None if two of them share one."""
    named: dict[str, Path] = {}
    for path, root in found:
        if named.setdefault(name_of(path, root), path).absolute() != path.absolute():
            return None
    return named


def _name(path: Path, root: Path) -> str:
    return path.name if path == root else path.relative_to(root).as_posix()


def _name_with_folder(path: Path, root: Path) -> str:
    return (
        f"{(root.parent if path == root else root).resolve().name}/{_name(path, root)}"
    )
