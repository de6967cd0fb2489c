"""One grid at a time a folder: a lock that ends with the process that holds it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tllboost.errors import DataError, UsageError

__all__ = ["LOCK", "locked"]

LOCK = ".lock"
# Windows locks bytes, and nobody else can read those: one far behind the text.
_LOCKED_BYTE = 1 << 20


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be, against all other processes.

    The system lets go of the lock when the process ends, however it ends. A folder that
    was made here and is empty at the end is removed.

    Raises
    ------
    UsageError
        If another process holds it.
    DataError
        If the folder can't be made or written.

    Examples
    --------
    >>> import tempfile
    >>> out = Path(tempfile.mkdtemp()) / "out"
    >>> with locked(out):
    ...     out.exists()
    True
    >>> out.exists()
    False
    """
    is_new = not folder.exists()
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _held(path)
    except OSError as error:
        msg = f"{folder}: can't be written ({error.strerror}): give another --out"
        raise DataError(msg) from error
    try:
        yield
    finally:
        # Removed while it is held: later it might be another's. Windows, where an open
        # file can't be, leaves none to others meanwhile.
        with suppress(OSError):
            path.unlink()
        file.close()
        if os.name == "nt":
            with suppress(OSError):
                path.unlink()
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _held(path: Path) -> BinaryIO:
    """Return the open and locked file."""
    while True:
        file = path.open("a+b")
        try:
            _lock(file)
        except (BlockingIOError, PermissionError) as error:
            holder = _text(file)
            file.close()
            msg = (
                f"another grid{holder} writes into {path.parent}: wait until it is "
                "done, or give another --out"
            )
            raise UsageError(msg) from error
        except OSError:
            return file  # a file system without locks: better than no grid on it
        # Whoever held it before may have removed it between our two steps.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                file.write(str(os.getpid()).encode())
                file.flush()
                return file
        file.close()


def _lock(file: BinaryIO) -> None:
    if os.name == "nt":
        import msvcrt

        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        file.seek(0)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _text(file: BinaryIO) -> str:
    """Return who holds it, as far as the file says."""
    with suppress(OSError, ValueError):
        file.seek(0)
        return f" (process {int(file.read(20))})"
    return ""
