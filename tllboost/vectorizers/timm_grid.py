"""``timm-grid:NAME[@FILE]``: local vectors of a timm network, square by square."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tllboost.errors import UnknownNameError
from tllboost.vectorizers.base import loaded
from tllboost.vectorizers.looks import LOOK_OPTIONS, WHOLE
from tllboost.vectorizers.preprocess import FITS
from tllboost.vectorizers.spec import one_of, positive
from tllboost.vectorizers.timm import TimmVectorizer
from tllboost.vectorizers.torch_network import PRECISIONS

__all__ = ["TimmGridVectorizer"]


class TimmGridVectorizer(TimmVectorizer):
    """What a timm network sees in each square of the picture.

    The last feature map before pooling (of a vision transformer its patch tokens,
    without the class token) is averaged within cells x cells squares; each square's
    mean is brought to length 1, and all are concatenated.

    Parameters
    ----------
    arch : str
        A timm name, with or without tag.
    file : path-like, optional
        Local weights, loaded strictly; without it they come from timm's hub.
    cells : int, default=2
        Squares a side.
    size, fit, layer, device, offline
        As of `TimmVectorizer`.
    trim, flip, views, precision
        As of `TimmVectorizer`.

    Examples
    --------
    >>> TimmGridVectorizer("resnet50", "resnet50.safetensors", cells=3).label
    'timm-grid:resnet50?cells=3'
    """

    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        "cells": positive,
        "size": positive,
        "fit": one_of(*FITS),
        "layer": str,
        **LOOK_OPTIONS,
        "precision": one_of(*PRECISIONS),
    }
    KIND = "timm-grid"
    LAST = "last map"

    def __init__(  # normalize is not among them: squares have length 1
        self,
        arch: str,
        file: str | Path | None = None,
        *,
        cells: int = 2,
        size: int | None = None,
        fit: str = "crop",
        layer: str | None = None,
        trim: bool = False,
        flip: bool = False,
        views: tuple[str, ...] = WHOLE,
        precision: str = "float32",
        device: str = "auto",
        offline: bool = False,
    ) -> None:
        self.arch = arch
        self.file = file
        self.cells: int = cells
        self.size = size
        self.fit = fit
        self.layer = layer
        self.trim = trim
        self.flip = flip
        self.views = views
        self.precision = precision
        self.device = device
        self.offline = offline

    @loaded
    def fingerprint(self) -> str:  # type: ignore[override]
        """Tell what the vectors depend on."""
        whole: str = TimmVectorizer.fingerprint.compute(self)
        return f"{whole}|cells={self.cells}"

    @loaded
    def _network(self) -> Any:
        from tllboost.vectorizers.timm_catalogue import build
        from tllboost.vectorizers.torch_maps import timm_maps
        from tllboost.vectorizers.torch_run import on_device

        network = build(
            self._catalogue_name, self._weights, size=self.size, what=self.short_name
        )
        try:
            maps = timm_maps(network, self.layer, what=self.name)
        except AttributeError as error:
            names = ", ".join(name for name, _ in network.named_children())
            msg = f"{self.name}: no layer {self.layer!r}; its parts: {names}"
            raise UnknownNameError(msg) from error
        return on_device(maps, self.device)
