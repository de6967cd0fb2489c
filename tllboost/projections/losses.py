"""The losses that a Siamese map is trained by: InfoNCE, triplet and contrastive.

Each is a :class:`~tllboost.projections.siamese.SiameseMap` that yields the loss of
every step of an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.projections.base import find_loss
from tllboost.projections.siamese import Epoch, SiameseMap
from tllboost.registry import above_zero, one_of, option, positive, truth
from tllboost.splits import PairSet
from tllboost.splits.negatives import draw_negatives


def batches(n: int, size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return a random order of `n` things in batches of about `size`, all alike.

    Examples
    --------
    >>> [len(one) for one in batches(10, 4, np.random.default_rng(0))]
    [5, 5]
    """
    return np.array_split(rng.permutation(n), max(1, round(n / size)))


def info_nce(left: Any, right: Any, component: Any, temperature: float) -> Any:
    """Return InfoNCE in both directions, each match told from the rest of its batch.

    Parameters
    ----------
    left, right : torch.Tensor of shape (n_matches, n_components)
    component : torch.Tensor of shape (n_matches,)
        Two matches of one component are no non-matches of each other.
    temperature : float
        What cosines are divided by.

    Returns
    -------
    torch.Tensor of shape ()

    References
    ----------
    van den Oord, Li & Vinyals (2018), Representation Learning with Contrastive
    Predictive Coding.
    """
    import torch
    from torch.nn.functional import cross_entropy, normalize

    score = normalize(left.float()) @ normalize(right.float()).T / temperature
    own = torch.arange(len(score), device=score.device)
    same = component[:, None] == component[None, :]
    same[own, own] = False
    score = score.masked_fill(same, float("-inf"))
    return (cross_entropy(score, own) + cross_entropy(score.T, own)) / 2


@dataclass(eq=False, repr=False, kw_only=True)
class InfoNCEProjection(SiameseMap):
    """A map trained by in-batch InfoNCE with temperature, in both directions.

    Cross-entropy of finding the right image of each left one among all rights of
    the batch, and the other way round (van den Oord et al., "Representation learning
    with contrastive predictive coding", 2018). Images of the same component are
    never each other's negatives.

    Parameters as :class:`~tllboost.projections.siamese.SiameseMap`, and these.

    Parameters
    ----------
    temperature : float, default=0.05
        What cosines are divided by.

    Examples
    --------
    >>> from tllboost.projections import make_projection
    >>> make_projection("infonce?temperature=0.1").temperature
    0.1
    """

    name = "infonce"
    temperature: float = option(0.05, above_zero)

    def losses(self, now: Epoch) -> Iterator[Any]:
        """Yield the loss of each step of one epoch."""
        import torch

        body, _, rows, _, matches, rng = now
        for batch in batches(len(matches), self.batch, rng):
            yield info_nce(
                body(rows[matches.left[batch]]),
                body(rows[matches.right[batch]]),
                torch.from_numpy(matches.component[batch]).to(rows.device),
                self.temperature,
            )


@dataclass(eq=False, repr=False, kw_only=True)
class TripletProjection(SiameseMap):
    """A map trained by the triplet loss max(0, D(a, p) − D(a, n) + margin).

    Schroff et al., "FaceNet" (2015), as in the Totally-Looks-Like write-up: for each
    match, other images are drawn anew in each epoch, 19 by default, and here in both
    directions: each image of a match is the anchor once.

    Parameters as :class:`~tllboost.projections.siamese.SiameseMap`, and these.

    Parameters
    ----------
    margin : float, default=0.2
    distance : {"cosine", "l2"}, default="cosine"
        1 − cosine, or Euclidean.
    negatives : {"random", "semi-hard", "hard"}, default="random"
        Which of the drawn non-matches count: all, those farther than the match but
        inside the margin, or the nearest of each anchor.
    n_negatives : int, default=19
        Non-matches drawn for each match in each epoch.

    Examples
    --------
    >>> from tllboost.projections import make_projection
    >>> make_projection("triplet?distance=l2&negatives=hard").distance
    'l2'
    """

    name = "triplet"
    margin: float = option(0.2, above_zero)
    distance: str = option("cosine", one_of("cosine", "l2"))
    negatives: str = option("random", one_of("random", "semi-hard", "hard"))
    n_negatives: int = option(19, positive)

    def losses(self, now: Epoch) -> Iterator[Any]:
        """Yield the loss of each step of one epoch; a step without triplet has none."""
        import torch

        body, _, rows, _, matches, rng = now
        directions = (matches.left, matches.right), (matches.right, matches.left)
        for anchor, positives in directions:
            images, first = np.unique(positives, return_index=True)
            of_images = matches.component[first]
            others = draw_negatives(
                matches.component, images, of_images, self.n_negatives, rng
            )
            for batch in batches(len(matches), self.batch, rng):
                # Images are drawn many times over: each is mapped once a step.
                used, place = np.unique(others[batch], return_inverse=True)
                place = place.reshape(others[batch].shape)
                a, p = body(rows[anchor[batch]]), body(rows[positives[batch]])
                near = self.torch_distance(a, p)[:, None]
                far = self.torch_distances(a, body(rows[used.clip(min=0)]))
                far = far.gather(1, torch.from_numpy(place).to(rows.device))
                violation = near - far + self.margin
                counts = torch.from_numpy(others[batch] >= 0).to(rows.device)
                if self.negatives == "semi-hard":
                    counts = counts & (far > near)
                elif self.negatives == "hard":
                    nearest = far.masked_fill(~counts, torch.inf).argmin(1, True)
                    counts = counts & torch.zeros_like(counts).scatter(1, nearest, True)
                if bool((counts & (violation > 0)).any()):
                    yield violation.clamp(min=0)[counts].mean()


# All pairs of that many validation matches go through the joined network.
_MOST_JOINED = 150

Floats = NDArray[np.float32]


@dataclass(eq=False, repr=False, kw_only=True)
class ContrastiveProjection(SiameseMap):
    """A map trained by the contrastive loss y·d² + (1 − y)·max(0, margin − d)².

    Hadsell, Chopra & LeCun, "Dimensionality reduction by learning an invariant
    mapping" (2006). As in the "full network" of the Totally-Looks-Like write-up, a
    classification network (128 units, ReLU, dropout 0.2) that reads product and
    difference of the two outputs is trained along, by cross-entropy; the head
    ``joined`` scores with it. ``depth=0`` is the full network without the deep map: one
    weight an axis.

    Parameters as :class:`~tllboost.projections.siamese.SiameseMap`, and these.

    Parameters
    ----------
    margin : float, default=1
    distance : {"cosine", "l2"}, default="cosine"
        1 − cosine, or Euclidean.
    joined : bool, default=True
        Whether the classification network is trained along.

    Examples
    --------
    >>> from tllboost.projections import make_projection
    >>> make_projection("contrastive?depth=0&joined=false").joined
    False
    """

    name = "contrastive"
    margin: float = option(1.0, above_zero)
    distance: str = option("cosine", one_of("cosine", "l2"))
    joined: bool = option(True, truth)

    def joined_network(self, n_axes: int) -> Any:
        """Return the classification network on pairs of outputs."""
        from torch import nn

        if not self.joined:
            return None
        n_outputs = self.n_outputs(n_axes)
        return nn.Sequential(
            nn.Linear(2 * n_outputs, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 1)
        )

    def losses(self, now: Epoch) -> Iterator[Any]:
        """Yield the loss of each step of one epoch."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        body, joined, rows, train, _, rng = now
        weight = train.weight / train.weight.mean()
        for batch in batches(len(train), self.batch, rng):
            left = self.torch_unit(body(rows[train.left[batch]]))
            right = self.torch_unit(body(rows[train.right[batch]]))
            label, w = (
                torch.from_numpy(column[batch].astype(np.float32)).to(rows.device)
                for column in (train.label, weight)
            )
            distance = self.torch_distance(left, right)
            beyond = (self.margin - distance).clamp(min=0)
            pull = label * distance.square() + (1 - label) * beyond.square()
            loss = (w * pull).mean()
            if joined is not None:
                pairs = torch.cat([left * right, (left - right).abs()], dim=1)
                loss = loss + binary_cross_entropy_with_logits(
                    joined(pairs).squeeze(1), label, w
                )
            yield loss

    def validation_loss(
        self, projected: Floats, matches: PairSet, joined: Any = None
    ) -> float:
        """Return the loss of the map, and that of the joined network if there is one.

        Both are told: the epoch that is kept has to serve the heads on the map and the
        head ``joined``, whose weights start at random.
        """
        import torch

        loss = super().validation_loss(projected, matches)
        if joined is None:
            return loss
        rows = np.linspace(0, len(matches) - 1, min(len(matches), _MOST_JOINED))
        rows = np.unique(rows.astype(int))
        device = next(joined.parameters()).device
        both = (projected[matches.left[rows]], projected[matches.right[rows]])
        a, b = (self.torch_unit(torch.from_numpy(one).to(device)) for one in both)
        with torch.no_grad():
            scores = [joined(torch.cat([one * b, (one - b).abs()], dim=1)) for one in a]
        similarity = torch.stack(scores).squeeze(2).cpu().numpy()
        return loss + find_loss(similarity, matches.component[rows])
