"""Projections in and out of a bundle, as tensors."""

from __future__ import annotations

from collections.abc import Mapping

from tllboost.bundle.tensors import check_tensors
from tllboost.errors import TllboostError, UsageError
from tllboost.projections import NONE, PROJECTIONS, is_built_in, make_projection
from tllboost.projections.base import Projection
from tllboost.vectorizers.weights import first_line

__all__ = ["PROJECTION", "projection_members", "restore_projection"]

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
