"""``vectors:FILE.npz``: vectors that the user already has, looked up by id."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tllboost.errors import DataError, UsageError, WeightsError, printable
from tllboost.images.folders import normal_name, without_suffix
from tllboost.processes import beyond_memory
from tllboost.vectorizers.base import FileVectorizer, loaded
from tllboost.vectorizers.weights import local_file, sha256_of

_AMBIGUOUS = -1


class ArrayVectorizer(FileVectorizer):
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

    KIND = "vectors"
    FORM = "FILE.npz"
    needs_images = False

    @loaded
    def fingerprint(self) -> str:
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
        msg = f"{self.name} holds vectors by id and can't vectorize new images"
        raise UsageError(msg)

    def _row(self, wanted: str) -> int:
        wanted = normal_name(wanted)
        if wanted in self._index:  # nearly always, and paths are slow to take apart
            return self._index[wanted]
        folderless = posixpath.basename(wanted)
        spellings = (without_suffix(wanted), folderless, without_suffix(folderless))
        found = (self._index[one] for one in spellings if one in self._index)
        return next(found, _AMBIGUOUS)

    @loaded
    def _index(self) -> dict[str, int]:
        """Row of each id, as written and without its suffix."""
        exact = {one: row for row, one in enumerate(self._arrays[0])}
        stems: dict[str, int] = {}
        for one, row in exact.items():
            stem = without_suffix(one)
            stems[stem] = row if stem not in stems else _AMBIGUOUS
        return stems | exact

    @loaded
    def _arrays(self) -> tuple[list[str], np.ndarray]:
        return _read(local_file(self.file, what=self.name))


def names_in(ids: np.ndarray) -> list[str]:
    """Return the ids of a file in the form that all names have; bytes are UTF-8."""
    if ids.dtype.kind == "S":
        ids = np.char.decode(ids, "utf-8", "surrogateescape")
    return [normal_name(str(one)) for one in ids]


def _read(file: Path) -> tuple[list[str], np.ndarray]:
    """Return the ids of a file, and their vectors as float32."""
    ids, vectors = _opened(file)
    if vectors.ndim != 2 or vectors.shape[1] == 0 or vectors.dtype.kind not in "fiu":
        why = (
            f"vectors of shape {vectors.shape}, {vectors.dtype}; they must be numbers "
            "of shape (n_images, n_dims)"
        )
    elif ids.shape != (len(vectors),):
        why = f"ids of shape {ids.shape} for {len(vectors)} vectors"
    elif ids.dtype.kind not in "UTSiu":
        why = f"ids of dtype {ids.dtype}; they must be text"
    else:
        names = names_in(ids)
        # Overflow of a float64 to float32 is reported as the infinity it becomes.
        with np.errstate(over="ignore"):
            narrow = vectors.astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(narrow).all(axis=1))
        (name, n_times), *_ = Counter(names).most_common(1) or [("", 0)]
        if n_times > 1:
            why = f"id {name!r} occurs more than once"
        elif len(bad):
            more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            why = f"the vector of {names[bad[0]]!r}{more} holds NaN or infinity"
        else:
            return names, narrow
    msg = f"{str(file)!r}: {why}"
    raise DataError(msg)


def _opened(file: Path) -> tuple[np.ndarray, np.ndarray]:
    remedy = "write it by numpy.savez(FILE, ids=ids, vectors=vectors)"
    try:
        # Opened here, because np.load leaves a damaged file open.
        with file.open("rb") as opened:
            archive = np.load(opened, allow_pickle=False)
            zipped: Any = getattr(archive, "zip", None)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                why = f"is one array, not an .npz of two; {remedy}"
            elif absent := sorted({"ids", "vectors"} - set(archive.files)):
                found = printable(", ".join(archive.files))[:300] or "nothing"
                why = f"has no array {absent[0]!r} (found: {found})"
            elif told := beyond_memory(sum(o.file_size for o in zipped.filelist)):
                why = f"unpacks to {told}"
            else:
                return archive["ids"], archive["vectors"]
    except Exception as error:  # a damaged archive fails in many ways
        pickled = "allow_pickle" in str(error)
        reason = "its ids are Python objects, not text" if pickled else "damaged"
        msg = f"{str(file)!r} can't be read as vectors ({reason}); {remedy}"
        raise WeightsError(msg) from error
    msg = f"{str(file)!r} {why}"
    raise DataError(msg)
