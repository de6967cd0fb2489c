"""``classic``: descriptors of shape, colour and texture, without any weights."""

from __future__ import annotations

from typing import Self

import numpy as np
from PIL import Image

from tllboost.vectorizers.base import Vectorizer
from tllboost.vectorizers.spec import Spec

__all__ = ["ClassicVectorizer"]

_SIDE = 128


class ClassicVectorizer(Vectorizer):
    """Histograms of oriented gradients and a small centred thumbnail in CIELAB.

    Examples
    --------
    >>> ClassicVectorizer().transform([Image.new("RGB", (200, 245))]).shape
    (1, 2532)
    """

    @classmethod
    def from_spec(cls, spec: Spec, *, device: str, offline: bool) -> Self:
        """Build one from ``classic``."""
        spec.without_options()
        return cls()

    @property
    def name(self) -> str:
        """The spelling that makes it."""
        return "classic"

    @property
    def fingerprint(self) -> str:
        """Tell what the vectors depend on."""
        return "classic|0|float32"

    @property
    def n_dims(self) -> int:
        """Width of a vector."""
        return 2532

    @property
    def input_size(self) -> int:
        """Short side that decoding may shrink to."""
        return _SIDE

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return the vector itself: there is no network to wait for."""
        from skimage.color import rgb2lab
        from skimage.feature import hog

        pixels = image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, reducing_gap=3)
        shape = hog(np.asarray(pixels.convert("L")), 9, (16, 16), (2, 2))
        small = rgb2lab(np.asarray(pixels.resize((16, 16), Image.Resampling.BOX)))
        colour = (small - small.mean((0, 1))) / (small.std((0, 1)) + 2)
        blocks = (shape, colour.ravel())
        return np.concatenate(
            [block / (np.linalg.norm(block) or 1) for block in blocks]
        ).astype(np.float32)

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Return the vectors that `prepare` made."""
        return batch
