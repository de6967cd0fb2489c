"""Which projections go with which vectorizers and heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tllboost.errors import UsageError
from tllboost.projections import NONE, make_projection
from tllboost.vectorizers.spec import parse_spec, positive, truth

if TYPE_CHECKING:
    from tllboost.finetune import FineTuneSettings

__all__ = [
    "FINETUNE",
    "check_projection",
    "has_joined_network",
    "is_finetune",
    "suits",
    "tuning_settings",
    "with_options",
]

FINETUNE = "finetune"
_SIAMESE_CNN = "siamese-cnn"
_TUNING_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "stages": positive,
    "epochs": positive,
    "patience": positive,
    "batch": positive,
    "rate": float,
    "temperature": float,
    "components": int,
    "views": int,
}
_TUNING_NAMES = {
    "stages": "n_stages",
    "epochs": "n_epochs",
    "batch": "batch_size",
    "rate": "learning_rate",
    "components": "n_components",
    "views": "n_views",
}
_OF_NETWORKS = ("timm:", "clip:")


def is_finetune(projection: str) -> bool:
    """Tell the projection that trains the network itself.

    Examples
    --------
    >>> is_finetune("finetune?stages=1"), is_finetune("triplet")
    (True, False)
    """
    return parse_spec(projection).kind == FINETUNE


def suits(vectorizer: str, projection: str) -> bool:
    """Tell whether a projection can learn on a vectorizer.

    Fine-tuning needs a single network of timm or open_clip, a network from scratch
    needs pixels, and pixels have nothing else to be projected.

    Examples
    --------
    >>> suits("classic", "infonce"), suits("classic", "finetune")
    (True, False)
    """
    kind = parse_spec(projection).kind
    if kind == FINETUNE:
        return vectorizer.startswith(_OF_NETWORKS) and "+" not in vectorizer
    if kind == _SIAMESE_CNN:
        return parse_spec(vectorizer).kind == "pixels" and "+" not in vectorizer
    return True


def tuning_settings(projection: str) -> FineTuneSettings:
    """Return the settings that ``finetune?stages=1&epochs=3`` stands for.

    Raises
    ------
    UsageError
        If an option is unknown or wrong.

    Examples
    --------
    >>> tuning_settings("finetune?stages=1").n_stages
    1
    """
    from tllboost.finetune import FineTuneSettings

    options = parse_spec(projection).typed_options(_TUNING_OPTIONS)
    return FineTuneSettings(**{_TUNING_NAMES.get(k, k): v for k, v in options.items()})


def has_joined_network(projection: str) -> bool:
    """Tell whether a projection brings a classification network along.

    Examples
    --------
    >>> has_joined_network("contrastive"), has_joined_network("infonce")
    (True, False)
    """
    last = parse_spec(projection.rpartition("/")[2])
    return last.kind == "contrastive" and truth(last.options.get("joined", "true"))


def check_projection(projection: str) -> None:
    """Refuse a name or an option that is not known.

    Raises
    ------
    UnknownNameError
        If nothing has that name.
    UsageError
        If an option is wrong.
    """
    if is_finetune(projection):
        tuning_settings(projection)
    else:
        make_projection(projection)


def with_options(projection: str, **options: int | None) -> str:
    """Return a projection's name with options added where it takes and lacks them.

    Raises
    ------
    UnknownNameError
        If nothing has that name.
    UsageError
        If an option is wrong.

    Examples
    --------
    >>> with_options("infonce?depth=2", depth=1, components=64)
    'infonce?depth=2&components=64'
    >>> with_options("none", components=64)
    'none'
    """
    for key, value in options.items():
        if value is None or key in parse_spec(projection).options:
            continue
        if "/" in projection or parse_spec(projection).kind in (NONE, FINETUNE):
            continue
        mark = "&" if "?" in projection else "?"
        longer = f"{projection}{mark}{key}={value}"
        try:
            make_projection(longer)
        except UsageError:
            make_projection(projection)
            if key not in ("components", "depth"):
                raise
            continue
        projection = longer
    return projection
