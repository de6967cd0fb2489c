"""Vectorizers: images in, float32 vectors out, by name.

Importing this package imports none of the libraries behind the names. Here are the
names, the networks to start with, and what is made of vectorizers or of objects: their
fusion, and the user's own. The grammar of names::

    name    = part *("+" part)              fusion
    part    = kind [":" rest] ["?" option *("&" option)]
    rest    = ARCH [":" TAG] ["@" FILE]     clip, timm, clip-grid, timm-grid
            | FILE                          onnx, vectors

Any part of a fusion may say ``weight=NUMBER``.

A ``+`` joins only where a known kind (or ``package.module:Class``) follows, so that
file names may contain it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tllboost.errors import WHY, DataError, UsageError, retold
from tllboost.registry import (
    Entry,
    Option,
    Registry,
    Spec,
    import_path,
    lies_here,
    parse_spec,
    path_of,
)
from tllboost.vectorizers.base import Vectorizer, fuse, loaded

__all__ = [
    "DEFAULT_VECTORIZERS",
    "NETWORKS",
    "VECTORIZERS",
    "CustomVectorizer",
    "FusionVectorizer",
    "Vectorizer",
    "check_device",
    "is_at_hand",
    "make_vectorizer",
]

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
            needs=("torch", "open_clip"),
        ),
        "clip-grid": Entry(
            "tllboost.vectorizers.clip:ClipGridVectorizer",
            "clip-grid:ARCH:TAG[@FILE]: its last feature map, one vector per position",
            needs=("torch", "open_clip"),
        ),
        "onnx": Entry(
            "tllboost.vectorizers.onnx:OnnxVectorizer",
            "onnx:FILE: a network in an ONNX file",
            needs=("onnxruntime", "onnx"),
        ),
        "pixels": Entry(
            "tllboost.vectorizers.classic:PixelVectorizer",
            "pixels: the image itself, squashed to 32 x 32 (?size=N)",
        ),
        "pocket": Entry(
            "tllboost.vectorizers.pocket:PocketVectorizer",
            "pocket: a small network inside the package, trained on made images",
            needs=("onnxruntime",),
        ),
        "timm": Entry(
            "tllboost.vectorizers.timm:TimmVectorizer",
            "timm:NAME[@FILE]: a network of timm without its classifier",
            needs=("torch", "timm"),
        ),
        "timm-grid": Entry(
            "tllboost.vectorizers.timm:TimmGridVectorizer",
            "timm-grid:NAME[@FILE]: its last feature map, one vector per position",
            needs=("torch", "timm"),
        ),
        "vectors": Entry(
            "tllboost.vectorizers.arrays:ArrayVectorizer",
            "vectors:FILE.npz: vectors that you already have",
        ),
    },
)


# timm and open_clip know hundreds more; asking them takes seconds, and this takes none.
_TABLE = Path(__file__).with_name("networks.json").read_text(encoding="utf-8")
NETWORKS: dict[str, dict[str, Any]] = json.loads(_TABLE)
"""Networks to start with: what each is, and what to take it for.

``n_dims`` is the width of a vector, ``millions`` the weights of what sees images,
``side`` that of the image it sees, ``licence`` that of the weights, ``repository`` its
name on the hub. ``benchmarks/networks_page.py`` writes the table.
"""


def is_at_hand(repository: str) -> bool:
    """Tell whether the hub's local cache holds the weights of a repository."""
    from huggingface_hub import constants  # without the rest, which is slow to import

    folder = f"models--{repository.replace('/', '--')}"
    snapshots = Path(constants.HF_HUB_CACHE, folder, "snapshots")
    return any(one.suffix in (".safetensors", ".bin") for one in snapshots.glob("*/*"))


def check_device(device: str) -> None:
    """Refuse what names no device; whether it is there is seen where it is used.

    Raises
    ------
    UsageError
        If it names none.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        msg = f"unknown device {device!r}: give auto, cpu, cuda, cuda:NUMBER or mps"
        raise UsageError(msg)


def split_fusion(text: str, kinds: Iterable[str]) -> list[str]:
    """Return the parts of a fusion; one part if it is none.

    Examples
    --------
    >>> split_fusion("onnx:a+b.onnx+classic", ["onnx", "classic"])
    ['onnx:a+b.onnx', 'classic']
    """
    names = "|".join(re.escape(kind) for kind in kinds)
    own = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?=$|[+?])"
    return re.split(rf"\+(?=(?:{names})(?:$|[:+?])|{own})", text)


def take_weight(spec: Spec) -> float:
    """Return the weight of a part of a fusion, no longer among its options.

    Raises
    ------
    UsageError
        If that is no number from 1e-6 to 1e6.

    Examples
    --------
    >>> from tllboost.registry import parse_spec
    >>> spec = parse_spec("classic?weight=0.3&flip=true")
    >>> take_weight(spec), spec.options
    (0.3, {'flip': 'true'})
    """
    stated = replace(spec, options={"weight": spec.options.pop("weight", "1")})
    weight: float = stated.typed_options({"weight": _weight})["weight"]
    return weight


def is_weight(number: float) -> bool:
    """Tell whether vectors may be given the root of a number as their length.

    Examples
    --------
    >>> is_weight(0.3), is_weight(0), is_weight(1e300)
    (True, False, False)
    """
    return 1e-6 <= number <= 1e6


_weight = Option("a number above zero, from 1e-6 to 1e6", float, is_weight)


def with_weights(texts: Sequence[str], weights: Sequence[float] | None) -> list[str]:
    """Return the parts of a fusion, each with its weight unless that is 1.

    Examples
    --------
    >>> with_weights(["pocket", "classic", "pixels?size=8"], (1, 0.3, 2))
    ['pocket', 'classic?weight=0.3', 'pixels?size=8&weight=2']
    """
    return [
        text if one == 1 else f"{text}{'&?'['?' not in text]}weight={one:.9g}"
        for text, one in zip(texts, weights or [1] * len(texts), strict=True)
    ]


def make_vectorizer(
    spec: str | Vectorizer | Any, *, device: str = "auto", offline: bool = False
) -> Vectorizer:
    """Return the vectorizer that a name stands for.

    Parameters
    ----------
    spec : str or Vectorizer or object
        ``classic``, ``pocket``, ``pixels``, ``clip:ARCH:TAG[@FILE]``,
        ``timm:NAME[@FILE]``, ``clip-grid:…`` and ``timm-grid:…`` in the same way,
        ``onnx:FILE``, ``vectors:FILE.npz``, ``package.module:Class``, several joined
        by ``+``; each with options after a question mark:
        ``onnx:net.onnx?size=160&flip=true&views=whole,grey``. A joined one may have a
        weight: ``pocket+classic?weight=0.3``.
        A vectorizer is returned unchanged; any other object whose ``transform`` takes
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
        If the rest of the name, an option or the device is wrong.

    Examples
    --------
    >>> make_vectorizer("classic+onnx:net.onnx").label
    'classic+onnx:net'
    """
    check_device(device)
    if not isinstance(spec, str):
        return _wrapped(spec)
    specs = [parse_spec(part) for part in split_fusion(spec, VECTORIZERS)]
    if len(specs) == 1:
        return _make(specs[0], device, offline)
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
        VECTORIZERS.check(spec.kind)  # which knows no such name
    spec.typed_options({})
    path = f"{spec.kind}:{spec.rest}"
    return _wrapped(import_path(path, kind="vectorizer"), path)


def _wrapped(target: Any, path: str | None = None) -> Vectorizer:
    """Return an object, or what an import path led to, as a vectorizer."""
    if isinstance(target, Vectorizer):
        return target
    if path and isinstance(target, type) and issubclass(target, Vectorizer):
        return target()
    if not callable(getattr(target, "transform", None)):
        msg = (
            f"{path or target!r} is not a vectorizer: it has no transform(images) -> "
            "(n_images, n_dims)"
        )
        raise UsageError(msg)
    return CustomVectorizer(path or target)


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
    >>> parts = [make_vectorizer(name) for name in ("pocket", "onnx:a.onnx")]
    >>> FusionVectorizer(parts).label
    'pocket+onnx:a'
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
        prepared = zip(self.parts, batch.T, strict=True)
        return self.fuse([part.forward(np.stack([*one])) for part, one in prepared])

    def _transform(
        self, images: Iterator[str | Path | Image.Image], batch_size: int
    ) -> np.ndarray:
        """Return the fused vectors; each part decodes at the size that suits it."""
        several = list(images)
        return self.fuse(
            [one._transform(iter(several), batch_size) for one in self.parts]
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
        return path_of(self.target)

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
        text = (
            f"vectorizer {self.name!r} has no source file to tell its versions apart: "
            "give its class a fingerprint attribute"
        )
        with retold(text, UsageError, (OSError, TypeError)):
            source = inspect.getsource(inspect.getmodule(type(made)) or type(made))
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
        made = VECTORIZERS.resolve(self.target)
        text = f"vectorizer {self.name!r} can't be made without arguments: {WHY}"
        with retold(text, UsageError, TypeError):
            return made() if isinstance(made, type) else made
