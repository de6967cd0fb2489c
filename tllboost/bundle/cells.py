"""The cells of a bundle: projection, merge, head and calibration, in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tllboost.bundle.heads import BUILT_IN, head_members, restore_head
from tllboost.bundle.projections import (
    PROJECTION,
    projection_members,
    restore_projection,
)
from tllboost.calibration import Calibration
from tllboost.errors import UsageError
from tllboost.fitted import FittedCell
from tllboost.merges import resolve_merge
from tllboost.scorer import PairScorer
from tllboost.vectorizers import Vectorizer

__all__ = ["calibration_record", "cell_members", "describe_cell", "restore_cell"]


def describe_cell(
    cell: FittedCell, vectorizer: int
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest's record of a cell, and its members.

    Parameters
    ----------
    cell : FittedCell
    vectorizer : int
        Which of the bundle's vectorizers is its own.

    Raises
    ------
    UsageError
        If a part can't be made again elsewhere.
    """
    scorer = cell.scorer
    merge = _named_merge(scorer.merge)
    projection, members = projection_members(cell.projection)
    head, learned = head_members(scorer.head_)
    record = {
        "vectorizer": vectorizer,
        "projection": projection,
        "merge": merge,
        "head": head,
        "calibration": calibration_record(scorer.calibration_),
        "threshold": float(scorer.threshold_),
    }
    return record, {**members, **learned}


def restore_cell(
    record: Mapping[str, Any], members: Mapping[str, bytes], vectorizer: Vectorizer
) -> FittedCell:
    """Return a fitted cell from its record and its members.

    Parameters
    ----------
    record : mapping
        As the manifest has it.
    members : mapping of str to bytes
        By the names that :func:`describe_cell` gave.
    vectorizer : Vectorizer

    Raises
    ------
    ValueError
        If it is not to be trusted, or damaged.
    """
    own = {name: data for name, data in members.items() if name == PROJECTION}
    learned = {name: data for name, data in members.items() if name != PROJECTION}
    projection = restore_projection(record["projection"], own)
    head = restore_head(record["head"], learned)
    name = record["head"]["name"]
    if record["head"]["format"] != BUILT_IN:
        name = f"{type(head).__module__}:{type(head).__qualname__}"
    scorer = PairScorer(record["merge"], name)
    scorer.head_ = head
    scorer.calibration_ = Calibration(**record["calibration"])
    scorer.threshold_ = float(record["threshold"])
    return FittedCell(vectorizer, projection, scorer)


def cell_members(members: Mapping[str, Any], index: int) -> dict[str, str]:
    """Return the members of one cell: its own name of each, and that in the bundle.

    Examples
    --------
    >>> cell_members(["golden.safetensors", "0/head.json", "1/head.json"], 1)
    {'head.json': '1/head.json'}
    """
    prefix = f"{index}/"
    return {
        name.removeprefix(prefix): name for name in members if name.startswith(prefix)
    }


def calibration_record(calibration: Calibration) -> dict[str, float]:
    """Return a calibration as the manifest has it."""
    return {
        "slope": float(calibration.slope),
        "intercept": float(calibration.intercept),
    }


def _named_merge(merge: Any) -> str:
    if not isinstance(merge, str):
        msg = (
            f"merge {merge!r} can't go into a bundle: it is a function; give it by "
            "name, or as package.module:function"
        )
        raise UsageError(msg)
    resolve_merge(merge)
    return merge
