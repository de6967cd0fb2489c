"""Strong, honest baselines for image-pair similarity.

Names below are imported when first used, so that ``import tllboost`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tllboost.bundle import load_bundle, save_bundle
    from tllboost.classifier import PairClassifier, SiameseProjection
    from tllboost.grid import run_grid
    from tllboost.merges import PairFeatures, merge_pairs
    from tllboost.pairs import read_candidates, read_pairs
    from tllboost.pairs.groups import read_groups
    from tllboost.store import VectorStore
    from tllboost.vectorizers import make_vectorizer
    from tllboost.vectorizing import vectorize

__all__ = [
    "PairClassifier",
    "PairFeatures",
    "SiameseProjection",
    "VectorStore",
    "__version__",
    "load_bundle",
    "make_vectorizer",
    "merge_pairs",
    "read_candidates",
    "read_groups",
    "read_pairs",
    "run_grid",
    "save_bundle",
    "vectorize",
]

__version__ = "0.1.0"

_HOMES = {
    "PairClassifier": "classifier",
    "PairFeatures": "merges",
    "SiameseProjection": "classifier",
    "VectorStore": "store",
    "load_bundle": "bundle",
    "make_vectorizer": "vectorizers",
    "merge_pairs": "merges",
    "read_candidates": "pairs",
    "read_groups": "pairs.groups",
    "read_pairs": "pairs",
    "run_grid": "grid",
    "save_bundle": "bundle",
    "vectorize": "vectorizing",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
