"""``vectors:FILE.npz``: vectors that the user already has, looked up by id."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Self

import numpy as np
from PIL import Image

from tllboost.errors import DataError, UsageError, WeightsError, printable
from tllboost.images import IMAGE_SUFFIXES
from tllboost.vectorizers.base import Vectorizer, loaded
from tllboost.vectorizers.spec import Spec
from tllboost.vectorizers.weights import local_file, sha256_of

__all__ = ["ArrayVectorizer"]

_AMBIGUOUS = -1


class ArrayVectorizer(Vectorizer):
    """Vectors from an ``.npz`` file with the arrays ``ids`` and ``vectors``.

    Parameters
    ----------
    file : path-like
        ``ids`` of shape (n_images,), text, with or without folder and extension;
        ``vectors`` of shape (n_images, n_dims), numbers.

    Examples
    --------
    >>> ArrayVectorizer("embeddings.npz").label
    'vectors:embeddings'
    """

    needs_images = False

    def __init__(self, file: str | Path) -> None:
        self.file = file

    @classmethod
    def from_spec(cls, spec: Spec, *, device: str, offline: bool) -> Self:
        """Build one from ``vectors:FILE.npz``."""
        spec.without_options()
        if not spec.rest:
            msg = f"{spec.text!r} names no file: write vectors:FILE.npz"
            raise UsageError(msg)
        return cls(spec.rest)

    @property
    def name(self) -> str:
        """The spelling that makes it."""
        return f"vectors:{self.file}"

    @property
    def short_name(self) -> str:
        """The name for tables: the file's stem."""
        return f"vectors:{Path(self.file).stem}"

    @loaded
    def fingerprint(self) -> str:  # type: ignore[override]
        """Tell what the vectors depend on: the file's bytes."""
        return f"vectors|sha256:{sha256_of(local_file(self.file, what=self.name))}"

    @property
    def n_dims(self) -> int:
        """Width of a vector."""
        return self._arrays[1].shape[1]

    def lookup(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors of images named in a table.

        ``"left/aaa"`` finds ``left/aaa``, else ``left/aaa.jpg`` (any image suffix),
        else ``aaa``, else ``aaa.jpg``. A name that fits several rows finds none.

        Parameters
        ----------
        ids : sequence of str

        Returns
        -------
        vectors : ndarray of shape (n_ids, n_dims), float32
            Zeros where nothing was found.
        found : ndarray of shape (n_ids,), bool
        """
        rows = np.array([self._row(one) for one in ids], dtype=np.int64)
        found = rows >= 0
        vectors = np.zeros((len(rows), self.n_dims), dtype=np.float32)
        vectors[found] = self._arrays[1][rows[found]]
        return vectors, found

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Refuse: there is no network behind it."""
        raise self._needs_ids()

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Refuse: there is no network behind it."""
        raise self._needs_ids()

    def _needs_ids(self) -> UsageError:
        return UsageError(
            f"{self.name} holds vectors by id and can't vectorize new images"
        )

    def _row(self, wanted: str) -> int:
        if wanted in self._index:  # nearly always, and paths are slow to take apart
            return self._index[wanted]
        folderless = PurePosixPath(wanted).name
        spellings = (wanted, _stem(wanted), folderless, _stem(folderless))
        for spelling in dict.fromkeys(spellings):
            if spelling in self._index:
                return self._index[spelling]
        return _AMBIGUOUS

    @loaded
    def _index(self) -> dict[str, int]:
        """Row of each id, as written and without its suffix."""
        exact = {one: row for row, one in enumerate(self._arrays[0])}
        stems: dict[str, int] = {}
        for one, row in exact.items():
            stem = _stem(one)
            stems[stem] = row if stem not in stems else _AMBIGUOUS
        return stems | exact

    @loaded
    def _arrays(self) -> tuple[list[str], np.ndarray]:
        file = local_file(self.file, what=self.name)
        ids, vectors = _read(file)
        return _checked_ids(file, ids, len(vectors)), _checked_vectors(
            file, ids, vectors
        )


def _read(file: Path) -> tuple[np.ndarray, np.ndarray]:
    remedy = "write it by numpy.savez(FILE, ids=ids, vectors=vectors)"
    try:
        # Opened here, because np.load leaves a damaged file open.
        with file.open("rb") as opened:
            archive = np.load(opened, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                msg = f"{str(file)!r} is one array, not an .npz of two; {remedy}"
                raise DataError(msg)
            absent = sorted({"ids", "vectors"} - set(archive.files))
            if absent:
                found = printable(", ".join(archive.files))[:300] or "nothing"
                msg = f"{str(file)!r} has no array {absent[0]!r} (found: {found})"
                raise DataError(msg)
            _refuse_bomb(file)
            return archive["ids"], archive["vectors"]
    except DataError:
        raise
    except (
        ValueError,
        OSError,
        EOFError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        zlib.error,
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
    ) as error:
        pickled = "allow_pickle" in str(error)
        reason = "its ids are Python objects, not text" if pickled else "damaged"
        msg = f"{str(file)!r} can't be read as vectors ({reason}); {remedy}"
        raise WeightsError(msg) from error


def _refuse_bomb(file: Path) -> None:
    """Raise DataError where the arrays unpack to more than there is memory."""
    import psutil

    with zipfile.ZipFile(file) as archive:
        n_bytes = sum(info.file_size for info in archive.infolist())
    room = psutil.virtual_memory().available * 3 // 4
    if n_bytes > room:
        msg = (
            f"{str(file)!r} unpacks to {n_bytes:,} bytes, more than the memory that is "
            f"free ({room:,} bytes may be used)"
        )
        raise DataError(msg)


def _checked_ids(file: Path, ids: np.ndarray, n_vectors: int) -> list[str]:
    if ids.ndim != 1 or len(ids) != n_vectors:
        msg = f"{str(file)!r}: ids of shape {ids.shape} for {n_vectors} vectors"
        raise DataError(msg)
    if ids.dtype.kind not in "UTSiu":
        msg = f"{str(file)!r}: ids of dtype {ids.dtype}; they must be text"
        raise DataError(msg)
    if ids.dtype.kind == "S":
        ids = np.char.decode(ids, "utf-8")
    names = [str(one) for one in ids]
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(one for one in names if one in seen or seen.add(one))  # type: ignore[func-returns-value]
        msg = f"{str(file)!r}: id {twice!r} is there more than once"
        raise DataError(msg)
    return names


def _checked_vectors(file: Path, ids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    if vectors.ndim != 2 or vectors.shape[1] == 0 or vectors.dtype.kind not in "fiu":
        msg = (
            f"{str(file)!r}: vectors of shape {vectors.shape}, {vectors.dtype}; "
            "they must be numbers of shape (n_images, n_dims)"
        )
        raise DataError(msg)
    # Overflow of a float64 to float32 is reported below, as the infinity it becomes.
    with np.errstate(over="ignore"):
        narrow = vectors.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(narrow).all(axis=1))
    if len(bad):
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        first = str(ids[bad[0]])
        msg = f"{str(file)!r}: the vector of {first!r}{more} holds NaN or infinity"
        raise DataError(msg)
    return narrow


def _stem(name: str) -> str:
    if "." not in name:
        return name
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_SUFFIXES else name
