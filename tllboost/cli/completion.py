"""What a shell offers for the value of an option; no model library is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = [
    "complete_backend",
    "complete_device",
    "complete_format",
    "complete_groups",
    "complete_head",
    "complete_merge",
    "complete_metric",
    "complete_projection",
    "complete_protocol",
    "complete_vectorizer",
]

Offers = list[tuple[str, str]]


def complete_vectorizer(incomplete: str) -> Offers:
    """Offer kinds of vectorizers and the usual networks, behind a ``+`` as well."""
    from tllboost.vectorizers import VECTORIZERS
    from tllboost.vectorizers.networks import NETWORKS

    alone = {"classic", "pixels", "pocket"}
    kinds = {
        kind if kind in alone else f"{kind}:": VECTORIZERS[kind].description
        for kind in VECTORIZERS
    }
    networks = {name: network.description for name, network in NETWORKS.items()}
    return _offers(kinds | networks, incomplete, joint="+")


def complete_projection(incomplete: str) -> Offers:
    """Offer projections, behind a ``/`` as well."""
    from tllboost.projections import NONE, PROJECTIONS

    names = {name: PROJECTIONS[name].description for name in PROJECTIONS}
    names["finetune"] = "the last stages of a timm: or clip: network, trained"
    if "/" not in incomplete:
        names[NONE] = "vectors as the vectorizer gives them"
    return _offers(names, incomplete, joint="/")


def complete_merge(incomplete: str) -> Offers:
    """Offer merges, behind a ``+`` as well."""
    from tllboost.merges import MERGES

    names = {name: MERGES[name].description for name in MERGES}
    return _offers(names, incomplete, joint="+")


def complete_head(incomplete: str) -> Offers:
    """Offer heads."""
    from tllboost.heads import HEADS

    return _offers({name: HEADS[name].description for name in HEADS}, incomplete)


def complete_protocol(incomplete: str) -> Offers:
    """Offer protocols."""
    from tllboost.splits import PROTOCOLS

    names = {name: PROTOCOLS[name].description for name in PROTOCOLS}
    return _offers(names, incomplete)


def complete_metric(incomplete: str) -> Offers:
    """Offer metrics."""
    from tllboost.metrics import METRICS

    return _offers({name: METRICS[name].description for name in METRICS}, incomplete)


def complete_format(incomplete: str) -> Offers:
    """Offer what a matrix can be printed as."""
    from tllboost.grid.matrix import FORMATS

    names = {name: FORMATS[name].description for name in FORMATS}
    return _offers(names | {"json": "the rows of results"}, incomplete)


def complete_backend(incomplete: str) -> Offers:
    """Offer who may do the work."""
    backends = {"local": "processes of this machine", "dask": "a Dask cluster"}
    return _offers(backends, incomplete)


def complete_device(incomplete: str) -> Offers:
    """Offer the places where networks run."""
    devices = {
        "auto": "what there is",
        "cpu": "the processor",
        "cuda": "a graphics card",
    }
    return _offers(devices, incomplete)


def complete_groups(incomplete: str) -> Offers:
    """Offer the one rule that is no pattern."""
    return _offers({"folder": "a subfolder is a group"}, incomplete)


def _offers(names: Mapping[str, str], incomplete: str, *, joint: str = "") -> Offers:
    """Return the names that go on from what was typed, or from its last part."""
    before, last = "", incomplete
    if joint and joint in incomplete:
        start, _, last = incomplete.rpartition(joint)
        before = start + joint
    return [(before + name, names[name]) for name in _starting(names, last)]


def _starting(names: Iterable[str], text: str) -> list[str]:
    return [name for name in names if name.startswith(text)]
