"""``pixels``: the image itself, very small; the floor under every other vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from tllboost.vectorizers.base import Vectorizer
from tllboost.vectorizers.preprocess import Preprocessing
from tllboost.vectorizers.spec import Options, positive

__all__ = ["PixelVectorizer"]


@dataclass(kw_only=True, eq=False, repr=False)
class PixelVectorizer(Vectorizer):
    """The whole image squashed to a small square of RGB.

    What a network that is trained from scratch starts from, and by themselves what
    any vector must beat.

    Parameters
    ----------
    size : int, default=32
        Side of the square.

    Examples
    --------
    >>> white = Image.new("RGB", (200, 245), "white")
    >>> PixelVectorizer(size=2).transform([white])
    array([[1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1.]], dtype=float32)
    """

    KIND = "pixels"
    OPTIONS: ClassVar[Options] = {"size": positive}

    size: int = 32

    @property
    def fingerprint(self) -> str:
        """Tell what the vectors depend on."""
        return f"pixels|{self._preprocessing}|float32"

    @property
    def n_dims(self) -> int:
        """Width of a vector: three channels of the square."""
        return 3 * self.size**2

    @property
    def input_size(self) -> int:
        """Short side that decoding may shrink to."""
        return self.size

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return the vector itself: there is no network.

        Parameters
        ----------
        image : PIL.Image.Image
            RGB.

        Returns
        -------
        ndarray of shape (3 * size * size,), float32
            In [0, 1]; all of red row by row, then green, then blue.
        """
        return self._preprocessing(image).ravel()

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Return the vectors that `prepare` made.

        Parameters
        ----------
        batch : ndarray of shape (n_images, n_dims), float32
        """
        return batch

    @property
    def _preprocessing(self) -> Preprocessing:
        return Preprocessing(
            (self.size, self.size), fit="squash", mean=(0, 0, 0), std=(1, 1, 1)
        )
