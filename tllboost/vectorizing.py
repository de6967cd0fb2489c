"""Images to vectors: each content once, and through a store never again.

The cores decode and prepare the next batch while the network works on this one, a
bounded number of images ahead. Every finished batch goes to the store at once, so that
a kill loses at most one. An image that fails takes no other with it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import ChainMap, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tllboost.conventions import usable_cores
from tllboost.errors import ImageError, TllboostError, UsageError, check_range
from tllboost.files import large_zeros
from tllboost.images import DECODING, read_image_bytes
from tllboost.images.decoders import DECODERS
from tllboost.merges import Width
from tllboost.processes import Backend, Processes, Progress, beyond_memory
from tllboost.store import VectorStore, hash_files
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizers.base import one_blas_thread

if TYPE_CHECKING:
    from tllboost.vectorizers.base import Vectorizer

__all__ = [
    *("Progress", "Vectorized", "in_order", "space_of", "vectorize", "vectorize_many"),
]

Path = str | os.PathLike[str]
MANY = 100
"""Images from which on the processes that decode are told to prepare them as well."""
Batch = dict[str, np.ndarray | str]
"""The vector of each image, or why it has none, by content hash."""


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
    widths : tuple of tuple of Width
        Of the blocks that a vector consists of; a tuple for each part of a fusion.
    """

    vectors: np.ndarray
    failures: dict[int, str] = field(default_factory=dict)
    n_computed: int = 0
    n_reused: int = 0
    seconds: float = 0.0
    widths: tuple[tuple[Width, ...], ...] = ()


def vectorize(
    vectorizer: Vectorizer | str,
    paths: Sequence[Path | None],
    *,
    ids: Sequence[str] | None = None,
    store: VectorStore | Path | None = None,
    batch_size: int = 32,
    backend: Backend | None = None,
    progress: Progress | None = None,
    strict: bool = False,
) -> Vectorized:
    """Return the vectors of images, computing only what the store lacks.

    Parameters
    ----------
    vectorizer : Vectorizer or str
        What turns an image into a vector, or its name as on the command line. The parts
        of a fusion are vectorized and stored separately. For a learned map, the vectors
        before the map are stored. ``vectors:`` looks up `ids` and needs no images.
    paths : sequence of path-like, length n_images
        The images; entries may be None if the vectorizer needs no images.
    ids : sequence of str, length n_images, optional
        Their names, for ``vectors:``.
    store : VectorStore or path-like, optional
        Where vectors are kept; by default nowhere.
    batch_size : int, default=32
        Images per forward pass, and the most that are lost if the process is killed.
    backend : Processes or Cluster, optional
        What runs the work; by default this process.
    progress : callable, optional
        Called with the number of images done, the number of all images, and the
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
        If the store is damaged, or is not a store.

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
    if isinstance(vectorizer, str):
        vectorizer = make_vectorizer(vectorizer)
    how = (ids, store, batch_size, backend, progress, strict)
    return _Request(paths, *how).vectorize_all([vectorizer])[0]


def vectorize_many(
    vectorizers: Sequence[Vectorizer], paths: Sequence[Path | None], **options: Any
) -> list[Vectorized]:
    """Return the vectors of the same images by several vectorizers.

    What two of them share, the whole or a part of a fusion, is computed once, by the
    first that needs it: a network that several members of an ensemble look through is
    opened once.

    Parameters
    ----------
    vectorizers : sequence of Vectorizer, length n_vectorizers
    paths, **options
        As in :func:`vectorize`, which says what is raised too.

    Returns
    -------
    list of Vectorized, length n_vectorizers
        What is shared counts as computed in the first and as reused in the others;
        ``seconds`` is the time since the one before.
    """
    return _Request(paths, **options).vectorize_all(vectorizers)


def space_of(vectorizer: Vectorizer) -> str:
    """Return what the vectors of a vectorizer are stored under.

    Its fingerprint, and how the images that it gets are decoded.
    """
    decoded = f"{vectorizer.fingerprint}|{DECODING}"  # first: it may need no library
    size = vectorizer.input_size
    return f"{decoded} at {size}" if size else f"{decoded} whole"


@dataclass
class _Request:
    """What one call was asked, and what it has so far that others may share."""

    paths: Sequence[Path | None]
    ids: Sequence[str] | None = None
    store: VectorStore | Path | None = None
    batch_size: int = 32
    backend: Backend | None = None
    progress: Progress | None = None
    strict: bool = False
    done: dict[str, Vectorized] | None = None

    def vectorize_all(self, vectorizers: Sequence[Any]) -> list[Vectorized]:
        """Return the vectors of several vectorizers, the store open meanwhile."""
        check_range("batch_size", self.batch_size, 1)
        if self.store is not None and not isinstance(self.store, VectorStore):
            self.store = VectorStore(self.store)
        # One vectorizer shares with none, and need not tell what it is.
        self.done = {} if len(vectorizers) > 1 else None
        results = []
        with self.store or nullcontext():
            for vectorizer in vectorizers:
                started = time.perf_counter()
                results.append(self.vectorize(vectorizer))
                results[-1].seconds = time.perf_counter() - started
        return results

    @cached_property
    def images(self) -> tuple[list[str | ImageError], dict[str, Path]]:
        """The content hash of each image, or why it has none, and a file of each."""
        paths = [path for path in self.paths if path is not None]
        if len(paths) < len(self.paths):
            msg = (
                "this vectorizer looks at images and the table has only ids: give "
                "the folder of the images, by --images, or by --left and --right"
            )
            raise UsageError(msg)
        store = self.store
        hashes_of = store.hashes_of if isinstance(store, VectorStore) else hash_files
        keys = hashes_of(paths)
        files: dict[str, Path] = {}
        for key, path in zip(keys, paths, strict=True):
            if isinstance(key, str):
                files.setdefault(key, path)
            elif self.strict:
                raise key
        return keys, files

    def vectorize(self, vectorizer: Any) -> Vectorized:
        """Return the vectors of a vectorizer: shared, of its parts, or its own."""
        store: Any = self.store
        for one in getattr(vectorizer, "parts", None) or [vectorizer]:
            if hasattr(one, "keep_networks_in") and store and not store.is_lost:
                # What a network is exported to lies beside the vectors that it makes.
                one.keep_networks_in(os.path.join(str(store.folder), "networks"))
        if self.done is not None:
            space = space_of(vectorizer)
            if (known := self.done.get(space)) is not None:
                n_known = known.n_computed + known.n_reused
                return replace(known, n_computed=0, n_reused=n_known)
        if getattr(vectorizer, "parts", None) is not None:
            results = [self.vectorize(part) for part in vectorizer.parts]
            failures = ChainMap(*(one.failures for one in results))
            vectors = vectorizer.fuse([one.vectors for one in results])
            vectors[list(failures)] = 0
            result = Vectorized(
                vectors,
                dict(sorted(failures.items())),
                sum(one.n_computed for one in results),
                sum(one.n_reused for one in results),
                widths=sum((one.widths for one in results), ()),
            )
        elif getattr(vectorizer, "source", None) is not None:
            result = self.vectorize(vectorizer.source)
            shape = (len(result.vectors), vectorizer.n_dims)
            vectors = np.zeros(shape, dtype=np.float32)
            good = np.setdiff1d(np.arange(len(vectors)), list(result.failures))
            vectors[good] = vectorizer.map_vectors(result.vectors[good])
            widths = ((Width(vectors.shape[1]),),)
            result = replace(result, vectors=vectors, widths=widths)
        else:
            needs_images = getattr(vectorizer, "needs_images", True)
            result = (self.compute if needs_images else self.look_up)(vectorizer)
            shares = [*getattr(vectorizer, "blocks", {"": Width(1)}).values()]
            unit = result.vectors.shape[1] // sum(x.width for x in shares)
            result.widths = (tuple(Width(unit * x.width, x.side) for x in shares),)
        if self.done is not None:
            self.done[space] = result
        return result

    def look_up(self, vectorizer: Any) -> Vectorized:
        """Return the vectors that stand under the ids."""
        if self.ids is None:
            msg = f"{vectorizer.label!r} looks vectors up by id: give ids"
            raise UsageError(msg)
        vectors, found = vectorizer.lookup(self.ids)
        failures = {
            index: f"{vectorizer.label} has no vector under the id {self.ids[index]!r}"
            for index in np.flatnonzero(~found).tolist()
        }
        for index, reason in failures.items():
            if self.strict:
                raise ImageError(self.ids[index], reason)
        return Vectorized(vectors, failures, n_reused=int(found.sum()))

    def compute(self, vectorizer: Any) -> Vectorized:
        """Vectorize what the store lacks, each content once, and index back."""
        keys, files = self.images
        store = self.store
        # A row for each content. The first batch tells how wide, if the store can't.
        place = {key: row for row, key in enumerate(files)}
        vectors = np.zeros((len(files), 0), dtype=np.float32)
        found = np.zeros(len(files), dtype=bool)
        tell = self.progress or (lambda *_: None)
        if isinstance(store, VectorStore):
            vectors, found = store.get(space_of(vectorizer), [*files])
        missing = [file for file, n in zip(files.items(), found, strict=True) if not n]
        n_done = n_reused = len(files) - len(missing)
        reasons: dict[Any, str] = {}
        tell(n_done, len(files), vectorizer.label)
        batches = (self.backend or Processes()).batches(
            vector_batches, vectorizer, missing, batch_size=self.batch_size
        )
        with closing(batches):
            for batch in batches:
                bad = {k: why for k, why in batch.items() if isinstance(why, str)}
                good = {k: row for k, row in batch.items() if not isinstance(row, str)}
                if good:
                    block = np.stack(list(good.values()))
                    if block.nbytes > 2**24 and n_done == n_reused:  # wide, the first
                        n_bytes = block[0].nbytes * (len(keys) + len(missing))
                        if told := beyond_memory(n_bytes):
                            msg = f"the vectors of {vectorizer.label} take {told}"
                            raise UsageError(msg)
                    if not vectors.shape[1]:
                        vectors = large_zeros((len(files), block.shape[1]))
                    if isinstance(store, VectorStore):
                        store.add(space_of(vectorizer), list(good), block)
                    vectors[[place[key] for key in good]] = block
                for key, why in bad.items() if self.strict else ():
                    raise ImageError(files[key], why)
                reasons |= bad
                n_done += len(batch)
                tell(n_done, len(files), vectorizer.label)
        if not vectors.shape[1]:
            vectors = large_zeros((len(files), vectorizer.n_dims))
        result = Vectorized(vectors, {}, len(missing) - len(reasons), n_reused)
        if len(files) < len(keys):  # some are the same, or can't be read
            result.vectors = large_zeros((len(keys), vectors.shape[1]))
        for index, one in enumerate(keys):
            if reason := getattr(one, "reason", "") or reasons.get(one):
                result.failures[index] = reason
            if result.vectors is not vectors and one in place:
                result.vectors[index] = vectors[place[one]]
        return result


def vector_batches(
    vectorizer: Vectorizer,
    images: Sequence[tuple[str, Path]],
    *,
    batch_size: int,
) -> Generator[Batch, None, None]:
    """Yield the vector of each image, or why it has none, a batch at a time.

    Parameters
    ----------
    vectorizer : Vectorizer
        Its ``prepare`` is called on other threads, one a core and at most eight, or,
        if it ``HOLDS_LOCK``, where images are decoded; its ``forward`` on this one.
    images : sequence of (str, path-like), length n_images
        Content hash of each image, all different, and its file.
    batch_size : int
        Images a forward pass.

    Yields
    ------
    dict of str to (ndarray of shape (n_dims,), float32, or str)
        Vector or reason of at most `batch_size` images, by content hash.
    """
    # The C library keeps pieces as large as one that was freed for those to come. Else
    # each array would be given back to the system, which clears it for the next one.
    np.empty(2**25 - 2**13, dtype=np.uint8)  # just below its largest
    n_workers = min(8, usable_cores())
    # Of its own class alone: what a subclass prepares may not be known elsewhere.
    there = vars(type(vectorizer)).get("HOLDS_LOCK") and n_workers > 1
    there = there and len(images) >= MANY
    work = partial(_prepare, vectorizer, vectorizer.spec if there else "")
    found = in_order(work, images, batch_size, n_workers)
    with closing(found), one_blas_thread():
        for start in range(0, len(images), batch_size):
            keys = [key for key, _ in images[start : start + batch_size]]
            done: Batch = dict(zip(keys, found, strict=False))
            prepared = {k: one for k, one in done.items() if not isinstance(one, str)}
            if prepared:
                done |= _forward(vectorizer, prepared)
                prepared.clear()  # their memory
            yield done


def in_order(
    work: Callable[[Any], Any], items: Iterable[Any], n_ahead: int, n_workers: int
) -> Generator[Any, None, None]:
    """Yield what threads make of items, in their order and so many of them ahead."""
    pending: deque[Future[Any]] = deque()
    executor = ThreadPoolExecutor(n_workers)
    try:
        for item in items:
            pending.append(executor.submit(work, item))
            if len(pending) > n_ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def _prepare(vectorizer: Vectorizer, elsewhere: str, file: tuple[str, Path]) -> Any:
    key, path = file
    try:
        data = read_image_bytes(path)
        if hashlib.sha256(data).hexdigest() != key:
            return "changed while it was read: run again"
        how: Any = {"path": path, "shrink_to": vectorizer.input_size}
        image = DECODERS.decode(data, **how, vectorizer=elsewhere)
        return image if elsewhere else vectorizer.prepare(image)
    except ImageError as error:
        return error.reason
    except (TllboostError, ModuleNotFoundError):  # weights, options: not this image
        raise
    except Exception as error:
        return f"can't be prepared ({type(error).__name__}: {error})"


def _forward(vectorizer: Vectorizer, prepared: dict[str, np.ndarray]) -> Batch:
    """Run the network; where a batch fails, halve it until the culprit is alone."""
    try:
        batch = np.stack(list(prepared.values()))
        vectors = np.asarray(vectorizer.forward(batch), dtype=np.float32)
    except (TllboostError, ModuleNotFoundError):
        raise
    except Exception as error:
        if len(prepared) == 1:
            reason = f"can't be vectorized ({type(error).__name__}: {error})"
            return dict.fromkeys(prepared, reason)
        items = list(prepared.items())
        middle = len(items) // 2
        left, right = dict(items[:middle]), dict(items[middle:])
        return _forward(vectorizer, left) | _forward(vectorizer, right)
    if vectors.ndim != 2 or len(vectors) != len(prepared):
        msg = (
            f"vectorizer {vectorizer.label!r} gave vectors of shape {vectors.shape} "
            f"for {len(prepared)} images: forward must return (n_images, n_dims)"
        )
        raise UsageError(msg)
    bad = set(np.argwhere(~np.isfinite(vectors))[:, 0].tolist())
    return {
        key: "its vector holds NaN or infinity" if row in bad else vectors[row]
        for row, key in enumerate(prepared)
    }
