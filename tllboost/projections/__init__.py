"""Projections: learned maps of vectors to vectors, fitted on the training side alone.

A projection is the shared half of a Siamese network: both pictures of a pair go through
the same map, and the map is trained so that matches come to lie close. It stands
between the vectorizer and the merge; ``none`` leaves vectors as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tllboost.registry import Entry, Registry
from tllboost.vectorizers.spec import parse_spec

if TYPE_CHECKING:
    from tllboost.projections.base import Projection

__all__ = ["NONE", "PROJECTIONS", "make_projection"]

NONE = "none"

PROJECTIONS = Registry(
    "projection",
    {
        "infonce": Entry(
            "tllboost.projections.infonce:InfoNCEProjection",
            "each picture finds its match among those of the batch (InfoNCE)",
        ),
        "triplet": Entry(
            "tllboost.projections.triplet:TripletProjection",
            "a match lies closer than a non-match by a margin (triplet loss)",
        ),
        "contrastive": Entry(
            "tllboost.projections.contrastive:ContrastiveProjection",
            "matches close, non-matches beyond a margin, and a joined network",
        ),
        "siamese-cnn": Entry(
            "tllboost.projections.siamese_cnn:SiameseCNNProjection",
            "a small convolutional network from scratch, on pixels: the floor",
        ),
    },
)


def make_projection(
    spec: str, *, seed: int = 0, device: str = "auto", n_threads: int | None = None
) -> Projection | None:
    """Return an unfitted projection, None for ``none``.

    Parameters
    ----------
    spec : str
        A name of :data:`PROJECTIONS`, options after a question mark:
        ``infonce?components=256&depth=2``.
    seed : int, default=0
    device : str, default="auto"
        Where it trains: ``auto``, ``cpu``, ``cuda``.
    n_threads : int or None, default=None
        Threads that it trains with; None leaves torch's default.

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
    parsed = parse_spec(spec)
    if parsed.kind == NONE:
        parsed.without_options()
        return None
    kind = PROJECTIONS.resolve(parsed.kind)
    options = parsed.typed_options(kind.OPTIONS)
    made: Projection = kind(
        **options, random_state=seed, device=device, n_threads=n_threads
    )
    return made
