"""``clip:ARCH:TAG[@FILE]``: the image tower of an open_clip network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tllboost.errors import UsageError
from tllboost.vectorizers.base import loaded
from tllboost.vectorizers.looks import LOOK_OPTIONS, WHOLE
from tllboost.vectorizers.preprocess import FITS, Preprocessing
from tllboost.vectorizers.spec import Spec, one_of, truth
from tllboost.vectorizers.torch_network import PRECISIONS, TorchVectorizer
from tllboost.vectorizers.weights import local_file, sha256_of

if TYPE_CHECKING:
    from tllboost.vectorizers.clip_catalogue import Recipe

__all__ = ["ClipVectorizer"]


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
        """How a picture becomes the network's input: the tag's own way."""
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
        from tllboost.vectorizers.clip_catalogue import recipe_of

        return recipe_of(self.arch, self.tag)

    @loaded
    def _weights(self) -> Path:
        from tllboost.vectorizers.clip_catalogue import published_weights

        if self.file is not None:
            return local_file(self.file, what=self.name)
        return published_weights(
            self.arch, self.tag, what=self.short_name, offline=self.offline
        )

    @loaded
    def _network(self) -> Any:
        from tllboost.vectorizers.clip_catalogue import build
        from tllboost.vectorizers.torch_run import on_device

        tower = build(
            self.arch,
            self._weights,
            quick_gelu=self._recipe.quick_gelu,
            what=self.short_name,
        )
        return on_device(tower, self.device)
