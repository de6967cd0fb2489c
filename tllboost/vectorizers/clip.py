"""``clip:ARCH:TAG[@FILE]``: the image tower of an open_clip network.

What open_clip knows about a network by name: its weights, its pixels, its tower.

``clip-grid:ARCH:TAG[@FILE]``: local vectors of an open_clip network, by squares.
"""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from tllboost.errors import UnknownNameError, UsageError, WeightsError
from tllboost.vectorizers.base import loaded
from tllboost.vectorizers.looks import LOOK_OPTIONS, WHOLE
from tllboost.vectorizers.preprocess import FITS, Preprocessing
from tllboost.vectorizers.spec import Spec, one_of, positive, truth
from tllboost.vectorizers.torch import PRECISIONS, TorchVectorizer
from tllboost.vectorizers.weights import (
    fetch,
    fetch_from_hub,
    first_line,
    load_strictly,
    local_file,
    read_weights,
    sha256_of,
)

__all__ = ["ClipGridVectorizer", "ClipVectorizer", "published_weights", "recipe_of"]


class ClipVectorizer(TorchVectorizer):
    """Global image vectors of a CLIP network.

    Preprocessing and activation are those of the tag, also for a local file: open_clip
    itself falls back to defaults there, which gives other vectors without a word.

    Parameters
    ----------
    arch : str
        An open_clip name: ``"RN50x4"``, ``"ViT-B-32"``.
    tag : str, optional
        The published weights: ``"openai"``. May be left out for a local file if all
        published weights of `arch` agree on preprocessing and activation.
    file : path-like, optional
        Local weights in their place.
    fit : {"crop", "squash", "pad"}, optional
        See `Preprocessing`; by default what the tag was trained with.
    normalize : bool, default=True
        Whether vectors are scaled to length 1.
    trim, flip, views : bool, bool, sequence of str
        See `Looks`; by default the image as it is.
    precision : {"float32", "bfloat16", "float16"}, default="float32"
        Of the network's arithmetic. The shorter ones are for GPUs, by torch's autocast;
        they give other vectors, under another fingerprint.
    device : str, default="auto"
        ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto`` takes what there is.
    offline : bool, default=False
        Never ask the network (as ``TLLBOOST_OFFLINE=1``).

    Examples
    --------
    >>> ClipVectorizer("RN50x4", "openai").label
    'clip:RN50x4:openai'
    """

    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        "fit": one_of(*FITS),
        "normalize": truth,
        **LOOK_OPTIONS,
        "precision": one_of(*PRECISIONS),
    }
    KIND: ClassVar[str] = "clip"

    def __init__(
        self,
        arch: str,
        tag: str | None = None,
        file: str | Path | None = None,
        *,
        fit: str | None = None,
        normalize: bool = True,
        trim: bool = False,
        flip: bool = False,
        views: tuple[str, ...] = WHOLE,
        precision: str = "float32",
        device: str = "auto",
        offline: bool = False,
    ) -> None:
        self.arch = arch
        self.tag = tag
        self.file = file
        self.fit = fit
        self.normalize = normalize
        self.trim = trim
        self.flip = flip
        self.views = views
        self.precision = precision
        self.device = device
        self.offline = offline

    @classmethod
    def from_spec(cls, spec: Spec, *, device: str, offline: bool) -> Self:
        """Build one from ``clip:ARCH:TAG[@FILE]`` or ``clip:ARCH@FILE``."""
        named, at, file = spec.rest.partition("@")
        arch, _, tag = named.partition(":")
        if not arch or (at and not file) or not (tag or file):
            form = f"{cls.KIND}:ARCH:TAG"
            msg = f"{spec.text!r}: write {form}, or with @FILE for local weights"
            raise UsageError(msg)
        options = spec.typed_options(cls.OPTIONS)
        return cls(
            arch, tag or None, file or None, **options, device=device, offline=offline
        )

    @property
    def name(self) -> str:
        """The spelling without options."""
        return self.short_name + (f"@{self.file}" if self.file else "")

    @property
    def short_name(self) -> str:
        """The name for tables: without the file."""
        return ":".join(filter(None, (self.KIND, self.arch, self.tag)))

    @loaded
    def fingerprint(self) -> str:  # type: ignore[override]
        """Tell what the vectors depend on."""
        from importlib.metadata import version

        activation = "quickgelu" if self._recipe.quick_gelu else "as configured"
        return (
            f"{self.KIND}|{self.arch}|sha256:{sha256_of(self._weights)}|{self.preprocessing}"
            f"|activation={activation}|unit={self.normalize}|{self.precision}"
            f"|open_clip {version('open_clip_torch').split('.')[0]}{self.looks}"
        )

    @loaded
    def preprocessing(self) -> Preprocessing:  # type: ignore[override]
        """How an image becomes the network's input: the tag's own way."""
        recipe = self._recipe
        return Preprocessing(
            size=recipe.size,
            fit=self.fit or recipe.fit,
            crop_pct=1.0,
            interpolation=recipe.interpolation,
            mean=recipe.mean,
            std=recipe.std,
        )

    @loaded
    def _recipe(self) -> Recipe:

        return recipe_of(self.arch, self.tag)

    @loaded
    def _weights(self) -> Path:

        if self.file is not None:
            return local_file(self.file, what=self.name)
        return published_weights(
            self.arch, self.tag, what=self.short_name, offline=self.offline
        )

    @loaded
    def _network(self) -> Any:
        from tllboost.vectorizers.torch import on_device

        tower = build(
            self.arch,
            self._weights,
            quick_gelu=self._recipe.quick_gelu,
            what=self.short_name,
        )
        return on_device(tower, self.device)


_FITS = {"shortest": "crop", "squash": "squash", "longest": "pad"}
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# What TorchScript files, OpenAI's among them, carry beside the network's tensors.
_NOT_TENSORS = ("input_resolution", "context_length", "vocab_size", "attn_mask")


class Recipe(NamedTuple):
    """How the images of a network's training looked, and its activation."""

    size: tuple[int, int]
    fit: str
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    quick_gelu: bool


def recipe_of(arch: str, tag: str | None) -> Recipe:
    """Return the recipe of published weights, or what all weights of `arch` share.

    Raises
    ------
    UnknownNameError
        If open_clip has no such network, or no such weights of it.
    UsageError
        If `tag` is None and the weights of `arch` differ in their recipes.
    """
    config = _model_config(arch)
    tags = _open_clip().list_pretrained_tags_by_model(arch)
    if tag is not None:
        return _recipe(config, _tag_config(arch, tag))
    recipes = {_recipe(config, _tag_config(arch, one)) for one in tags}
    if len(recipes) > 1:
        msg = (
            f"clip:{arch}@FILE: published weights of {arch!r} differ in preprocessing "
            f"or activation: say whose this file follows by clip:{arch}:TAG@FILE, TAG "
            f"one of {', '.join(tags)}"
        )
        raise UsageError(msg)
    return recipes.pop() if recipes else _recipe(config, {})


def published_weights(arch: str, tag: str | None, *, what: str, offline: bool) -> Path:
    """Return the cached or downloaded weights of a tag.

    Raises
    ------
    WeightsError
        If they are not to be had.
    """
    if tag is None:
        tags = ", ".join(_open_clip().list_pretrained_tags_by_model(arch)) or "none"
        msg = f"{what}: give a tag (known: {tags}) or a file: {what}@FILE"
        raise UsageError(msg)
    config = _tag_config(arch, tag)
    remedy = f"download them elsewhere and give the file: {what}@FILE"
    if config.get("hf_hub"):
        repository, _, name = config["hf_hub"].rpartition("/")
        safe = f"{name.rpartition('.')[0]}.safetensors"
        names = (safe, name) if name else _HUB_FILES
        return fetch_from_hub(
            repository, names, what=what, offline=offline, remedy=remedy
        )
    url = config["url"]

    def download(cached_only: bool) -> str:
        cached = Path("~/.cache/clip").expanduser() / url.rpartition("/")[2]
        if cached_only and not cached.is_file():
            raise FileNotFoundError(cached)
        return _open_clip().download_pretrained_from_url(url)

    return fetch(download, url=url, what=what, offline=offline, remedy=remedy)


def build(arch: str, weights: Path, *, quick_gelu: bool, what: str) -> Any:
    """Return the image tower of a network that holds the weights of a file.

    Raises
    ------
    WeightsError
        If the weights are not of this network.
    """
    state = read_weights(weights, what=what)
    with _quiet():
        try:
            model = _open_clip().create_model(
                arch,
                force_quick_gelu=quick_gelu,
                load_weights=False,
                pretrained_text=False,
            )
        except Exception as error:
            msg = f"{what}: open_clip can't build the network ({first_line(error)})"
            raise WeightsError(msg) from error
        _load(model, state, weights, what)
    return _tower(model.visual)


def _load(model: Any, state: dict[str, Any], weights: Path, what: str) -> None:
    """Load strictly; through open_clip where the tensors have other projects' names."""
    plain = {name: value for name, value in state.items() if name not in _NOT_TENSORS}
    if set(plain) == set(model.state_dict()):
        plain = {name: value.float() for name, value in plain.items()}
        load_strictly(model, plain, what=what, source=str(weights))
        return
    try:
        _open_clip().load_checkpoint(model, str(weights), strict=True)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        detail = (lines[1:2] or lines or [type(error).__name__])[0][:160]
        msg = (
            f"{what}: the weights in {str(weights)!r} are not of this network: {detail}"
        )
        raise WeightsError(msg) from error


def _tower(visual: Any) -> Any:
    import torch

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = visual

        def forward(self, pixels: Any) -> Any:
            vectors = self.visual(pixels)
            # CoCa's tower returns the tokens for its captions as well.
            return vectors[0] if isinstance(vectors, tuple) else vectors

    return Tower()


def _recipe(model: dict[str, Any], tag: dict[str, Any]) -> Recipe:
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    side = model["vision_cfg"].get("image_size", 224)
    size = (side, side) if isinstance(side, int) else tuple(side)
    return Recipe(
        size=(size[0], size[1]),
        fit=_FITS[tag.get("resize_mode") or "shortest"],
        interpolation=tag.get("interpolation") or "bicubic",
        mean=tuple(tag.get("mean") or OPENAI_DATASET_MEAN),
        std=tuple(tag.get("std") or OPENAI_DATASET_STD),
        quick_gelu=bool(tag.get("quick_gelu") or model.get("quick_gelu")),
    )


def _model_config(arch: str) -> dict[str, Any]:
    open_clip = _open_clip()
    if arch not in open_clip.list_models():
        near = difflib.get_close_matches(arch, open_clip.list_models(), n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        msg = f"unknown CLIP network {arch!r}: {hint}open_clip.list_models() lists them"
        raise UnknownNameError(msg)
    config: dict[str, Any] = open_clip.get_model_config(arch)
    return config


def _tag_config(arch: str, tag: str) -> dict[str, Any]:
    config: dict[str, Any] = _open_clip().get_pretrained_cfg(arch, tag)
    if not config:
        known = _open_clip().list_pretrained_tags_by_model(arch)
        near = difflib.get_close_matches(tag, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        tags = ", ".join(known) or "none"
        msg = f"unknown weights {tag!r} of CLIP network {arch!r}: {hint}known: {tags}"
        raise UnknownNameError(msg)
    return config


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip from setting up logging for the whole process, and from chatting.

    It writes to the root logger, which installs a handler where there is none.
    """
    root, silent = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(silent)
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeHandler(silent)
        root.setLevel(level)


def _open_clip() -> Any:
    import open_clip

    return open_clip


class ClipGridVectorizer(ClipVectorizer):
    """What the image tower of a CLIP network sees in each square of the image.

    The last feature map (of a ResNet its last stage, before attention pools it; of a
    vision transformer its patch tokens, without the class token) is averaged within
    cells x cells squares; each square's mean is brought to length 1, and all are
    concatenated.

    Parameters
    ----------
    arch : str
        An open_clip name: ``"RN50x4"``, ``"ViT-B-32"``.
    tag : str, optional
        The published weights, as of `ClipVectorizer`.
    file : path-like, optional
        Local weights in their place.
    cells : int, default=2
        Squares a side.
    fit, device, offline
        As of `ClipVectorizer`.
    trim, flip, views, precision
        As of `ClipVectorizer`.

    Examples
    --------
    >>> ClipGridVectorizer("RN50x4", "openai", cells=3).label
    'clip-grid:RN50x4:openai?cells=3'
    """

    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        "cells": positive,
        "fit": one_of(*FITS),
        **LOOK_OPTIONS,
        "precision": one_of(*PRECISIONS),
    }
    KIND = "clip-grid"

    normalize = False  # squares have length 1

    def __init__(
        self,
        arch: str,
        tag: str | None = None,
        file: str | Path | None = None,
        *,
        cells: int = 2,
        fit: str | None = None,
        trim: bool = False,
        flip: bool = False,
        views: tuple[str, ...] = WHOLE,
        precision: str = "float32",
        device: str = "auto",
        offline: bool = False,
    ) -> None:
        self.arch = arch
        self.tag = tag
        self.file = file
        self.cells: int = cells
        self.fit = fit
        self.trim = trim
        self.flip = flip
        self.views = views
        self.precision = precision
        self.device = device
        self.offline = offline

    @loaded
    def fingerprint(self) -> str:  # type: ignore[override]
        """Tell what the vectors depend on."""
        whole: str = ClipVectorizer.fingerprint.compute(self)
        return f"{whole}|cells={self.cells}"

    @loaded
    def _network(self) -> Any:
        from tllboost.vectorizers.torch import clip_maps, on_device

        tower = build(
            self.arch,
            self._weights,
            quick_gelu=self._recipe.quick_gelu,
            what=self.short_name,
        )
        return on_device(clip_maps(tower.visual, what=self.name), self.device)
