"""``clip:ARCH:TAG[@FILE]`` and ``clip-grid:…``: image towers of open_clip networks.

Global vectors are what a tower gives, local ones its last feature map. What open_clip
knows about a network by name: its weights, its pixels, its activation.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from tllboost.errors import UnknownNameError, UsageError
from tllboost.registry import did_you_mean, option, positive, truth
from tllboost.vectorizers.base import library, loaded
from tllboost.vectorizers.network import fits
from tllboost.vectorizers.preprocess import Preprocessing
from tllboost.vectorizers.torch import (
    TorchVectorizer,
    module,
    on_device,
    quiet,
    timm_maps,
)
from tllboost.vectorizers.weights import fetch_from_hub, loading_into, read_weights


@dataclass(eq=False, repr=False)
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

    KIND = "clip"
    FORM = ("ARCH", "TAG")

    tag: str | None = None
    file: str | Path | None = None
    _: KW_ONLY
    fit: str | None = option(None, fits)
    normalize: bool = option(True, truth)

    def _described(self) -> tuple[str, str, str]:
        activation = "quickgelu" if self._recipe.quick_gelu else "as configured"
        made_by = library("open_clip", package="open_clip_torch")
        return self.arch, f"activation={activation}", made_by

    @loaded
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input: the tag's own way."""
        own = self._recipe.preprocessing
        return replace(own, fit=self.fit) if self.fit else own

    @loaded
    def _recipe(self) -> Recipe:
        return recipe_of(self.arch, self.tag)

    def _published(self) -> Path:
        hub = _tag_config(self.arch, self.tag or "").get("hf_hub") or ""
        repository, _, name = hub.rpartition("/")
        safe = f"{name.rpartition('.')[0]}.safetensors"
        names = (safe, name) if name else _HUB_FILES
        what, offline = self.short_name, self.offline
        return fetch_from_hub(repository, names, what=what, offline=offline)

    @loaded
    def network(self) -> Any:
        """Return the image tower on its device, up to its vectors or its last map."""
        import open_clip

        weights, what = self.weights_file, self.short_name
        state = read_weights(weights, what=what)
        for name in _NOT_TENSORS:
            state.pop(name, None)
        with quiet(), loading_into(what, weights):
            model = open_clip.create_model(
                self.arch,
                force_quick_gelu=self._recipe.quick_gelu,
                load_weights=False,
                pretrained_text=False,
            )
            if set(state) == set(model.state_dict()):
                state = {name: value.float() for name, value in state.items()}
                model.load_state_dict(state, strict=True, assign=True)
            else:  # other projects' names, which open_clip translates
                open_clip.load_checkpoint(model, str(weights), strict=True)
        if self.cells is not None:
            tower = clip_maps(model.visual, what=self.name)
        else:
            tower = module(_vectors, visual=model.visual)
        return on_device(tower, self.device)


@dataclass(kw_only=True, eq=False, repr=False)
class ClipGridVectorizer(ClipVectorizer):
    """What a CLIP image tower sees around each position of a grid on the image.

    The last feature map (of a ResNet its last stage, before attention pools it; of a
    vision transformer its patch tokens, without the class token) is averaged around
    cells x cells grid positions; the mean of each is brought to length 1, and all are
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
        Grid positions a side.
    fit, trim, flip, views, precision, device, offline
        As of `ClipVectorizer`.

    Examples
    --------
    >>> ClipGridVectorizer("RN50x4", "openai", cells=3).label
    'clip-grid:RN50x4:openai?cells=3'
    """

    KIND = "clip-grid"
    ORDER = ("cells", "fit")
    normalize: ClassVar[bool] = False  # type: ignore[misc] # positions have length 1

    cells: int = option(2, positive)


_FITS = {"shortest": "crop", "squash": "squash", "longest": "pad"}
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# What TorchScript files, OpenAI's among them, carry beside the network's tensors.
_NOT_TENSORS = ("input_resolution", "context_length", "vocab_size", "attn_mask")


class Recipe(NamedTuple):
    """How the images of a network's training looked, and its activation."""

    preprocessing: Preprocessing
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
    import open_clip

    if arch not in open_clip.list_models():
        hint = did_you_mean(arch, open_clip.list_models())
        msg = f"unknown CLIP network {arch!r}: {hint}open_clip.list_models() lists them"
        raise UnknownNameError(msg)
    config = open_clip.get_model_config(arch)
    tags = open_clip.list_pretrained_tags_by_model(arch) if tag is None else [tag]
    recipes = {_recipe(config, _tag_config(arch, one)) for one in tags}
    if len(recipes) > 1:
        msg = (
            f"clip:{arch}@FILE: published weights of {arch!r} differ in preprocessing "
            f"or activation: say whose this file follows by clip:{arch}:TAG@FILE, TAG "
            f"one of {', '.join(tags)}"
        )
        raise UsageError(msg)
    return recipes.pop() if recipes else _recipe(config, {})


def clip_maps(visual: Any, *, what: str) -> Any:
    """Return a module from pixels to the last maps of an open_clip image tower.

    Of a ResNet these are the last stage's, before attention pools them; of a vision
    transformer the patches after the last block and its normalisation, before they are
    projected. The class token is left out.
    """
    if hasattr(visual, "trunk"):
        return timm_maps(visual.trunk, what=what)
    # With a pooling by attention, the normalisation belongs to what it pools.
    norm = getattr(visual, "attn_pool", None) is None
    grid = getattr(visual, "grid_size", None)

    def forward(own: Any, pixels: Any) -> Any:
        found = own.visual.forward_intermediates(
            pixels,
            indices=1,
            normalize_intermediates=norm,
            intermediates_only=True,
            output_fmt="NLC" if grid else "NCHW",
        )
        (last,) = found["image_intermediates"]
        return last.transpose(1, 2).unflatten(2, tuple(grid)) if grid else last

    return module(forward, visual=visual)


def _vectors(tower: Any, pixels: Any) -> Any:
    """Return a tower's vectors alone: CoCa's gives the tokens for its captions too."""
    output = tower.visual(pixels)
    return output[0] if isinstance(output, tuple) else output


def _recipe(model: dict[str, Any], tag: dict[str, Any]) -> Recipe:
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    side = model["vision_cfg"].get("image_size", 224)
    size = (side, side) if isinstance(side, int) else tuple(side)
    preprocessing = Preprocessing(
        size=(size[0], size[1]),
        fit=_FITS[tag.get("resize_mode") or "shortest"],
        crop_pct=1.0,
        interpolation=tag.get("interpolation") or "bicubic",
        mean=tuple(tag.get("mean") or OPENAI_DATASET_MEAN),
        std=tuple(tag.get("std") or OPENAI_DATASET_STD),
    )
    quick_gelu = bool(tag.get("quick_gelu") or model.get("quick_gelu"))
    return Recipe(preprocessing, quick_gelu)


def _tag_config(arch: str, tag: str) -> dict[str, Any]:
    import open_clip

    config: dict[str, Any] = open_clip.get_pretrained_cfg(arch, tag)
    if not config:
        known = open_clip.list_pretrained_tags_by_model(arch)
        hint, tags = did_you_mean(tag, known), ", ".join(known) or "none"
        msg = f"unknown weights {tag!r} of CLIP network {arch!r}: {hint}known: {tags}"
        raise UnknownNameError(msg)
    return config
