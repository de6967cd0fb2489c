"""Write vectors to a file that ``vectors:FILE.npz`` reads back."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tllboost.whole_file import whole_file

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
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_vectors(folder + "/v.npz", ["a", "b"], np.eye(2, dtype=np.float32))
    ...     with np.load(folder + "/v.npz", allow_pickle=False) as arrays:
    ...         arrays["ids"].tolist(), arrays["vectors"].shape
    (['a', 'b'], (2, 2))
    """
    with whole_file(file) as opened:
        np.savez(opened, ids=np.asarray(ids, dtype=str), vectors=vectors)
