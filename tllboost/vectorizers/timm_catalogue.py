"""What timm knows about a network by name: its weights, its pixels, its layers."""

from __future__ import annotations

import difflib
import inspect
import sys
import warnings
from pathlib import Path
from typing import Any

from tllboost.errors import UnknownNameError, WeightsError
from tllboost.vectorizers.hub import fetch, fetch_from_hub
from tllboost.vectorizers.weights import load_strictly, read_weights

__all__ = ["build", "catalogue_name", "create", "data_config", "published_weights"]

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
    timm = _timm()
    base, dot, tag = arch.partition(".")
    base = _ALIASES.get(base, base)
    if base not in timm.list_models():
        near = difflib.get_close_matches(base, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        msg = f"unknown timm network {arch!r}: {hint}timm.list_models() lists them all"
        raise UnknownNameError(msg)
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{base}.*")]
    if dot and tag not in tags:
        msg = f"unknown tag {tag!r} of timm network {base!r}: known: {', '.join(tags)}"
        raise UnknownNameError(msg)
    return f"{base}.{tag}" if dot else base


def data_config(name: str) -> dict[str, Any]:
    """Return timm's preprocessing of a network: ``input_size``, ``mean`` and such."""
    timm = _timm()
    config = timm.get_pretrained_cfg(name)
    known = config.to_dict() if config else {}
    return timm.data.resolve_data_config(pretrained_cfg=known)


def published_weights(name: str, *, what: str, offline: bool) -> Path:
    """Return the cached or downloaded weights of a network.

    Raises
    ------
    WeightsError
        If there are none, or they are not to be had now.
    """
    config = _timm().get_pretrained_cfg(name)
    remedy = f"download them elsewhere and give the file: {what}@FILE"
    if config and config.hf_hub_id:
        named = config.hf_hub_filename
        names = (named,) if named else _HUB_FILES
        return fetch_from_hub(
            config.hf_hub_id, names, what=what, offline=offline, remedy=remedy
        )
    if config and config.url:
        return _from_url(config.url, what=what, offline=offline, remedy=remedy)
    msg = f"{what}: timm publishes no weights for it; give a file: {what}@FILE"
    raise WeightsError(msg)


def build(name: str, weights: Path, *, size: int | None, what: str) -> Any:
    """Return a network without classifier that holds the weights of a file.

    Raises
    ------
    WeightsError
        If the weights are not of this network.
    """
    import torch

    network = create(name, size=size)
    state = read_weights(weights, what=what)
    classifier = network.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    dropped = tuple(f"{head}." for head in heads) + _AUXILIARY
    state = _in_timm_names(network, state)
    wanted = set(network.state_dict())
    state = {
        key: value.to(torch.float32) if value.is_floating_point() else value
        for key, value in state.items()
        if key in wanted or not key.startswith(dropped)
    }
    load_strictly(network, state, what=what, source=str(weights))
    return network


def create(name: str, *, size: int | None = None) -> Any:
    """Return a network without classifier, with random weights."""
    timm = _timm()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            sized = {"img_size": size} if size else {}
            return timm.create_model(name, pretrained=False, num_classes=0, **sized)
        except TypeError:  # convolutional networks take any size and no argument for it
            return timm.create_model(name, pretrained=False, num_classes=0)


def _in_timm_names(network: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Rename the tensors of a file that was not written by timm, as timm would."""
    if set(network.state_dict()) <= set(state):
        return state
    module = sys.modules[type(network).__module__]
    rename = getattr(module, "checkpoint_filter_fn", None) or getattr(
        module, "_filter_fn", None
    )
    if rename is None:
        return state
    arguments = (dict(state), network)[: len(inspect.signature(rename).parameters)]
    try:
        return rename(*arguments)
    except Exception:  # not of this network at all: the strict check says so
        return state


def _from_url(url: str, *, what: str, offline: bool, remedy: str) -> Path:
    from timm.models import _hub

    def download(cached_only: bool) -> str:
        if cached_only and not _hub.check_cached_file(url):
            raise FileNotFoundError(url)
        return _hub.download_cached_file(url)

    return fetch(download, url=url, what=what, offline=offline, remedy=remedy)


def _timm() -> Any:
    import timm

    return timm
