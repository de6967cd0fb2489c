"""Vectorizers: images in, float32 vectors out, by name.

Importing this package imports none of the libraries behind the names.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from tllboost.errors import UsageError
from tllboost.registry import Entry, Registry, import_path, lies_here
from tllboost.vectorizers.base import Vectorizer
from tllboost.vectorizers.spec import Spec, parse_spec, split_fusion, take_weight

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
    if not isinstance(spec, str):
        return _wrapped(spec)
    specs = [parse_spec(part) for part in split_fusion(spec, VECTORIZERS)]
    if len(specs) == 1:
        return _make(specs[0], device, offline)
    from tllboost.vectorizers.fusion import FusionVectorizer

    weights = tuple(map(take_weight, specs))
    parts = tuple(_make(one, device, offline) for one in specs)
    return FusionVectorizer(parts, None if set(weights) == {1.0} else weights)


def _make(spec: Spec, device: str, offline: bool) -> Vectorizer:
    """Return the vectorizer for one part of a name."""
    if spec.kind in VECTORIZERS:
        kind: type[Vectorizer] = VECTORIZERS.resolve(spec.kind)
        return kind.from_spec(spec, device=device, offline=offline)
    # Told from a misspelled kind without importing it.
    module = spec.kind
    is_module = "." in module or (
        module.isidentifier()
        and (importlib.util.find_spec(module) or lies_here(module))
    )
    if not spec.rest or not is_module:
        raise VECTORIZERS.unknown(spec.kind)
    spec.without_options()
    path = f"{spec.kind}:{spec.rest}"
    return _wrapped(import_path(path, kind="vectorizer"), path)


def _wrapped(target: Any, path: str | None = None) -> Vectorizer:
    """Return an object, or what an import path led to, as a vectorizer."""
    if isinstance(target, Vectorizer):
        return target
    if path and isinstance(target, type) and issubclass(target, Vectorizer):
        return target()
    if not path and not hasattr(target, "transform"):
        msg = (
            f"{target!r} is no vectorizer: give a name, or an object with "
            "transform(images) -> (n_images, n_dims)"
        )
        raise UsageError(msg)
    from tllboost.vectorizers.custom import CustomVectorizer

    return CustomVectorizer(path or target)
