"""What every vectorizer can do: a name with options, lazy loading, images to vectors.

Around the class stand the helpers that all of them need: properties that are loaded
once, the cores that may be used, rows of length 1, switches of the environment.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from PIL import Image

from tllboost.errors import ImageError, UsageError
from tllboost.files import large_zeros
from tllboost.merges import Width, row_blocks, unit_rows
from tllboost.registry import Configured, Spec, parameters_of

__all__ = ["Vectorizer", "fuse", "is_on", "loaded", "one_blas_thread"]


def one_blas_thread() -> Any:
    """Keep numpy's matrix products to the thread that asks for them.

    For many small ones, of images that are prepared on all cores: products that share
    out their rows as well would wait for each other, and their sums, in another order,
    make a vector depend on the number of cores. Networks keep their threads. While
    another thread holds a limit, threadpoolctl leaves this one without effect.

    Examples
    --------
    >>> import numpy as np
    >>> with one_blas_thread():
    ...     np.ones((2, 3)) @ np.ones(3)
    array([3., 3.])
    """
    from threadpoolctl import threadpool_limits

    # Whatever numpy was built with: OpenBLAS by any name, MKL, BLIS. The networks'
    # own threads are OpenMP's or ONNX Runtime's.
    return threadpool_limits(1, user_api="blas")


def library(name: str, *, package: str | None = None) -> str:
    """Return a library and its major version, as fingerprints have them.

    Examples
    --------
    >>> library("numpy").split()[0]
    'numpy'
    """
    from importlib.metadata import version

    return f"{name} {version(package or name).split('.')[0]}"


def fuse(
    blocks: Sequence[np.ndarray], weights: Sequence[float] | None = None
) -> np.ndarray:
    """Return blocks of vectors side by side, each row of each block at length 1.

    Parameters
    ----------
    blocks : sequence of ndarray of shape (n_images, n_dims of the part)
    weights : sequence of float, length n_blocks, optional
        Of the blocks in a dot product of two rows: lengths are their roots.

    Returns
    -------
    ndarray of shape (n_images, sum of n_dims), float32

    Examples
    --------
    >>> fuse([np.array([[3.0, 4.0]]), np.array([[2.0]])])
    array([[0.6, 0.8, 1. ]], dtype=float32)
    """
    widths = [block.shape[1] for block in blocks]
    fused = large_zeros((len(blocks[0]), sum(widths)))
    weights = [1] * len(blocks) if weights is None else weights
    lengths = np.sqrt(np.asarray(weights, dtype=np.float32))
    parts = np.split(fused, np.cumsum(widths)[:-1], axis=1)
    for part, block, length in zip(parts, blocks, lengths, strict=True):
        for rows in row_blocks(*block.shape):
            part[rows] = unit_rows(block[rows]) * length
    return fused


_LOADING = threading.RLock()

if TYPE_CHECKING:
    loaded = cached_property
else:

    class loaded(cached_property):  # noqa: N801, RUF100 - reads as a decorator
        """A property that is computed once, by one thread.

        Decoding threads ask for the preprocessing while the network's thread asks for
        the network: without the lock a big file could be loaded twice.
        """

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            with _LOADING:
                return super().__get__(instance, owner)


class Vectorizer(Configured):
    """Turn images into vectors; base of every kind.

    A subclass stores its arguments in ``__init__`` and nothing else, offers
    ``fingerprint``, ``n_dims`` and ``name``, and implements `prepare` (one image,
    on any thread, no network) and `forward` (a batch, the network). What is loaded
    later stays out of pickles, copies and clones. ``sklearn.base.clone`` accepts it
    although it does not inherit from scikit-learn, which takes a second to import.

    Attributes
    ----------
    KIND : str
        The beginning of its names.
    OPTIONS : mapping of str to callable
        Its options, in the order of names, and the functions that read their text.
    fingerprint : str
        Changes whenever a vector could: library, architecture, sha256 of the weights,
        preprocessing, layer, precision. Never a path.
    HOLDS_LOCK : bool
        Whether `prepare` keeps other threads waiting, as many short calls of numpy do:
        that of many images is then called in processes. It is not inherited.
    n_dims : int
        Width of a vector.
    label : str
        Short name for tables.
    input_size : int or None
        Short side that decoding may shrink an image to without loss for `prepare`.
    needs_images : bool
        False when vectors are looked up by id instead.
    source : Vectorizer or None
        The vectorizer whose vectors this one maps, by a method `map_vectors`.
    """

    KIND: ClassVar[str] = ""
    BLOCKS: ClassVar[Mapping[str, int]] = {"": 1}  # names and widths, of one view
    needs_images: bool = True
    source: Vectorizer | None = None

    @classmethod
    def from_spec(cls, spec: Spec, *, device: str, offline: bool) -> Self:
        """Build one from its parsed name."""
        operands, options = cls._operands(spec), spec.typed_options(cls.OPTIONS)
        where = {"device": device, "offline": offline}
        for name in where.keys() & parameters_of(cls).keys():
            options[name] = where[name]
        return cls(*operands, **options)

    @classmethod
    def _operands(cls, spec: Spec) -> Sequence[str | None]:
        """Return the arguments that stand before the options; mostly none do."""
        spec.refuse_rest()
        return ()

    @property
    def fingerprint(self) -> str:
        """Tell what the vectors depend on, as one line of text."""
        raise NotImplementedError

    @property
    def n_dims(self) -> int:
        """Width of a vector."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The spelling without options, for example ``"onnx:net.onnx"``."""
        return self.KIND

    @property
    def short_name(self) -> str:
        """The name for tables, without options."""
        return self.name

    @property
    def label(self) -> str:
        """Short name for tables, with every option that differs from its default."""
        return self.short_name + self.spec.removeprefix(self.name)

    @property
    def blocks(self) -> dict[str, Width]:
        """What lies side by side in a vector, each scaled alone: names and shares."""
        side = getattr(self, "cells", None) or 1
        views = getattr(getattr(self, "looks", None), "views", ())
        of = [f"{v} of {self.label}" for v in views] if views[1:] else [self.label]
        each = self.BLOCKS.items()
        return {n + view: Width(width, side) for view in of for n, width in each}

    @property
    def input_size(self) -> int | None:
        """Short side that decoding may shrink to; None leaves images whole."""
        return None

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return one RGB image as the array that `forward` batches."""
        raise NotImplementedError

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Return vectors (n_images, n_dims), float32, of prepared images."""
        raise NotImplementedError

    def transform(
        self, images: Iterable[str | Path | Image.Image], *, batch_size: int = 32
    ) -> np.ndarray:
        """Return the vectors of images.

        Parameters
        ----------
        images : iterable of path or PIL.Image.Image
            The images; files are decoded safely.
        batch_size : int, default=32
            Images per forward pass.

        Returns
        -------
        ndarray of shape (n_images, n_dims), float32

        Raises
        ------
        ImageError
            If a file can't be read as an image, or its vector is not finite.
        UsageError
            If `images` is one path instead of a list.
        """
        if isinstance(images, str | Path | Image.Image):
            msg = f"transform takes a list of images, got one: {images!r}; use [it]"
            raise UsageError(msg)
        return self._transform(iter(images), batch_size)

    def _transform(
        self, images: Iterator[str | Path | Image.Image], batch_size: int
    ) -> np.ndarray:
        blocks = []
        while batch := list(islice(images, batch_size)):
            with one_blas_thread():
                prepared = [self.prepare(self._open(one)) for one in batch]
            vectors = self.forward(np.stack(prepared))
            good = np.isfinite(vectors).reshape(len(batch), -1).all(axis=1)
            if not good.all():
                first = batch[bad := int(good.argmin())]
                name = str(first) if isinstance(first, str | Path) else f"image {bad}"
                raise ImageError(name, "its vector holds NaN or infinity")
            blocks.append(vectors)
        return np.concatenate(blocks or [np.empty((0, self.n_dims), dtype=np.float32)])

    def _open(self, image: str | Path | Image.Image) -> Image.Image:
        if isinstance(image, Image.Image):
            return image if image.mode == "RGB" else image.convert("RGB")
        from tllboost.images import open_image

        return open_image(image, shrink_to=self.input_size)

    __getstate__: ClassVar[Any] = Configured.get_params  # a copy loads its own

    def __repr__(self) -> str:
        given = ", ".join(f"{key}={value!r}" for key, value in self.changed().items())
        return f"{type(self).__name__}({given})"


@dataclass(eq=False, repr=False)
class FileVectorizer(Vectorizer):
    """Base of vectorizers that are named by their kind and one file."""

    FORM: ClassVar[str] = "FILE"

    file: str | Path

    @classmethod
    def _operands(cls, spec: Spec) -> Sequence[str | None]:
        if not spec.rest:
            msg = f"{spec.text!r} names no file: write {cls.KIND}:{cls.FORM}"
            raise UsageError(msg)
        return (spec.rest,)

    @property
    def name(self) -> str:
        """The spelling without options."""
        return f"{self.KIND}:{self.file}"

    @property
    def short_name(self) -> str:
        """The name for tables: the file's stem."""
        return f"{self.KIND}:{Path(self.file).stem}"


def is_on(variable: str) -> bool:
    """Tell whether a variable of the environment says yes.

    Examples
    --------
    >>> is_on("TLLBOOST_NO_SUCH_SWITCH")
    False
    """
    spelled = os.environ.get(variable, "").strip().lower()
    return spelled not in {"", "0", "false", "no"}
