"""What the commands take as pairs: a table, or a folder whose pictures form groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tllboost.pairs import PairTable

__all__ = ["read_input"]


def read_input(
    pairs: Path,
    *,
    images: Path | None = None,
    left: Path | None = None,
    right: Path | None = None,
    groups: str | None = None,
    anywhere: bool = False,
) -> PairTable:
    """Return the pair table that a command was given.

    Parameters
    ----------
    pairs : Path
        A table, or the folder of the pictures where `groups` is given.
    images, left, right : Path, optional
        Folders of the pictures.
    groups : str, optional
        ``"folder"`` or a pattern, as in `tllboost.groups.read_groups`.
    anywhere : bool, default=False
        Whether the table may name files outside of the folders.

    Raises
    ------
    UsageError
        If the options contradict each other.
    DataError
        If the table or the pictures can't be used.
    """
    if groups is None:
        _refuse_folder(pairs)
        from tllboost.pairs import read_pairs

        return read_pairs(
            pairs, images=images, left=left, right=right, anywhere=anywhere
        )
    from tllboost.errors import UsageError
    from tllboost.groups import read_groups

    for option, value in (("--images", images), ("--left", left), ("--right", right)):
        if value is not None:
            msg = (
                f"{option} {str(value)!r} does not go with --groups: the pictures are "
                f"those of {str(pairs)!r}"
            )
            raise UsageError(msg)
    return read_groups(pairs, groups)


def _refuse_folder(pairs: Path) -> None:
    if pairs.is_dir():
        from tllboost.errors import UsageError

        msg = (
            f"{str(pairs)!r} is a folder, not a pair table: say how its pictures form "
            r"groups, by --groups folder or a pattern like --groups '^(\d{4})'"
        )
        raise UsageError(msg)
