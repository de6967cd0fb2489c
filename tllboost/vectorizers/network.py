"""What vectorizers with a network share, whatever library runs it."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from PIL import Image

from tllboost.vectorizers.base import Vectorizer, loaded, unit_rows
from tllboost.vectorizers.preprocess import Preprocessing

__all__ = ["NetworkVectorizer"]


class NetworkVectorizer(Vectorizer):
    """Pixels by one `Preprocessing`, vectors by a network, scaled if asked for."""

    normalize: bool

    @property
    @abstractmethod
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes the network's input."""

    @abstractmethod
    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return what the network makes of prepared pictures, as it is."""

    @loaded
    def n_dims(self) -> int:  # type: ignore[override]
        """Width of a vector, from one forward pass of an empty picture."""
        blank = Image.new("RGB", self.preprocessing.size[::-1])
        return self.forward(self.prepare(blank)[None]).shape[1]

    @property
    def input_size(self) -> int:
        """Short side that decoding may shrink to."""
        return self.preprocessing.shrink_to

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return `image` (RGB) as float32 of shape (3, height, width)."""
        return self.preprocessing(image)

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Return vectors of prepared pictures.

        Parameters
        ----------
        batch : ndarray of shape (n_images, 3, height, width), float32

        Returns
        -------
        ndarray of shape (n_images, n_dims), float32
            At length 1 if ``normalize``.
        """
        vectors = self.run(batch)
        return unit_rows(vectors) if self.normalize else vectors
