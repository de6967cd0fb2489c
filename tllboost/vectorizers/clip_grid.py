"""``clip-grid:ARCH:TAG[@FILE]``: local vectors of an open_clip network, by squares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tllboost.vectorizers.base import loaded
from tllboost.vectorizers.clip import ClipVectorizer
from tllboost.vectorizers.looks import LOOK_OPTIONS, WHOLE
from tllboost.vectorizers.preprocess import FITS
from tllboost.vectorizers.spec import one_of, positive
from tllboost.vectorizers.torch_network import PRECISIONS

__all__ = ["ClipGridVectorizer"]


class ClipGridVectorizer(ClipVectorizer):
    """What the image tower of a CLIP network sees in each square of the picture.

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
        from tllboost.vectorizers.clip_catalogue import build
        from tllboost.vectorizers.torch_maps import clip_maps
        from tllboost.vectorizers.torch_run import on_device

        tower = build(
            self.arch,
            self._weights,
            quick_gelu=self._recipe.quick_gelu,
            what=self.short_name,
        )
        return on_device(clip_maps(tower.visual, what=self.name), self.device)
