"""Groups of images that belong together, turned into a pair table of matches."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.errors import DataError, UsageError
from tllboost.images import find_images
from tllboost.images.folders import image_stems, normal_name
from tllboost.pairs import PairTable
from tllboost.pairs.tables import find_images as find_named
from tllboost.pairs.tables import read_table

_MOST_PAIRS = 20_000_000


def read_groups(
    folder: str | PathLike[str],
    pattern: str = "folder",
    *,
    classes: str | PathLike[str] | Any = None,
) -> PairTable:
    r"""Make a pair table of a folder whose images form groups.

    Every pair of images inside a group is a match. Images outside of any group,
    and groups of one image, are left out and counted in the table's `notes`.

    Parameters
    ----------
    folder : path-like
        The folder of the images.
    pattern : str, default="folder"
        ``"folder"``: the images of one subfolder are a group. Anything else is a
        regular expression with one part in parentheses, searched for in the name of
        each file, subfolders included. Files with the same text there are a group.
        ``'^(\d{4})'`` suits the names of INRIA Holidays.
    classes : path-like or pandas.DataFrame, optional
        A table with the columns ``image`` and ``class``, or with two columns of any
        name in this order: images of one class are a group, and `pattern` is ignored.
        Images may be named without extension.

    Returns
    -------
    PairTable
        The matches, group after group, with ids below `folder` as in `read_pairs`.

    Raises
    ------
    UsageError
        If the pattern is not a regular expression with one group.
    DataError
        If the folder is not there, no group has two images, or two images have one
        name.
    TableError
        If the table of classes can't be used.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ["000100.jpg", "000101.jpg", "000200.jpg", "000201.jpg"]:
    ...         pathlib.Path(folder, name).touch()
    ...     table = read_groups(folder, r"^(\d{4})")
    >>> table.ids
    ('000100', '000101', '000200', '000201')
    >>> table.left.tolist(), table.right.tolist()
    ([0, 2], [1, 3])
    """
    root = Path(folder)
    group_of, missed = _grouping(root, pattern, classes)
    notes: list[str] = []
    paths = find_images(root, tell=notes.append)
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(group_of(path), []).append(path)
    outside = groups.pop("", [])
    alone = [members for members in groups.values() if len(members) == 1]
    groups = {name: groups[name] for name in sorted(groups) if len(groups[name]) > 1}
    if not groups:
        msg = "; ".join([f"{root}: no images there to group by {pattern!r}", *notes])
        if paths:
            msg = (
                f"{root}: none of the {len(paths)} images there shares a group with "
                f"another by {pattern!r}; give 'folder' for groups by folder, or a "
                "pattern of the names"
            )
        raise DataError(msg)
    # The pairs of a group grow with its square: refuse what can't be meant.
    n_pairs = sum(len(g) * (len(g) - 1) // 2 for g in groups.values())
    if n_pairs > _MOST_PAIRS:
        name = max(groups, key=lambda group: len(groups[group]))
        msg = (
            f"{root}: grouping by {pattern!r} makes {n_pairs} matches, over the limit "
            f"of {_MOST_PAIRS}; group {name!r} alone has {len(groups[name])} images"
        )
        raise DataError(msg)
    if outside:
        first = outside[0].name
        notes.append(f"left out {len(outside)} images {missed}, {first!r} first")
    if alone:
        notes.append(
            f"left out {len(alone)} groups of one image, {alone[0][0].name!r} first: "
            "a match needs two"
        )
    named = image_stems(
        (str(path.relative_to(root)), path) for g in groups.values() for path in g
    )
    ids, files = zip(*sorted(named.items()), strict=True)
    number = {path: i for i, path in enumerate(files)}
    pairs = []
    for members in groups.values():
        codes = np.array(sorted(number[path] for path in members), dtype=np.int64)
        pairs.append(codes[np.array(np.triu_indices(len(codes), k=1))])
    left, right = np.concatenate(pairs, axis=1)
    return PairTable(str(root), ids, files, left, right, notes=tuple(notes))


def _grouping(
    root: Path, pattern: str, classes: Any
) -> tuple[Callable[[Path], str], str]:
    """Return what tells the group of an image, "" for none, and what has none."""
    if classes is not None:
        known = _classes(classes, root)
        return lambda path: known.get(path, ""), "without a class"
    if pattern == "folder":  # the root itself is no group
        below = len(root.parts)
        return lambda path: "/".join(path.parts[below:-1]), "in no subfolder"
    search = _compiled(pattern).search

    def named(path: Path) -> str:
        found = search(normal_name(path.name))
        return (found[1] or "") if found else ""

    return named, "with a name that the pattern misses"


def _classes(classes: Any, root: Path) -> dict[Path, str]:
    """Return the class of each image that a table names."""
    table = read_table(classes, required=("image", "class"), in_order=True)
    ids, files, codes = find_named(table, ("image",), root, None, None, False)
    table.raise_problems()
    found: dict[Path, str] = {}
    column = table.columns["class"]
    rows = zip(codes["image"], column.codes, table.lines.tolist(), strict=True)
    for image, code, line in rows:
        if found.setdefault(files[image], column.values[code]) != column.values[code]:
            text = f"{ids[image]!r} has class {found[files[image]]!r} already; keep one"
            table.problems.append((line, text))
    table.raise_problems()
    return found


def _compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern that finds what the names of one group share."""
    try:
        compiled = re.compile(unicodedata.normalize("NFC", pattern))
        if compiled.groups == 1:
            return compiled
        wrong = f"has {compiled.groups} groups in parentheses; it must have one"
    except re.error as error:
        wrong = f"is not a regular expression ({error})"
    msg = rf"group pattern {pattern!r} {wrong}; give 'folder', or one like '^(\d{{4}})'"
    raise UsageError(msg)
