"""Projections: learned maps of vectors to vectors, fitted on the training set alone.

A projection is the shared half of a Siamese network: both images of a pair go through
the same map, and the map is trained so that matches come to lie close. It stands
between the vectorizer and the merge; ``none`` leaves vectors as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tllboost.errors import WHY, UsageError, retold
from tllboost.registry import Entry, Registry, import_path, parse_spec, path_of

if TYPE_CHECKING:
    from tllboost.projections.base import Projection


NONE = "none"
CROSSFIT = "crossfit"
"""What stands before a projection of which each training pair meets another fit."""

PROJECTIONS = Registry(
    "projection",
    {
        "infonce": Entry(
            "tllboost.projections.losses:InfoNCEProjection",
            "each image must find its match in the batch (InfoNCE)",
            needs=("torch",),
        ),
        "triplet": Entry(
            "tllboost.projections.losses:TripletProjection",
            "a match must be closer than a non-match by a margin (triplet loss)",
            needs=("torch",),
        ),
        "contrastive": Entry(
            "tllboost.projections.losses:ContrastiveProjection",
            "matches close, non-matches beyond a margin, and a joined network",
            needs=("torch",),
        ),
        "siamese-cnn": Entry(
            "tllboost.projections.siamese_cnn:SiameseCNNProjection",
            "a small convolutional network from scratch, on pixels: a lower bound",
            needs=("torch",),
        ),
    },
)


def make_projection(
    spec: str | Any,
    *,
    seed: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
    widths: Sequence[int] | None = None,
) -> Projection | None:
    """Return an unfitted projection, None for ``none``.

    Parameters
    ----------
    spec : str or Projection
        A name of :data:`PROJECTIONS`, or ``package.module:Class`` for one of your own,
        options after a question mark: ``infonce?components=256&depth=2``. Names joined
        by slashes stand on top of each other: ``triplet/contrastive``. ``crossfit/``
        before them fits them a fold at a time, for the merge ``similarity``. One of
        your own inherits from :class:`~tllboost.projections.base.Projection`. Of an
        object a copy is returned.
    seed : int, default=0
    device : str, default="auto"
        Where it trains: ``auto``, ``cpu``, ``cuda``.
    n_threads : int or None, default=None
        Threads that it trains with; None leaves torch's default. Seed, device and
        threads of an object are its own.
    widths : sequence of int or None, default=None
        Of the parts of a vector, for ``crossfit``; None for one part.

    Raises
    ------
    UnknownNameError
        If nothing has that name.
    UsageError
        If an option is wrong.

    Examples
    --------
    >>> make_projection("infonce?components=64&depth=2").spec
    'infonce?components=64&depth=2'
    >>> make_projection("none") is None
    True
    """
    if not isinstance(spec, str):
        return _copy(spec)
    if spec.partition("?")[0] == NONE:
        parse_spec(spec).typed_options({})
        return None
    how: dict[str, Any] = {"seed": seed, "device": device, "n_threads": n_threads}
    context = {"random_state": seed, "device": device, "n_threads": n_threads}
    first, _, rest = spec.partition("/")
    if parse_spec(first).kind == CROSSFIT:
        from tllboost.projections.composed import CrossFitProjection

        if (part := make_projection(rest or NONE, **how)) is None:
            msg = f"projection {spec!r} needs one to fit: {first}/infonce"
            raise UsageError(msg)
        options = parse_spec(first).typed_options(CrossFitProjection.OPTIONS)
        return CrossFitProjection(
            part=part, widths=widths, random_state=seed, **options
        )
    parts = [_make_one(text, context) for text in spec.split("/")]
    if len(parts) == 1:
        return parts[0]
    from tllboost.projections.composed import ChainProjection

    return ChainProjection(tuple(parts))


def is_built_in(projection: Projection) -> bool:
    """Tell whether no class of the user's own is in a projection.

    Examples
    --------
    >>> is_built_in(make_projection("triplet/infonce"))
    True
    """
    paths = {entry.path for entry in PROJECTIONS.values()}
    return {*map(path_of, getattr(projection, "parts", [projection]))} <= paths


def _make_one(text: str, context: Mapping[str, Any]) -> Projection:
    """Return one part of a chain."""
    parsed = parse_spec(text)
    if parsed.kind in (NONE, ""):
        msg = f"{parsed.kind!r} can't be a part of a chain: give learned projections"
        raise UsageError(msg)
    if parsed.kind in PROJECTIONS:
        parsed.refuse_rest()
        # Only training needs libraries: resolved whole, a bundle's would need them too.
        kind = import_path(PROJECTIONS[parsed.kind].path)
    else:
        kind = PROJECTIONS.resolve(text.partition("?")[0])
    if not isinstance(kind, type):
        parsed.typed_options({})
        return _copy(kind)
    options = parsed.typed_options(getattr(kind, "OPTIONS", {}))
    known = inspect.signature(kind).parameters
    why = f"projection {text!r} can't be made without more arguments: {WHY}"
    with retold(why, UsageError, TypeError):
        made = kind(**options, **{k: v for k, v in context.items() if k in known})
    return _checked(made)


def _copy(given: Any) -> Projection:
    """Return an unfitted copy of a projection."""
    from sklearn.base import clone

    _checked(given).check_options()
    return _checked(clone(given))


def _checked(given: Any) -> Projection:
    from tllboost.projections.base import Projection

    if not isinstance(given, Projection):
        msg = (
            f"{given!r} is not a projection: inherit from "
            "tllboost.projections.base.Projection"
        )
        raise UsageError(msg)
    return given
