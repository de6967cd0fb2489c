"""``timm:NAME[@FILE]`` and ``timm-grid:NAME[@FILE]``: networks of the timm library.

Global vectors are what a network has before its classifier, local ones its last feature
map. What timm knows about a network by name: its weights, its pixels, its layers.
"""

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from tllboost.errors import UnknownNameError, WeightsError
from tllboost.registry import did_you_mean, option, positive, truth
from tllboost.vectorizers.base import library, loaded
from tllboost.vectorizers.network import fits
from tllboost.vectorizers.preprocess import Preprocessing
from tllboost.vectorizers.torch import TorchVectorizer, on_device, quiet, timm_maps
from tllboost.vectorizers.weights import (
    fetch,
    fetch_from_hub,
    loading_into,
    read_weights,
)


@dataclass(eq=False, repr=False)
class TimmVectorizer(TorchVectorizer):
    """Vectors of a timm network without its classifier.

    For VGG16 and VGG19 these are the 4,096 numbers of the second fully connected
    layer, for others what is pooled after the last block.

    Parameters
    ----------
    arch : str
        A timm name, with or without tag: ``"resnet50"``, ``"resnet50.tv_in1k"``.
    file : path-like, optional
        Local weights, loaded strictly; without it they come from timm's hub.
    size : int, optional
        Side of the input; by default timm's.
    fit : {"crop", "squash", "pad"}, default="crop"
        See `Preprocessing`.
    normalize : bool, default=False
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
    >>> TimmVectorizer("resnet50", "resnet50.safetensors").label
    'timm:resnet50'
    """

    KIND = "timm"
    file: str | Path | None = None
    _: KW_ONLY
    size: int | None = option(None, positive)
    fit: str = option("crop", fits)
    normalize: bool = option(False, truth)

    def _described(self) -> tuple[str, str, str]:
        taken = "last map" if self.cells else "penultimate"
        return self._catalogue_name, f"layer={taken}", library("timm")

    @loaded
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input, by timm's own record of it."""
        config = data_config(self._catalogue_name)
        height, width = config["input_size"][1:]
        return Preprocessing(
            size=(self.size, self.size) if self.size else (height, width),
            fit=self.fit,
            crop_pct=config["crop_pct"],
            interpolation=config["interpolation"],
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
        )

    @loaded
    def _catalogue_name(self) -> str:
        return catalogue_name(self.arch)

    def _published(self) -> Path:
        import timm
        from timm.models import _hub

        what = self.short_name
        config = timm.get_pretrained_cfg(self._catalogue_name)
        if config and config.hf_hub_id:
            named = config.hf_hub_filename
            names = (named,) if named else _HUB_FILES
            return fetch_from_hub(
                config.hf_hub_id, names, what=what, offline=self.offline
            )
        if not config or not config.url:
            msg = f"{what}: timm publishes no weights for it; give a file: {what}@FILE"
            raise WeightsError(msg)
        url = str(config.url)
        download = partial(_hub.download_cached_file, url)
        cached = download() if _hub.check_cached_file(url) else None
        return fetch(cached, download, url=url, what=what, offline=self.offline)

    @loaded
    def network(self) -> Any:
        """Return the network on its device, up to the layer or map that is taken."""
        network = create(self._catalogue_name, size=self.size)
        state = read_weights(self.weights_file, what=self.short_name)
        state = _fitting(network, state, resized=self.size is not None)
        with loading_into(self.short_name, self.weights_file):
            network.load_state_dict(state, strict=True, assign=True)
        if self.cells is not None:
            network = timm_maps(network, what=self.name)
        return on_device(network, self.device)


@dataclass(kw_only=True, eq=False, repr=False)
class TimmGridVectorizer(TimmVectorizer):
    """What a timm network sees around each position of a grid on the image.

    The last feature map before pooling (of a vision transformer its patch tokens,
    without the class token) is averaged around cells x cells grid positions; the mean
    of each is brought to length 1, and all are concatenated.

    Parameters
    ----------
    arch : str
        A timm name, with or without tag.
    file : path-like, optional
        Local weights, loaded strictly; without it they come from timm's hub.
    cells : int, default=2
        Grid positions a side.
    size, fit, trim, flip, views, precision, device, offline
        As of `TimmVectorizer`.

    Examples
    --------
    >>> TimmGridVectorizer("resnet50", "resnet50.safetensors", cells=3).label
    'timm-grid:resnet50?cells=3'
    """

    KIND = "timm-grid"
    ORDER = ("cells", "size", "fit")
    normalize: ClassVar[bool] = False  # type: ignore[misc] # positions have length 1

    cells: int = option(2, positive)


# Names that timm itself gave up or never had, as the Holidays experiments wrote them.
_ALIASES = {"xception": "legacy_xception", "inceptionv3": "inception_v3"}
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_AUXILIARY = ("AuxLogits.",)  # a second classifier of training, not part of the vectors


def catalogue_name(arch: str) -> str:
    """Return timm's own name of `arch`.

    Raises
    ------
    UnknownNameError
        If timm has no such network, or no such tag of it.
    """
    import timm

    base, dot, tag = arch.partition(".")
    base = _ALIASES.get(base, base)
    if base not in timm.list_models():
        hint = did_you_mean(base, timm.list_models())
        msg = f"unknown timm network {arch!r}: {hint}timm.list_models() lists them all"
        raise UnknownNameError(msg)
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{base}.*")]
    if dot and tag not in tags:
        msg = f"unknown tag {tag!r} of timm network {base!r}: known: {', '.join(tags)}"
        raise UnknownNameError(msg)
    return f"{base}.{tag}" if dot else base


def data_config(name: str) -> dict[str, Any]:
    """Return timm's preprocessing of a network: ``input_size``, ``mean`` and such."""
    import timm

    config = timm.get_pretrained_cfg(name)
    known = config.to_dict() if config else {}
    return timm.data.resolve_data_config(pretrained_cfg=known)


def create(name: str, *, size: int | None = None) -> Any:
    """Return a network without classifier, with random weights."""
    import timm

    with quiet():
        try:
            sized: dict[str, Any] = {"img_size": size} if size else {}
            return timm.create_model(name, pretrained=False, num_classes=0, **sized)
        except TypeError:  # convolutional networks take any size and no argument for it
            return timm.create_model(name, pretrained=False, num_classes=0)


def _fitting(network: Any, state: dict[str, Any], *, resized: bool) -> dict[str, Any]:
    """Return the tensors of a file as float32, by timm's names, without classifiers.

    Where the input is `resized`, timm resamples embeddings of positions.
    """
    import torch

    wanted = set(network.state_dict())
    module = sys.modules[type(network).__module__]
    rename = getattr(module, "checkpoint_filter_fn", None) or getattr(
        module, "_filter_fn", None
    )
    is_named = wanted <= set(state)  # else it was not written by timm
    if rename is not None and (resized or not is_named):
        arguments = (dict(state), network)[: len(inspect.signature(rename).parameters)]
        with suppress(Exception):  # not of this network at all: loading it says so
            state = rename(*arguments)
    classifier = network.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    # A head of several layers is named by its last one: `head.linear` after `head.bn`.
    dropped = tuple(f"{one.rpartition('.')[0] or one}." for one in heads) + _AUXILIARY
    return {
        key: value.to(torch.float32) if value.is_floating_point() else value
        for key, value in state.items()
        if key in wanted or not key.startswith(dropped)
    }
