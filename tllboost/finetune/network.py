"""The network behind a vectorizer: a copy to train, and the file that holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tllboost.errors import UsageError, WeightsError
from tllboost.vectorizers import Vectorizer
from tllboost.vectorizers.clip import ClipVectorizer
from tllboost.vectorizers.timm import TimmVectorizer
from tllboost.vectorizers.weights import read_weights

__all__ = ["all_tensors", "global_vectorizer", "with_file"]


def global_vectorizer(
    vectorizer: Vectorizer, device: str
) -> TimmVectorizer | ClipVectorizer:
    """Return a vectorizer of the same network's global vectors, with nothing loaded.

    Its network is a copy of its own, so that training changes no other.

    Raises
    ------
    UsageError
        If `vectorizer` is no single network of timm or open_clip, or takes an inner
        layer.
    """
    if getattr(vectorizer, "layer", None) is not None:
        msg = (
            f"{vectorizer.label}: fine-tuning trains the vectors of the last layer; "
            "leave layer= out"
        )
        raise UsageError(msg)
    if isinstance(vectorizer, TimmVectorizer):
        return TimmVectorizer(
            vectorizer.arch,
            vectorizer.file,
            size=vectorizer.size,
            fit=vectorizer.fit,
            trim=vectorizer.trim,
            device=device,
            offline=vectorizer.offline,
        )
    if isinstance(vectorizer, ClipVectorizer):
        return ClipVectorizer(
            vectorizer.arch,
            vectorizer.tag,
            vectorizer.file,
            fit=vectorizer.fit,
            trim=vectorizer.trim,
            device=device,
            offline=vectorizer.offline,
        )
    msg = (
        f"{vectorizer.label!r} can't be fine-tuned: give one network, timm:NAME@FILE "
        "or clip:ARCH:TAG@FILE"
    )
    raise UsageError(msg)


def with_file(vectorizer: Vectorizer, file: Path) -> Vectorizer:
    """Return the same kind of vectorizer, all its options kept, with other weights."""
    return type(vectorizer)(**vectorizer.get_params() | {"file": str(file)})


def all_tensors(
    vectorizer: TimmVectorizer | ClipVectorizer, network: Any
) -> dict[str, Any]:
    """Return what a file must hold for the library to load it strictly.

    For timm that is `network`; of open_clip the image tower is taken from `network`
    and all else, the text tower foremost, from the file that it was loaded from.

    Raises
    ------
    WeightsError
        If the tensors of that file have names that open_clip translates.
    """
    tower = {name: value.cpu() for name, value in network.state_dict().items()}
    if isinstance(vectorizer, TimmVectorizer):
        return {name: value.contiguous() for name, value in tower.items()}
    weights = vectorizer._weights
    whole = read_weights(weights, what=vectorizer.name)
    counters = {name for name in tower if name.endswith("num_batches_tracked")}
    if foreign := sorted(set(tower) - set(whole) - counters):
        msg = (
            f"{vectorizer.name}: {str(weights)!r} names its tensors otherwise than "
            f"open_clip (no {foreign[0]!r}); save it by open_clip and give that file"
        )
        raise WeightsError(msg)
    return {name: value.contiguous() for name, value in (whole | tower).items()}
