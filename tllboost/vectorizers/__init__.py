"""Vectorizers: images in, float32 vectors out, by name.

Importing this package imports none of the libraries behind the names.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tllboost.registry import Entry, Registry
from tllboost.vectorizers.base import Vectorizer
from tllboost.vectorizers.make import make_one
from tllboost.vectorizers.spec import split_fusion, split_weight

__all__ = ["DEFAULT_VECTORIZERS", "VECTORIZERS", "Vectorizer", "make_vectorizer"]

DEFAULT_VECTORIZERS = ("classic", "pocket")
"""What is taken where no other is named: both need nothing but this package."""

VECTORIZERS = Registry(
    "vectorizer",
    {
        "classic": Entry(
            "tllboost.vectorizers.classic:ClassicVectorizer",
            "classic: descriptors of shape, patches and colour; no weights",
        ),
        "clip": Entry(
            "tllboost.vectorizers.clip:ClipVectorizer",
            "clip:ARCH:TAG[@FILE]: image tower of an open_clip network",
        ),
        "clip-grid": Entry(
            "tllboost.vectorizers.clip:ClipGridVectorizer",
            "clip-grid:ARCH:TAG[@FILE]: its last feature map, a vector a grid position",
        ),
        "onnx": Entry(
            "tllboost.vectorizers.onnx:OnnxVectorizer",
            "onnx:FILE: a network in an ONNX file",
        ),
        "pixels": Entry(
            "tllboost.vectorizers.pixels:PixelVectorizer",
            "pixels: the image itself, squashed to 32 x 32 (?size=N)",
        ),
        "pocket": Entry(
            "tllboost.vectorizers.pocket:PocketVectorizer",
            "pocket: a small network inside the package, trained on made images",
        ),
        "timm": Entry(
            "tllboost.vectorizers.timm:TimmVectorizer",
            "timm:NAME[@FILE]: a network of timm without its classifier",
        ),
        "timm-grid": Entry(
            "tllboost.vectorizers.timm:TimmGridVectorizer",
            "timm-grid:NAME[@FILE]: its last feature map, a vector a grid position",
        ),
        "vectors": Entry(
            "tllboost.vectorizers.arrays:ArrayVectorizer",
            "vectors:FILE.npz: vectors that you already have",
        ),
    },
)


def make_vectorizer(
    spec: str | Vectorizer | Any, *, device: str = "auto", offline: bool = False
) -> Vectorizer:
    """Return the vectorizer that a name stands for.

    Parameters
    ----------
    spec : str or Vectorizer or object
        ``classic``, ``pocket``, ``pixels``, ``clip:ARCH:TAG[@FILE]``,
        ``timm:NAME[@FILE]``, ``clip-grid:…`` and ``timm-grid:…`` likewise,
        ``onnx:FILE``, ``vectors:FILE.npz``, ``package.module:Class``, several joined
        by ``+``; each with options after a question mark:
        ``onnx:net.onnx?size=160&flip=true&views=whole,grey``. One that is joined may
        say its weight: ``pocket+classic?weight=0.3``.
        A vectorizer is returned as it is; any other object with a ``transform`` of
        lists of images is wrapped.
    device : str, default="auto"
        For networks: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    offline : bool, default=False
        Never ask the network for weights.

    Returns
    -------
    Vectorizer
        Nothing is loaded yet.

    Raises
    ------
    UnknownNameError
        If no kind of vectorizer has this name.
    UsageError
        If the rest of the name or an option is wrong.

    Examples
    --------
    >>> make_vectorizer("classic+onnx:net.onnx").label
    'classic+onnx:net'
    """
    make = partial(make_one, registry=VECTORIZERS, device=device, offline=offline)
    if not isinstance(spec, str) or len(split_fusion(spec, VECTORIZERS)) == 1:
        return make(spec)
    from tllboost.vectorizers.fusion import FusionVectorizer

    split = [split_weight(name) for name in split_fusion(spec, VECTORIZERS)]
    parts = tuple(make(name) for name, _ in split)
    weights = tuple(1.0 if weight is None else weight for _, weight in split)
    return FusionVectorizer(parts, None if set(weights) == {1.0} else weights)
