"""Images through a vectorizer: decoding on all cores beside the network.

The cores decode and prepare the next batch while the network works on this one, a
bounded number of images ahead. An image that fails takes no other with it.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from tllboost.errors import ImageError, TllboostError, UsageError
from tllboost.images import decode_image, read_image_bytes
from tllboost.vectorizers.base import one_blas_thread

if TYPE_CHECKING:
    from tllboost.vectorizers.base import Vectorizer

__all__ = ["vector_batches"]

Path = str | os.PathLike[str]


def vector_batches(
    vectorizer: Vectorizer,
    images: Sequence[tuple[str, Path]],
    *,
    batch_size: int,
    n_workers: int,
) -> Generator[dict[str, np.ndarray | str], None, None]:
    """Yield the vector of each image, or why it has none, a batch at a time.

    Parameters
    ----------
    vectorizer : Vectorizer
        Its ``prepare`` is called on other threads, its ``forward`` on this one.
    images : sequence of (str, path-like), length n_images
        Content hash of each image, all different, and its file.
    batch_size : int
        Images a forward pass.
    n_workers : int
        Threads that decode and prepare.

    Yields
    ------
    dict of str to (ndarray of shape (n_dims,), float32, or str)
        Vector or reason of at most ``2 * batch_size`` images, by content hash.
    """
    prepared: dict[str, np.ndarray] = {}
    done: dict[str, np.ndarray | str] = {}
    for key, image in _prepare_all(vectorizer, images, batch_size, n_workers):
        if isinstance(image, ImageError):
            done[key] = image.reason
        else:
            prepared[key] = image
        if len(prepared) == batch_size:
            done |= _forward(vectorizer, prepared)
            prepared = {}
        if len(done) >= batch_size:
            yield done
            done = {}
    if prepared:
        done |= _forward(vectorizer, prepared)
    if done:
        yield done


def _prepare_all(
    vectorizer: Vectorizer,
    images: Sequence[tuple[str, Path]],
    n_ahead: int,
    n_workers: int,
) -> Iterator[tuple[str, np.ndarray | ImageError]]:
    pending: deque[tuple[str, Future[np.ndarray | ImageError]]] = deque()
    executor: Executor = ThreadPoolExecutor(n_workers)
    try:
        with one_blas_thread():
            for key, path in images:
                pending.append((key, executor.submit(_prepare, vectorizer, path, key)))
                if len(pending) > n_ahead:
                    first, future = pending.popleft()
                    yield first, future.result()
            while pending:
                first, future = pending.popleft()
                yield first, future.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _prepare(vectorizer: Vectorizer, path: Path, key: str) -> np.ndarray | ImageError:
    try:
        data = read_image_bytes(path)
        if hashlib.sha256(data).hexdigest() != key:
            return ImageError(path, "changed while it was read: run again")
        image = decode_image(data, path=path, shrink_to=vectorizer.input_size)
        return vectorizer.prepare(image)
    except ImageError as error:
        return error
    except TllboostError:  # weights or options, not this image
        raise
    except Exception as error:
        return ImageError(path, f"can't be prepared ({type(error).__name__}: {error})")


def _forward(
    vectorizer: Vectorizer, prepared: dict[str, np.ndarray]
) -> dict[str, np.ndarray | str]:
    """Run the network; where a batch fails, halve it until the culprit is alone."""
    try:
        batch = np.stack(list(prepared.values()))
        vectors = np.asarray(vectorizer.forward(batch), dtype=np.float32)
    except TllboostError:
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
