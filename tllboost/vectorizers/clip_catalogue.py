"""What open_clip knows about a network by name: its weights, its pixels, its tower."""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tllboost.errors import UnknownNameError, UsageError, WeightsError
from tllboost.vectorizers.hub import fetch, fetch_from_hub
from tllboost.vectorizers.weights import first_line, load_strictly, read_weights

__all__ = ["Recipe", "build", "published_weights", "recipe_of"]

_FITS = {"shortest": "crop", "squash": "squash", "longest": "pad"}
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# What TorchScript files, OpenAI's among them, carry beside the network's tensors.
_NOT_TENSORS = ("input_resolution", "context_length", "vocab_size", "attn_mask")


class Recipe(NamedTuple):
    """How the pictures of a network's training looked, and its activation."""

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
