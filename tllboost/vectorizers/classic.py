"""``classic``: descriptors of shape, patches and colour, without any weights."""

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
)
from tllboost.vectorizers.fusion import fuse
from tllboost.vectorizers.looks import LOOK_OPTIONS, WHOLE, Looks
from tllboost.vectorizers.patch_sums import patch_sums

__all__ = ["WEIGHTS", "ClassicVectorizer", "blocks"]

WEIGHTS = {
    "shape": 1.0,
    "patches": 2.0,
    "red-green patches": 0.5,
    "blue-yellow patches": 0.5,
    "colour layout": 0.25,
    "colours": 0.25,
}
"""Of the blocks in the cosine of two pictures. They are coarse on purpose: chosen on
validation sides, where their neighbours are not told apart (results/classic)."""

_VERSION = 2  # raise it when a change here or in the descriptors could change a vector
_SIDE = 160
_LAB_SIDE = 80
_N_DIMS = 3324


class ClassicVectorizer(Vectorizer):
    """Gradients cell by cell, patches wherever they are, colours and their layout.

    The whole picture is scaled to a square, whatever its proportions. Each block is
    brought to length 1 and weighted, then all are concatenated: 768 numbers of shape,
    1104 of grey patches, 960 of patches of two colour channels, 192 of colour layout,
    300 of colours.

    Parameters
    ----------
    trim, flip, views : bool, bool, sequence of str
        See `Looks`; by default the picture as it is.

    Examples
    --------
    >>> ClassicVectorizer().transform([Image.new("RGB", (200, 245))]).shape
    (1, 3324)
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


def blocks(image: Image.Image) -> dict[str, np.ndarray]:
    """Return the descriptors of one picture, none of them at length 1 yet.

    Returns
    -------
    dict of str to ndarray
        In the order of `WEIGHTS`.
    """
    from skimage.color import rgb2lab

    picture = image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, reducing_gap=3)
    grey = np.asarray(picture.convert("L"), dtype=np.float32)
    small = picture.resize((_LAB_SIDE, _LAB_SIDE), Image.Resampling.BOX)
    lab = rgb2lab(np.asarray(small)).astype(np.float32)
    red_green, blue_yellow = (
        patch_sums(lab[..., channel], cell_sides=(3, 4, 6), n_waves=16, floor=0.3)
        for channel in (1, 2)
    )
    return {
        "shape": gradient_histograms(grey, n_cells=8, n_orientations=12, floor=5.0),
        "patches": patch_sums(grey, cell_sides=(4, 6, 9), n_waves=24, floor=2.0),
        "red-green patches": red_green,
        "blue-yellow patches": blue_yellow,
        "colour layout": colour_layout(lab, n_cells=8),
        "colours": colour_histogram(lab, n_light=3, n_hue=10),
    }


def _describe(image: Image.Image) -> np.ndarray:
    """Return the blocks of one picture side by side, each at its length."""
    found = blocks(image)
    return np.concatenate(
        [weight**0.5 * _unit(found[name]) for name, weight in WEIGHTS.items()]
    ).astype(np.float32)


def _unit(block: np.ndarray) -> np.ndarray:
    """Return a block at length 1; one of a picture of a single colour stays zero."""
    length = np.linalg.norm(block)
    return block / length if length > 1e-6 else np.zeros_like(block)
