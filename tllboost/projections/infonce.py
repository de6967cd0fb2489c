"""InfoNCE: each picture must find its match among those of the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from tllboost.projections.batches import batches
from tllboost.projections.maps import COMMON_OPTIONS, SiameseMap
from tllboost.projections.options import above_zero
from tllboost.projections.stopping import Matches
from tllboost.splits import PairSet

__all__ = ["InfoNCEProjection"]


class InfoNCEProjection(SiameseMap):
    """A map trained by in-batch InfoNCE with temperature, in both directions.

    Cross-entropy of finding the right picture of each left one among all rights of
    the batch, and the other way round (van den Oord et al., "Representation learning
    with contrastive predictive coding", 2018). Pictures of the same component are
    never each other's negatives.

    Parameters as :class:`~tllboost.projections.maps.SiameseMap`; ``temperature`` is
    its own.

    Examples
    --------
    >>> from tllboost.projections import make_projection
    >>> make_projection("infonce?temperature=0.1").temperature
    0.1
    """

    name = "infonce"
    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        **COMMON_OPTIONS,
        "temperature": above_zero,
    }

    def losses(
        self,
        body: Any,
        rows: Any,
        train: PairSet,
        matches: Matches,
        rng: np.random.Generator,
        joined: Any = None,
    ) -> Iterator[Any]:
        """Yield the loss of each step of one epoch."""
        import torch
        from torch.nn.functional import cross_entropy, normalize

        for batch in batches(len(matches), self.batch, rng):
            left = normalize(body(rows[matches.left[batch]]), dim=1)
            right = normalize(body(rows[matches.right[batch]]), dim=1)
            component = torch.from_numpy(matches.component[batch]).to(rows.device)
            own = torch.arange(len(batch), device=rows.device)
            tied = component[:, None] == component[None, :]
            tied[own, own] = False
            logits = (left @ right.T / self.temperature).masked_fill(tied, -torch.inf)
            yield (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
