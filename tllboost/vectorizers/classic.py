"""``classic``: descriptors of shape, colour and texture, without any weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from tllboost.vectorizers.base import Vectorizer, loaded
from tllboost.vectorizers.descriptors import (
    colour_histogram,
    colour_layout,
    gradient_histograms,
    local_patterns,
)
from tllboost.vectorizers.fusion import fuse
from tllboost.vectorizers.looks import LOOK_OPTIONS, WHOLE, Looks

__all__ = ["ClassicVectorizer"]

_VERSION = 1  # raise it when a change here or in the descriptors could change a vector
_SIDE = 128
_N_DIMS = 2068
_COLOUR_SIDE = 32
# Chosen on Totally-Looks-Like and DVD covers together: shape alone is best on the
# former, and each of the others adds to the latter without taking from the former.
_SHAPE_WEIGHT, _OTHER_WEIGHT = 1.0, 0.5


class ClassicVectorizer(Vectorizer):
    """Gradient histograms, colour layout, colour histogram, local binary patterns.

    The whole picture is scaled to a square, whatever its proportions. Each block is
    brought to length 1 and weighted, then all are concatenated: 768 numbers of shape,
    648 of colour edges, 192 of colour layout, 300 of colours, 160 of texture.

    Parameters
    ----------
    trim, flip, views : bool, bool, sequence of str
        See `Looks`; by default the picture as it is.

    Examples
    --------
    >>> ClassicVectorizer().transform([Image.new("RGB", (200, 245))]).shape
    (1, 2068)
    """

    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = LOOK_OPTIONS

    def __init__(
        self, *, trim: bool = False, flip: bool = False, views: tuple[str, ...] = WHOLE
    ) -> None:
        self.trim = trim
        self.flip = flip
        self.views = views

    @property
    def name(self) -> str:
        """The spelling without options."""
        return "classic"

    @property
    def fingerprint(self) -> str:
        """Tell what the vectors depend on."""
        from importlib.metadata import version

        skimage = version("scikit-image").split(".")[0]
        return (
            f"classic|descriptors {_VERSION}|float32|scikit-image {skimage}{self.looks}"
        )

    @loaded
    def looks(self) -> Looks:
        """Which pictures stand for one picture."""
        return Looks(self.trim, self.flip, tuple(self.views))

    @property
    def n_dims(self) -> int:
        """Width of a vector."""
        return _N_DIMS * len(self.looks.views)

    @property
    def input_size(self) -> int:
        """Short side that decoding may shrink to."""
        return self.looks.shrink_to(_SIDE)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return the vector itself: there is no network to wait for.

        Parameters
        ----------
        image : PIL.Image.Image
            RGB.

        Returns
        -------
        ndarray of shape (n_dims,), float32
        """
        views = [
            np.mean([_describe(one) for one in mirrored], axis=0, keepdims=True)
            for mirrored in self.looks(image)
        ]
        return fuse(views)[0] if len(views) > 1 else views[0][0]

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Return the vectors that `prepare` made.

        Parameters
        ----------
        batch : ndarray of shape (n_images, n_dims), float32
        """
        return batch


def _describe(image: Image.Image) -> np.ndarray:
    """Return the weighted descriptors of one picture, side by side."""
    from skimage.color import rgb2lab

    picture = image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, reducing_gap=3)
    grey = np.asarray(picture.convert("L"))
    small = picture.resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX)
    lab = rgb2lab(np.asarray(small)).astype(np.float32)
    shape = gradient_histograms(
        grey.astype(np.float32),
        n_cells=8,
        n_orientations=12,
        signed=True,
        floor=5.0,
    )
    colour_edges = [
        gradient_histograms(
            lab[..., channel], n_cells=6, n_orientations=9, signed=False, floor=1.0
        )
        for channel in (1, 2)
    ]
    others = [
        *colour_edges,
        colour_layout(lab, n_cells=8),
        colour_histogram(lab, n_light=3, n_hue=10),
        local_patterns(grey, n_cells=4),
    ]
    weighted = [_SHAPE_WEIGHT * _unit(shape)]
    weighted += [_OTHER_WEIGHT * _unit(block) for block in others]
    return np.concatenate(weighted).astype(np.float32)


def _unit(block: np.ndarray) -> np.ndarray:
    """Return a block at length 1; one of a picture of a single colour stays zero."""
    length = np.linalg.norm(block)
    return block / length if length > 1e-6 else np.zeros_like(block)
