"""Projections in and out of a bundle, as tensors.

The cells of a bundle: projection, merge, head and calibration, in and out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tllboost.bundle.heads import BUILT_IN, check_tensors, head_members, restore_head
from tllboost.calibration import Calibration
from tllboost.errors import TllboostError, UsageError
from tllboost.merges import resolve_merge
from tllboost.projections import NONE, PROJECTIONS, is_built_in, make_projection
from tllboost.projections.base import Projection
from tllboost.scoring import FittedCell, PairScorer
from tllboost.vectorizers import Vectorizer
from tllboost.vectorizers.weights import first_line

__all__ = ["calibration_record", "cell_members", "describe_cell", "restore_cell"]

PROJECTION = "projection.safetensors"


def projection_members(projection: Projection | None) -> tuple[str, dict[str, bytes]]:
    """Return the manifest's name of a fitted projection, and its members.

    Parameters
    ----------
    projection : Projection or None
        Fitted.

    Raises
    ------
    UsageError
        If it is not a built-in one.
    """
    if projection is None:
        return NONE, {}
    if not is_built_in(projection):
        path = f"{type(projection).__module__}:{type(projection).__qualname__}"
        msg = (
            f"projection {path!r} can't go into a bundle: built-in ones "
            f"can: {', '.join(PROJECTIONS)}"
        )
        raise UsageError(msg)
    return projection.spec, projection.to_members()


def restore_projection(spec: str, members: Mapping[str, bytes]) -> Projection | None:
    """Return a fitted projection from the members of a bundle.

    Parameters
    ----------
    spec : str
        As the manifest has it.
    members : mapping of str to bytes
        The ``projection.safetensors``, if there is one.

    Raises
    ------
    ValueError
        If it is not to be trusted, or damaged.
    """
    if ":" in spec:  # an import path: a stranger's code is never run
        msg = f"its projection {spec!r} is none that a bundle may hold"
        raise ValueError(msg)
    try:
        projection = make_projection(spec, device="cpu")
    except TllboostError as error:
        msg = f"projection {spec!r}: {error}"
        raise ValueError(msg) from error
    if (projection is None) != (not members):
        what = "has tensors of one" if members else "has no tensors of it"
        msg = f"its projection is {spec!r}, and it {what}"
        raise ValueError(msg)
    if projection is None:
        return None
    for name, data in members.items():
        check_tensors(name, data)
    try:
        return projection.from_members(members)
    except Exception as error:  # whatever a stranger's numbers may do to it
        reason = f"{type(error).__name__}: {first_line(error)}"
        msg = f"its projection can't be loaded ({reason})"
        raise ValueError(msg) from error


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
