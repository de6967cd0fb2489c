"""Images to vectors: each content once, and through a store never again.

Every finished batch goes to the store at once, so that a kill loses at most one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tllboost.errors import ImageError, UsageError
from tllboost.images import DECODING
from tllboost.pipeline import vector_batches
from tllboost.processes import Backend, Processes
from tllboost.store import VectorStore, hash_files

if TYPE_CHECKING:
    from tllboost.vectorizers.base import Vectorizer

__all__ = ["Progress", "Vectorized", "space_of", "vectorize", "vectorize_many"]

Path = str | os.PathLike[str]
Progress = Callable[[int, int, str], None]


@dataclass(eq=False)
class Vectorized:
    """What became of a list of images.

    Attributes
    ----------
    vectors : ndarray of shape (n_images, n_dims), float32
        One row an image, in the order given; zero for one that failed.
    failures : dict of int to str
        Index of each image that failed, and why.
    n_computed, n_reused : int
        Vectors computed now and taken from the store (or looked up). Images with the
        same bytes count once, the parts of a fusion one by one.
    seconds : float
        Wall time of it all.
    """

    vectors: np.ndarray
    failures: dict[int, str] = field(default_factory=dict)
    n_computed: int = 0
    n_reused: int = 0
    seconds: float = 0.0


def vectorize(
    vectorizer: Vectorizer,
    paths: Sequence[Path | None],
    *,
    ids: Sequence[str] | None = None,
    store: VectorStore | Path | None = None,
    batch_size: int = 32,
    n_workers: int | None = None,
    backend: Backend | None = None,
    progress: Progress | None = None,
    strict: bool = False,
) -> Vectorized:
    """Return the vectors of images, computing only what the store lacks.

    Parameters
    ----------
    vectorizer : Vectorizer
        What turns an image into a vector. The parts of a fusion are vectorized and
        stored one by one; of a learned map the vectors that it maps are stored;
        ``vectors:`` looks up `ids` and needs no images.
    paths : sequence of path-like, length n_images
        The images; entries may be None where no image is looked at.
    ids : sequence of str, length n_images, optional
        Their names, for ``vectors:``.
    store : VectorStore or path-like, optional
        Where vectors are kept; by default nowhere.
    batch_size : int, default=32
        Images a forward pass, and the most that a kill can lose.
    n_workers : int, optional
        Threads that decode; by default as many as there are cores, at most eight.
    backend : Processes or Cluster, optional
        Who computes; by default this process.
    progress : callable, optional
        Called with how many images are done, how many there are, and the
        vectorizer's label.
    strict : bool, default=False
        Raise the first failure instead of reporting it at the end.

    Returns
    -------
    Vectorized
        With the vectors, and the images that failed and why.

    Raises
    ------
    ImageError
        If an image fails and `strict` is set; what was computed before is stored.
    UsageError
        If images or ids are needed and not given.
    StoreError
        If the store is damaged or not one.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> class Mean:
    ...     fingerprint, label, n_dims, input_size = "mean|1", "mean", 3, None
    ...     def prepare(self, image):
    ...         return np.asarray(image)
    ...     def forward(self, batch):
    ...         return batch.mean(axis=(1, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = folder + "/blue.png"
    ...     Image.new("RGB", (8, 8), "blue").save(path)
    ...     result = vectorize(Mean(), [path, folder + "/none.png", path])
    >>> result.vectors
    array([[  0.,   0., 255.],
           [  0.,   0.,   0.],
           [  0.,   0., 255.]], dtype=float32)
    >>> result.failures, result.n_computed
    ({1: "can't be read (No such file or directory)"}, 1)
    """
    (result,) = vectorize_many(
        [vectorizer],
        paths,
        ids=ids,
        store=store,
        batch_size=batch_size,
        n_workers=n_workers,
        backend=backend,
        progress=progress,
        strict=strict,
    )
    return result


def vectorize_many(
    vectorizers: Sequence[Vectorizer],
    paths: Sequence[Path | None],
    *,
    ids: Sequence[str] | None = None,
    store: VectorStore | Path | None = None,
    batch_size: int = 32,
    n_workers: int | None = None,
    backend: Backend | None = None,
    progress: Progress | None = None,
    strict: bool = False,
) -> list[Vectorized]:
    """Return the vectors of the same images by several vectorizers.

    What two of them share, the whole or a part of a fusion, is computed once, by the
    first that needs it: a network that several members of an ensemble look through is
    opened once.

    Parameters
    ----------
    vectorizers : sequence of Vectorizer, length n_vectorizers
    paths, ids, store, batch_size, n_workers, backend, progress, strict
        As in :func:`vectorize`.

    Returns
    -------
    list of Vectorized, length n_vectorizers
        What is shared counts as computed in the first and as reused in the others;
        ``seconds`` is the time since the one before.

    Raises
    ------
    ImageError
        If an image fails and `strict` is set.
    UsageError
        If images or ids are needed and not given.
    StoreError
        If the store is damaged or not one.
    """
    if batch_size < 1:
        msg = f"batch_size={batch_size!r} must be at least 1"
        raise UsageError(msg)
    results = []
    with _opened(store) as opened:
        n_threads = n_workers or _n_workers()
        job = _Job(paths, ids, opened, batch_size, n_threads, progress, strict)
        job.backend = backend or Processes()
        # One vectorizer shares with none, and need not tell what it is.
        job.done = {} if len(vectorizers) > 1 else None
        for vectorizer in vectorizers:
            started = time.perf_counter()
            result = _vectorize(vectorizer, job)
            result.seconds = time.perf_counter() - started
            results.append(result)
    return results


def space_of(vectorizer: Vectorizer) -> str:
    """Return what the vectors of a vectorizer are stored under.

    Its fingerprint, and how the images that it gets are decoded.
    """
    size = vectorizer.input_size
    decoding = f"{DECODING} at {size}" if size else f"{DECODING} whole"
    return f"{vectorizer.fingerprint}|{decoding}"


@dataclass
class _Job:
    """What one call was asked, and what it has so far that others may share."""

    paths: Sequence[Path | None]
    ids: Sequence[str] | None
    store: VectorStore | None
    batch_size: int
    n_workers: int
    progress: Progress | None
    strict: bool
    done: dict[str, Vectorized] | None = None
    backend: Backend = field(default_factory=Processes)

    @cached_property
    def keys(self) -> list[str | ImageError]:
        """The content hash of every image, or why there is none."""
        paths = [path for path in self.paths if path is not None]
        if len(paths) < len(self.paths):
            msg = (
                "this vectorizer looks at images and the table has only ids: give "
                "the folder of the images"
            )
            raise UsageError(msg)
        if self.store is not None:
            keys = self.store.hashes_of(paths, n_workers=self.n_workers)
        else:
            keys = hash_files(paths, n_workers=self.n_workers)
        for key in keys:
            if self.strict and isinstance(key, ImageError):
                raise key
        return keys

    @cached_property
    def images(self) -> dict[str, Path]:
        """One file of each content."""
        images: dict[str, Path] = {}
        for key, path in zip(self.keys, self.paths, strict=True):
            if isinstance(key, str) and path is not None:
                images.setdefault(key, path)
        return images

    def refuse_failures(self, batch: dict[str, np.ndarray | str]) -> None:
        """Raise the first failure among new vectors, if that was asked for."""
        for key, outcome in batch.items():
            if self.strict and isinstance(outcome, str):
                raise ImageError(self.images[key], outcome)


def _vectorize(vectorizer: Vectorizer, job: _Job) -> Vectorized:
    if job.done is None:
        return _anew(vectorizer, job)
    space = space_of(vectorizer)
    if (known := job.done.get(space)) is not None:
        n_known = known.n_computed + known.n_reused
        return replace(known, n_computed=0, n_reused=n_known)
    job.done[space] = _anew(vectorizer, job)
    return job.done[space]


def _anew(vectorizer: Vectorizer, job: _Job) -> Vectorized:
    parts = getattr(vectorizer, "parts", None)
    if parts is not None:
        results = [_vectorize(part, job) for part in parts]
        blocks = [result.vectors for result in results]
        return _fused(vectorizer.fuse(blocks), results)  # type: ignore[attr-defined]
    source = getattr(vectorizer, "source", None)
    if source is not None:
        return _mapped(vectorizer, _vectorize(source, job))
    if not getattr(vectorizer, "needs_images", True):
        return _look_up(vectorizer, job)
    return _compute(vectorizer, job)


def _fused(vectors: np.ndarray, results: list[Vectorized]) -> Vectorized:
    """Return the vectors of a fusion; an image that failed in one part has none."""
    failures: dict[int, str] = {}
    for result in results:
        failures = result.failures | failures
    vectors[list(failures)] = 0
    return Vectorized(
        vectors,
        dict(sorted(failures.items())),
        sum(result.n_computed for result in results),
        sum(result.n_reused for result in results),
    )


def _mapped(vectorizer: Vectorizer, result: Vectorized) -> Vectorized:
    """Return what a vectorizer makes of the vectors of the one that it stands on."""
    vectors = np.zeros((len(result.vectors), vectorizer.n_dims), dtype=np.float32)
    good = np.setdiff1d(np.arange(len(vectors)), list(result.failures))
    vectors[good] = vectorizer.map_vectors(result.vectors[good])
    return replace(result, vectors=vectors)


def _look_up(vectorizer: Vectorizer, job: _Job) -> Vectorized:
    if job.ids is None:
        msg = f"{vectorizer.label!r} looks vectors up by id: give ids"
        raise UsageError(msg)
    vectors, found = vectorizer.lookup(job.ids)  # type: ignore[attr-defined]
    failures = {
        index: f"{vectorizer.label} has no vector under the id {job.ids[index]!r}"
        for index in np.flatnonzero(~found).tolist()
    }
    for index in failures:
        if job.strict:
            raise ImageError(job.ids[index], failures[index])
    return Vectorized(vectors, failures, n_reused=int(found.sum()))


def _compute(vectorizer: Vectorizer, job: _Job) -> Vectorized:
    """Vectorize what the store lacks, each content once, and index back."""
    outcomes = _stored(vectorizer, job)
    n_reused = len(outcomes)
    missing = [item for item in job.images.items() if item[0] not in outcomes]
    _tell(vectorizer, job, n_reused)
    if job.store is not None:
        _keep_networks(vectorizer, job.store)
    batches = job.backend.batches(
        vector_batches,
        vectorizer,
        missing,
        batch_size=job.batch_size,
        n_workers=job.n_workers,
    )
    with closing(batches):
        for batch in batches:
            _keep(vectorizer, job, batch)
            job.refuse_failures(batch)
            outcomes |= batch
            _tell(vectorizer, job, len(outcomes))
    result = _index_back(vectorizer, job, outcomes)
    n_good = sum(not isinstance(outcome, str) for outcome in outcomes.values())
    result.n_computed, result.n_reused = n_good - n_reused, n_reused
    return result


def _stored(vectorizer: Vectorizer, job: _Job) -> dict[str, np.ndarray | str]:
    if job.store is None:
        return {}
    keys = list(job.images)
    vectors, found = job.store.get(space_of(vectorizer), keys)
    return {keys[index]: vectors[index] for index in np.flatnonzero(found)}


def _keep(
    vectorizer: Vectorizer, job: _Job, batch: dict[str, np.ndarray | str]
) -> None:
    good = {key: row for key, row in batch.items() if not isinstance(row, str)}
    if good and job.store is not None:
        block = np.stack(list(good.values()))
        job.store.add(space_of(vectorizer), list(good), block)


def _keep_networks(vectorizer: Vectorizer, store: VectorStore) -> None:
    """Let what a network is exported to lie beside the vectors that it makes."""
    keep = getattr(vectorizer, "keep_networks_in", None)
    if keep is not None:
        keep(os.path.join(store.folder, "networks"))


def _index_back(
    vectorizer: Vectorizer, job: _Job, outcomes: dict[str, np.ndarray | str]
) -> Vectorized:
    """Return one row an image from one vector, or reason, a content."""
    widths = (len(row) for row in outcomes.values() if not isinstance(row, str))
    n_dims = next(widths, None) or vectorizer.n_dims
    vectors = np.zeros((len(job.keys), n_dims), dtype=np.float32)
    failures = {}
    for index, key in enumerate(job.keys):
        outcome = key.reason if isinstance(key, ImageError) else outcomes[key]
        if isinstance(outcome, str):
            failures[index] = outcome
        else:
            vectors[index] = outcome
    return Vectorized(vectors, failures)


def _tell(vectorizer: Vectorizer, job: _Job, n_done: int) -> None:
    if job.progress is not None:
        job.progress(n_done, len(job.images), vectorizer.label)


@contextmanager
def _opened(store: VectorStore | Path | None) -> Iterator[VectorStore | None]:
    """Open a store that is not open, for as long as the block lasts."""
    if store is None or (isinstance(store, VectorStore) and store.is_open):
        yield store
        return
    with store if isinstance(store, VectorStore) else VectorStore(store) as opened:
        yield opened


def _n_workers() -> int:
    from tllboost.vectorizers.base import usable_cores

    return min(8, usable_cores())
