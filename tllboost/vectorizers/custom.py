"""``package.module:Class``, or an object: a vectorizer of the user's own."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tllboost.errors import DataError, UsageError
from tllboost.registry import import_path
from tllboost.vectorizers.base import Vectorizer, loaded

__all__ = ["CustomVectorizer"]


@dataclass(eq=False, repr=False)
class CustomVectorizer(Vectorizer):
    """Wrap any object with ``transform(images) -> (n_images, n_dims)``.

    Parameters
    ----------
    target : str or object
        ``"package.module:Class"``, made with no arguments, or the object itself.
        ``transform`` is given a list of RGB ``PIL.Image.Image``. A ``fingerprint``
        attribute says when its vectors change; without one, the source of its class
        and its parameters stand in, which does not notice changed weights.

    Examples
    --------
    >>> class Mean:
    ...     fingerprint = "mean colour 1"
    ...     def transform(self, images):
    ...         return [np.asarray(image).mean(axis=(0, 1)) for image in images]
    >>> CustomVectorizer(Mean()).transform([Image.new("RGB", (9, 9), "white")])
    array([[255., 255., 255.]], dtype=float32)
    """

    target: Any

    @property
    def name(self) -> str:
        """The import path."""
        if isinstance(self.target, str):
            return self.target
        kind = type(self.target)
        return f"{kind.__module__}:{kind.__qualname__}"

    @property
    def short_name(self) -> str:
        """The name for tables: the class."""
        return self.name.rpartition(":")[2]

    @loaded
    def fingerprint(self) -> str:
        """Tell what the vectors depend on, as far as the object says."""
        made = self._object
        own = getattr(made, "fingerprint", None)
        if own is not None:
            return f"custom|{self.name}|{own() if callable(own) else own}"
        try:
            source = inspect.getsource(inspect.getmodule(type(made)) or type(made))
        except (OSError, TypeError) as error:
            msg = (
                f"vectorizer {self.name!r} has no source file to tell its versions "
                "apart: give its class a fingerprint attribute"
            )
            raise UsageError(msg) from error
        get_params = getattr(made, "get_params", None)
        params = get_params() if callable(get_params) else vars(made)
        sha256 = hashlib.sha256(source.encode()).hexdigest()
        return f"custom|{self.name}|source:{sha256}|{sorted(params.items())!r}"

    @loaded
    def n_dims(self) -> int:  # type: ignore[override]
        """Width of a vector: what the object says, else from a blank image."""
        own = getattr(self._object, "n_dims", None)
        if isinstance(own, int):
            return own
        return self.transform([Image.new("RGB", (64, 64))]).shape[1]

    @property
    def input_size(self) -> int | None:
        """Short side that decoding may shrink to, if the object says so."""
        return getattr(self._object, "input_size", None)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return the image in a box: only the object knows what to do with it."""
        box = np.empty((), dtype=object)
        box[()] = image
        return box

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Return what the object makes of the images, checked.

        Parameters
        ----------
        batch : ndarray of shape (n_images,), of PIL.Image.Image
        """
        vectors = np.asarray(self._object.transform(list(batch)), dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(batch):
            msg = (
                f"{self.name}.transform returned shape {vectors.shape} for "
                f"{len(batch)} images; it must be (n_images, n_dims)"
            )
            raise DataError(msg)
        return vectors

    @loaded
    def _object(self) -> Any:
        made = self.target
        if isinstance(made, str):
            made = import_path(made, kind="vectorizer")
        if isinstance(made, type):
            try:
                made = made()
            except TypeError as error:
                msg = (
                    f"vectorizer {self.name!r} can't be made without arguments: {error}"
                )
                raise UsageError(msg) from error
        if not callable(getattr(made, "transform", None)):
            msg = f"vectorizer {self.name!r} has no transform(images) method"
            raise UsageError(msg)
        return made
