"""Which projections go with which vectorizers and heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tllboost.projections import NONE, make_projection
from tllboost.vectorizers.spec import parse_spec, positive, truth

if TYPE_CHECKING:
    from tllboost.finetune import FineTuneSettings

__all__ = [
    "FINETUNE",
    "check_projection",
    "has_joined_network",
    "parts_of",
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
_NETWORKS = ("timm", "clip")


def parts_of(projection: str) -> tuple[str, str]:
    """Return the fine-tuning and the map of vectors that a projection is made of.

    Examples
    --------
    >>> parts_of("finetune?stages=1/infonce"), parts_of("triplet/contrastive")
    (('finetune?stages=1', 'infonce'), ('none', 'triplet/contrastive'))
    """
    first, _, rest = projection.partition("/")
    if parse_spec(first).kind == FINETUNE:
        return first, rest or NONE
    return NONE, projection


def suits(vectorizer: Any, projection: str) -> bool:
    """Tell whether a projection can learn on a vectorizer.

    Fine-tuning needs a single network of timm or open_clip, a network from scratch
    needs pixels.

    Examples
    --------
    >>> from tllboost.vectorizers import make_vectorizer
    >>> classic = make_vectorizer("classic")
    >>> suits(classic, "infonce"), suits(classic, "finetune")
    (True, False)
    """
    is_fusion = hasattr(vectorizer, "parts")
    kind = "fusion" if is_fusion else parse_spec(vectorizer.name).kind
    tuning, rest = parts_of(projection)
    first, *others = (parse_spec(one).kind for one in rest.split("/"))
    if tuning != NONE:
        return kind in _NETWORKS and _SIAMESE_CNN not in (first, *others)
    return _SIAMESE_CNN not in others and (kind == "pixels" or first != _SIAMESE_CNN)


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
    tuning, rest = parts_of(projection)
    if tuning != NONE:
        tuning_settings(tuning)
    make_projection(rest)


def with_options(projection: str, **options: int | None) -> str:
    """Return a projection's name with options added where it takes and lacks them.

    Chains and fine-tuning stay as they are: it is not clear whose the options were.

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
    if "/" in projection or parse_spec(projection).kind in (NONE, FINETUNE):
        return projection
    taken = getattr(make_projection(projection), "OPTIONS", {})
    for key, value in options.items():
        if value is None or key not in taken or key in parse_spec(projection).options:
            continue
        mark = "&" if "?" in projection else "?"
        projection = f"{projection}{mark}{key}={value}"
    make_projection(projection)
    return projection
