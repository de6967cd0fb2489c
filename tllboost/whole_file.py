"""Files that are there whole or not at all, whatever stops the writing."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tllboost.errors import DataError

__all__ = ["whole_file", "write_text"]


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only once it is written.

    It is written under a temporary name in the same folder, synced to the disk, then
    renamed over what was there. After an error what was there still is.

    Parameters
    ----------
    path : path-like
        Where to; missing folders are made.

    Raises
    ------
    DataError
        If it can't be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(folder + "/a.bin") as file:
    ...         _ = file.write(b"all of it")
    ...     Path(folder + "/a.bin").read_bytes()
    b'all of it'
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{target}: can't be written ({error.strerror or error})"
        raise DataError(msg) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text as UTF-8, whole or not at all; bytes that are no text stay as such."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8", "surrogateescape"))
