"""``a+b``: several vectorizers side by side, each at length 1 or as weighted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tllboost.merges import unit_rows
from tllboost.vectorizers.base import Vectorizer
from tllboost.vectorizers.spec import with_weights

__all__ = ["FusionVectorizer", "fuse"]


@dataclass(eq=False, repr=False)
class FusionVectorizer(Vectorizer):
    """Vectors of several vectorizers, L2-normalised and concatenated.

    The cosine of the fusion is the mean of the cosines of its parts, weighted if
    weights are given.

    Parameters
    ----------
    parts : sequence of Vectorizer
        At least two.
    weights : sequence of float, length n_parts, optional
        From 1e-6 to 1e6; all 1 by default. Vectors of a part have the root of its
        weight as their length.

    Examples
    --------
    >>> from tllboost.vectorizers.onnx import OnnxVectorizer
    >>> FusionVectorizer((OnnxVectorizer("a.onnx"), OnnxVectorizer("b.onnx"))).label
    'onnx:a+onnx:b'
    """

    parts: Sequence[Vectorizer]
    weights: Sequence[float] | None = None

    @property
    def name(self) -> str:
        """The spelling without options of the whole; parts keep theirs."""
        return "+".join(with_weights(self._each("spec"), self.weights))

    @property
    def label(self) -> str:
        """Short names of the parts."""
        return "+".join(with_weights(self._each("label"), self.weights))

    @property
    def fingerprint(self) -> str:
        """Tell what the vectors depend on: that of every part, and its weight."""
        prints = with_weights(self._each("fingerprint"), self.weights)
        return "fusion|" + " + ".join(prints)

    def _each(self, attribute: str) -> list[str]:
        return [getattr(part, attribute) for part in self.parts]

    @property
    def n_dims(self) -> int:
        """Width of a vector: the sum of the parts."""
        return sum(part.n_dims for part in self.parts)

    @property
    def needs_images(self) -> bool:  # type: ignore[override]
        """Whether any part looks at images."""
        return any(part.needs_images for part in self.parts)

    @property
    def input_size(self) -> int | None:
        """Short side that decoding may shrink to: the largest of the parts."""
        sizes = [part.input_size for part in self.parts]
        known = [size for size in sizes if size is not None]
        return max(known) if len(known) == len(sizes) else None

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return what every part prepares, as one object array of shape (n_parts,)."""
        prepared = np.empty(len(self.parts), dtype=object)
        for index, part in enumerate(self.parts):
            prepared[index] = part.prepare(image)
        return prepared

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Return fused vectors of prepared images.

        Parameters
        ----------
        batch : ndarray of shape (n_images, n_parts), object
        """
        return self.fuse(
            [
                part.forward(np.stack(list(batch[:, index])))
                for index, part in enumerate(self.parts)
            ]
        )

    def _transform(
        self, images: Iterator[str | Path | Image.Image], batch_size: int
    ) -> np.ndarray:
        """Return the fused vectors; each part decodes at the size that suits it."""
        several = list(images)
        return self.fuse(
            [part.transform(several, batch_size=batch_size) for part in self.parts]
        )

    def fuse(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """Return the fusion's vectors, of those that its parts gave.

        Parameters
        ----------
        blocks : sequence of ndarray of shape (n_images, n_dims of the part)

        Returns
        -------
        ndarray of shape (n_images, n_dims), float32
        """
        return fuse(blocks, self.weights)


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
    units = [unit_rows(block) for block in blocks]
    if weights is not None:
        lengths = np.sqrt(np.asarray(weights, dtype=np.float32))
        units = [unit * length for unit, length in zip(units, lengths, strict=True)]
    return np.hstack(units).astype(np.float32, copy=False)
