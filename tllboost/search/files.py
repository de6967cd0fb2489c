"""Vectors in ``.npy`` and ``.npz`` files, mapped into memory instead of read."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError
from tllboost.vectorizers.weights import first_line

__all__ = ["map_archive", "map_array"]

_LOCAL_HEADER = struct.Struct("<26xHH")


def map_array(file: Path) -> NDArray[np.float32]:
    """Return the vectors of an ``.npy`` file: (n_images, n_dims) float32, mapped.

    Raises
    ------
    DataError
        If it holds no such array.
    """
    try:
        vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(file, error) from error
    return _checked(file, vectors)


def map_archive(file: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Return ids and vectors of an ``.npz`` file, the vectors mapped if they can be.

    They can where nothing is compressed, as ``numpy.savez`` and ``tllboost vectorize
    --out`` leave it.

    Raises
    ------
    DataError
        If it has no arrays ``ids`` and ``vectors`` of one length.
    """
    try:
        with file.open("rb") as opened, zipfile.ZipFile(opened) as archive:
            info = archive.getinfo("vectors.npy")
            with archive.open("ids.npy") as member:
                ids = np.lib.format.read_array(member, allow_pickle=False)
            if info.compress_type != zipfile.ZIP_STORED:
                with archive.open(info) as member:
                    vectors = np.lib.format.read_array(member, allow_pickle=False)
            else:
                vectors = _mapped_member(file, info)
    except DataError:
        raise
    except Exception as error:  # a damaged archive fails in many ways
        raise _unreadable(file, error) from error
    if ids.ndim != 1 or len(ids) != len(vectors):
        msg = f"{str(file)!r}: ids of shape {ids.shape} for {len(vectors)} vectors"
        raise DataError(msg)
    return [str(one) for one in ids], _checked(file, vectors)


def _mapped_member(file: Path, info: zipfile.ZipInfo) -> NDArray[np.float32]:
    """Map an array that lies in an archive as it is."""
    with file.open("rb") as opened:
        opened.seek(info.header_offset)
        name, extra = _LOCAL_HEADER.unpack(opened.read(_LOCAL_HEADER.size))
        opened.seek(name + extra, 1)
        version = np.lib.format.read_magic(opened)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, by_column, dtype = read(opened)
        if by_column or dtype.hasobject:
            msg = f"{str(file)!r}: vectors must be numbers, one row after the other"
            raise DataError(msg)
        start = opened.tell()
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(file, dtype=dtype, mode="r", offset=start, shape=shape)


def _checked(file: Path, vectors: NDArray[np.generic]) -> NDArray[np.float32]:
    if vectors.ndim != 2 or vectors.shape[1] == 0 or vectors.dtype != np.float32:
        msg = (
            f"{str(file)!r}: an array of shape {vectors.shape}, {vectors.dtype}; give "
            "vectors of shape (n_images, n_dims), float32"
        )
        raise DataError(msg)
    return vectors  # type: ignore[return-value]


def _unreadable(file: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or first_line(error)
    return DataError(f"{str(file)!r} can't be read as vectors ({reason})")
