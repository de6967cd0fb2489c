"""The names that options take, as shells complete and ``tllboost list`` shows them.

No model library is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tllboost.registry import import_path

_REGISTRIES = {
    "vectorizers": "tllboost.vectorizers:VECTORIZERS",
    "projections": "tllboost.projections:PROJECTIONS",
    "merges": "tllboost.merges:MERGES",
    "heads": "tllboost.heads:HEADS",
    "protocols": "tllboost.protocols:PROTOCOLS",
    "metrics": "tllboost.metrics:METRICS",
    "formats": "tllboost.grid.matrix:FORMATS",
}
_NONE = "vectors as the vectorizer gives them"
_FINETUNE = "the last stages of a timm: or clip: network, trained"


def names_of(kind: str) -> Mapping[str, str]:
    """Return the names of a kind as they are typed, with a line of description each."""
    registry = import_path(_REGISTRIES[kind])
    names = {name: registry[name].description for name in registry}
    if kind == "projections":
        return {"none": _NONE, **names, "finetune": _FINETUNE}
    if kind == "vectorizers":
        from tllboost.vectorizers import NETWORKS

        alone = {"classic", "pixels", "pocket"}
        names = {k if k in alone else f"{k}:": text for k, text in names.items()}
        names |= {name: one["description"] for name, one in NETWORKS.items()}
    return names


def complete(kind: str) -> Callable[[str], list[tuple[str, str]]]:
    """Return what offers a shell the names of a kind.

    Examples
    --------
    >>> [name for name, _ in complete("merges")("l")]
    ['l1', 'l2']
    """

    def offer(incomplete: str) -> list[tuple[str, str]]:
        known = names_of(kind).items()
        return [(name, text) for name, text in known if name.startswith(incomplete)]

    return offer
