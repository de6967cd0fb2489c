"""Contrastive loss on labelled pairs, with a classification network joined to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tllboost.projections.batches import batches
from tllboost.projections.maps import COMMON_OPTIONS, SiameseMap
from tllboost.projections.options import above_zero
from tllboost.projections.stopping import Matches, find_loss
from tllboost.splits import PairSet
from tllboost.vectorizers.spec import one_of, truth

__all__ = ["ContrastiveProjection"]

# All pairs of that many validation matches go through the joined network.
_MOST_JOINED = 150

Floats = NDArray[np.float32]


class ContrastiveProjection(SiameseMap):
    """A map trained by the contrastive loss y·d² + (1 − y)·max(0, margin − d)².

    Hadsell, Chopra & LeCun, "Dimensionality reduction by learning an invariant
    mapping" (2006). As in the "full network" of the Totally-Looks-Like write-up, a
    classification network (128 units, ReLU, dropout 0.2) that reads product and
    difference of the two outputs is trained along, by cross-entropy; the head
    ``joined`` scores with it. ``joined=false`` leaves it out. ``depth=0`` is the full
    network without the deep map: one weight an axis. Other parameters as
    :class:`~tllboost.projections.maps.SiameseMap`.

    Examples
    --------
    >>> from tllboost.projections import make_projection
    >>> make_projection("contrastive?depth=0&joined=false").joined
    False
    """

    name = "contrastive"
    default_margin = 1.0
    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        **COMMON_OPTIONS,
        "margin": above_zero,
        "distance": one_of("cosine", "l2"),
        "joined": truth,
    }

    def joined_network(self, n_axes: int) -> Any:
        """Return the classification network on pairs of outputs."""
        from torch import nn

        if not self.joined:
            return None
        n_outputs = self.n_outputs(self.n_dims_in_, n_axes)
        return nn.Sequential(
            nn.Linear(2 * n_outputs, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 1)
        )

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
        from torch.nn.functional import binary_cross_entropy_with_logits

        weight = train.weight / train.weight.mean()
        for batch in batches(len(train), self.batch, rng):
            left = self.torch_unit(body(rows[train.left[batch]]))
            right = self.torch_unit(body(rows[train.right[batch]]))
            label, w = (
                torch.from_numpy(column[batch].astype(np.float32)).to(rows.device)
                for column in (train.label, weight)
            )
            distance = self.torch_distance(left, right)
            beyond = (self._margin - distance).clamp(min=0)
            pull = label * distance.square() + (1 - label) * beyond.square()
            loss = (w * pull).mean()
            if joined is not None:
                pairs = torch.cat([left * right, (left - right).abs()], dim=1)
                loss = loss + binary_cross_entropy_with_logits(
                    joined(pairs).squeeze(1), label, w
                )
            yield loss

    def validation_loss(
        self, projected: Floats, matches: Matches, joined: Any = None
    ) -> float:
        """Return the loss of the map, and that of the joined network if there is one.

        Both are told: the epoch that is kept has to serve the heads on the map and the
        head ``joined``, which begins at nothing.
        """
        loss = super().validation_loss(projected, matches)
        if joined is None:
            return loss
        rows = np.linspace(0, len(matches) - 1, min(len(matches), _MOST_JOINED))
        rows = np.unique(rows.astype(int))
        similarity = self._joined_scores(
            projected[matches.left[rows]], projected[matches.right[rows]], joined
        )
        return loss + find_loss(similarity, matches.component[rows])

    def _joined_scores(self, left: Floats, right: Floats, joined: Any) -> Floats:
        """Score every left picture with every right one: (n_left, n_right)."""
        import torch

        device = next(joined.parameters()).device
        a, b = (
            self.torch_unit(torch.from_numpy(side).to(device)) for side in (left, right)
        )
        with torch.no_grad():
            scores = [joined(torch.cat([one * b, (one - b).abs()], dim=1)) for one in a]
        scored: Floats = torch.stack(scores).squeeze(2).cpu().numpy()
        return scored
