"""Strong, honest baselines for image-pair similarity.

Names below are imported when first used, so that ``import tllboost`` is quick.
"""

import sys

# ``python -m tllboost`` looks into the working folder first, where a stranger's
# ``random.py`` may lie: before anything else is imported, it looks there no more.
if (
    sys.argv[:1] == ["-m"]
    and not sys.flags.safe_path
    and any(one.removeprefix("-m") == "tllboost" for one in sys.orig_argv)
):
    del sys.path[0]

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tllboost.bundle import save_bundle as save_bundle
    from tllboost.classifier import PairClassifier as PairClassifier
    from tllboost.classifier import SiameseProjection as SiameseProjection
    from tllboost.classifier import load as load
    from tllboost.classifier import load_bundle as load_bundle
    from tllboost.grid.run import run_grid as run_grid
    from tllboost.merges import PairFeatures as PairFeatures
    from tllboost.merges import merge_pairs as merge_pairs
    from tllboost.pairs import read_candidates as read_candidates
    from tllboost.pairs import read_pairs as read_pairs
    from tllboost.pairs.groups import read_groups as read_groups
    from tllboost.store import VectorStore as VectorStore
    from tllboost.vectorizers import make_vectorizer as make_vectorizer
    from tllboost.vectorizing import vectorize as vectorize

__version__ = "0.1.0"

_HOMES = {
    "PairClassifier": "classifier",
    "PairFeatures": "merges",
    "SiameseProjection": "classifier",
    "VectorStore": "store",
    "load": "classifier",
    "load_bundle": "classifier",
    "make_vectorizer": "vectorizers",
    "merge_pairs": "merges",
    "read_candidates": "pairs",
    "read_groups": "pairs.groups",
    "read_pairs": "pairs",
    "run_grid": "grid.run",
    "save_bundle": "bundle",
    "vectorize": "vectorizing",
}


__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
