"""``timm:NAME[@FILE]``: penultimate vectors of a network of the timm library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from tllboost.errors import UnknownNameError, UsageError
from tllboost.vectorizers.base import loaded
from tllboost.vectorizers.looks import LOOK_OPTIONS, WHOLE
from tllboost.vectorizers.preprocess import FITS, Preprocessing
from tllboost.vectorizers.spec import Spec, one_of, positive, truth
from tllboost.vectorizers.torch_network import PRECISIONS, TorchVectorizer
from tllboost.vectorizers.weights import local_file, sha256_of

__all__ = ["TimmVectorizer"]


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
    layer : str, optional
        Name of an inner module whose output is taken; maps and token sequences are
        averaged.
    normalize : bool, default=False
        Whether vectors are scaled to length 1.
    trim, flip, views : bool, bool, sequence of str
        See `Looks`; by default the picture as it is.
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

    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        "size": positive,
        "fit": one_of(*FITS),
        "layer": str,
        "normalize": truth,
        **LOOK_OPTIONS,
        "precision": one_of(*PRECISIONS),
    }
    KIND: ClassVar[str] = "timm"
    LAST: ClassVar[str] = "penultimate"  # the layer taken where none is named

    def __init__(
        self,
        arch: str,
        file: str | Path | None = None,
        *,
        size: int | None = None,
        fit: str = "crop",
        layer: str | None = None,
        normalize: bool = False,
        trim: bool = False,
        flip: bool = False,
        views: tuple[str, ...] = WHOLE,
        precision: str = "float32",
        device: str = "auto",
        offline: bool = False,
    ) -> None:
        self.arch = arch
        self.file = file
        self.size = size
        self.fit = fit
        self.layer = layer
        self.normalize = normalize
        self.trim = trim
        self.flip = flip
        self.views = views
        self.precision = precision
        self.device = device
        self.offline = offline

    @classmethod
    def from_spec(cls, spec: Spec, *, device: str, offline: bool) -> Self:
        """Build one from ``timm:NAME[@FILE]``."""
        arch, at, file = spec.rest.partition("@")
        if not arch or (at and not file):
            msg = f"{spec.text!r}: write {cls.KIND}:NAME or {cls.KIND}:NAME@FILE"
            raise UsageError(msg)
        options = spec.typed_options(cls.OPTIONS)
        return cls(arch, file or None, **options, device=device, offline=offline)

    @property
    def name(self) -> str:
        """The spelling without options."""
        return self.short_name + (f"@{self.file}" if self.file else "")

    @property
    def short_name(self) -> str:
        """The name for tables: without the file."""
        return f"{self.KIND}:{self.arch}"

    @loaded
    def fingerprint(self) -> str:  # type: ignore[override]
        """Tell what the vectors depend on."""
        from importlib.metadata import version

        return (
            f"{self.KIND}|{self._catalogue_name}|sha256:{sha256_of(self._weights)}"
            f"|{self.preprocessing}|layer={self.layer or self.LAST}"
            f"|unit={self.normalize}|{self.precision}"
            f"|timm {version('timm').split('.')[0]}{self.looks}"
        )

    @loaded
    def preprocessing(self) -> Preprocessing:  # type: ignore[override]
        """How a picture becomes the network's input, by timm's own record of it."""
        config = self._config
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
        from tllboost.vectorizers.timm_catalogue import catalogue_name

        return catalogue_name(self.arch)

    @loaded
    def _config(self) -> dict[str, Any]:
        from tllboost.vectorizers.timm_catalogue import data_config

        return data_config(self._catalogue_name)

    @loaded
    def _weights(self) -> Path:
        from tllboost.vectorizers.timm_catalogue import published_weights

        if self.file is not None:
            return local_file(self.file, what=self.name)
        return published_weights(
            self._catalogue_name, what=self.short_name, offline=self.offline
        )

    @loaded
    def _network(self) -> Any:
        from tllboost.vectorizers.timm_catalogue import build
        from tllboost.vectorizers.torch_run import on_device, tap

        network = build(
            self._catalogue_name, self._weights, size=self.size, what=self.short_name
        )
        if self.layer is not None:
            try:
                network = tap(network, self.layer)
            except AttributeError as error:
                names = ", ".join(name for name, _ in network.named_children())
                msg = f"{self.name}: no layer {self.layer!r}; its parts: {names}"
                raise UnknownNameError(msg) from error
        return on_device(network, self.device)
