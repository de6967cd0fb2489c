"""What vectorizers with a network share, whatever library runs it."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from PIL import Image

from tllboost.errors import TllboostError, WeightsError
from tllboost.vectorizers.base import Vectorizer, loaded, unit_rows
from tllboost.vectorizers.fusion import fuse
from tllboost.vectorizers.looks import WHOLE, Looks
from tllboost.vectorizers.maps import unit_blocks
from tllboost.vectorizers.preprocess import Preprocessing
from tllboost.vectorizers.weights import first_line

__all__ = ["NetworkVectorizer"]


class NetworkVectorizer(Vectorizer):
    """Pixels by one `Preprocessing`, vectors by a network, scaled if asked for.

    `Looks` says which pictures stand for one; each goes through the network.
    """

    trim: bool = False
    flip: bool = False
    views: tuple[str, ...] = WHOLE
    cells: int | None = None  # the squares a side of a grid, for local vectors
    normalize: bool = False

    @property
    @abstractmethod
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes the network's input."""

    @abstractmethod
    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return what the network makes of prepared pictures, as it is."""

    @loaded
    def looks(self) -> Looks:
        """Which pictures stand for one picture."""
        return Looks(self.trim, self.flip, tuple(self.views))

    @loaded
    def n_dims(self) -> int:  # type: ignore[override]
        """Width of a vector, from one forward pass of an empty picture."""
        blank = Image.new("RGB", self.preprocessing.size[::-1])
        try:
            return self.forward(self.prepare(blank)[None]).shape[1]
        except TllboostError:
            raise
        except Exception as error:
            msg = f"{self.name}: the network can't be run ({first_line(error)})"
            raise WeightsError(msg) from error

    @property
    def input_size(self) -> int:
        """Short side that decoding may shrink to."""
        return self.looks.shrink_to(self.preprocessing.shrink_to)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return a picture as the network's input.

        Parameters
        ----------
        image : PIL.Image.Image
            RGB.

        Returns
        -------
        ndarray of shape (3, height, width) or (n_views, n_mirrored, 3, height, width)
            float32; the latter with several views or ``flip``.
        """
        looks = self.looks(image)
        if self.looks.is_plain:
            return self.preprocessing(looks[0][0])
        return np.stack([np.stack(list(map(self.preprocessing, v))) for v in looks])

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Return vectors of prepared pictures.

        Parameters
        ----------
        batch : ndarray of shape (n_images, *shape of a prepared picture), float32

        Returns
        -------
        ndarray of shape (n_images, n_dims), float32
            At length 1 if ``normalize``.
        """
        if batch.ndim == 4:
            return self._scaled(self.run(batch))
        views = [self._scaled(self._mean(batch[:, i])) for i in range(batch.shape[1])]
        vectors = fuse(views) if len(views) > 1 else views[0]
        return unit_rows(vectors) if self.normalize else vectors

    def _mean(self, batch: np.ndarray) -> np.ndarray:
        """Return the mean vectors of pictures and their mirror images, if any.

        One run for each, so that a batch takes as much memory as a plain one.
        """
        runs = [
            self.run(np.ascontiguousarray(batch[:, index]))
            for index in range(batch.shape[1])
        ]
        return runs[0] if len(runs) == 1 else (runs[0] + runs[1]) / np.float32(2)

    def _scaled(self, vectors: np.ndarray) -> np.ndarray:
        if self.cells is not None:
            vectors = unit_blocks(vectors, self.cells**2)
        return unit_rows(vectors) if self.normalize else vectors
