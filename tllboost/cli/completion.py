"""The names that options take, as shells complete and ``tllboost list`` shows them.

No model library is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tllboost.registry import import_path

__all__ = ["complete", "names_of"]

_REGISTRIES = {
    "vectorizers": "tllboost.vectorizers:VECTORIZERS",
    "projections": "tllboost.projections:PROJECTIONS",
    "merges": "tllboost.merges:MERGES",
    "heads": "tllboost.heads:HEADS",
    "protocols": "tllboost.protocols:PROTOCOLS",
    "metrics": "tllboost.metrics:METRICS",
    "formats": "tllboost.grid.matrix:FORMATS",
}
_ELSEWHERE = {
    "backends": {"local": "processes of this machine", "dask": "a Dask cluster"},
    "devices": {
        "auto": "a graphics card where there is one, else the processor",
        "cpu": "the processor",
        "cuda": "a graphics card",
    },
    "groups": {"folder": "each subfolder is a group"},
    "none": {"none": "vectors as the vectorizer gives them"},
    "finetune": {"finetune": "the last stages of a timm: or clip: network, trained"},
}


def names_of(kind: str) -> Mapping[str, str]:
    """Return the names of a kind as they are typed, with a line of description each."""
    if kind in _ELSEWHERE:
        return _ELSEWHERE[kind]
    registry = import_path(_REGISTRIES[kind])
    names = {name: registry[name].description for name in registry}
    if kind == "projections":
        return _ELSEWHERE["none"] | names | _ELSEWHERE["finetune"]
    if kind == "vectorizers":
        from tllboost.vectorizers import NETWORKS

        alone = {"classic", "pixels", "pocket"}
        names = {k if k in alone else f"{k}:": text for k, text in names.items()}
        names |= {name: network.description for name, network in NETWORKS.items()}
    return names


def complete(kind: str) -> Callable[[str], list[tuple[str, str]]]:
    """Return what offers a shell the names of a kind, and what may join them.

    Examples
    --------
    >>> [name for name, _ in complete("merges+")("dot+l")]
    ['dot+l1', 'dot+l2']
    """
    joint = kind[-1] if kind[-1] in "+/" else ""
    kind = kind.removesuffix(joint)

    def offer(incomplete: str) -> list[tuple[str, str]]:
        before, last = "", incomplete
        if joint and joint in incomplete:
            start, _, last = incomplete.rpartition(joint)
            before = start + joint
        return [
            (before + name, text)
            for name, text in names_of(kind).items()
            # Nothing but a chain of learned projections stands behind a slash.
            if name.startswith(last) and not (before and name == "none")
        ]

    return offer
