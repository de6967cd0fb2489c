"""Write vectors to a file that ``vectors:FILE.npz`` reads back."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError

__all__ = ["write_vectors"]


def write_vectors(
    file: str | os.PathLike[str],
    ids: Sequence[str],
    vectors: NDArray[np.float32],
) -> None:
    """Write an ``.npz`` with the arrays ``ids`` and ``vectors``, whole or not at all.

    Parameters
    ----------
    file : path-like
        Where to; missing folders are made.
    ids : sequence of str, length n_images
        A name a row.
    vectors : ndarray of shape (n_images, n_dims), float32

    Raises
    ------
    DataError
        If the file can't be written.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_vectors(folder + "/v.npz", ["a", "b"], np.eye(2, dtype=np.float32))
    ...     with np.load(folder + "/v.npz", allow_pickle=False) as arrays:
    ...         arrays["ids"].tolist(), arrays["vectors"].shape
    (['a', 'b'], (2, 2))
    """
    path = Path(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path, error) from error
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as opened:
            np.savez(opened, ids=np.asarray(ids, dtype=str), vectors=vectors)
            opened.flush()
            os.fsync(opened.fileno())
        # mkstemp keeps others from reading; results are for all that the umask allows.
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> DataError:
    msg = f"{path}: can't be written ({error.strerror or error})"
    return DataError(msg)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
