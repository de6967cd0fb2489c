"""Triplet loss: a match lies closer than a non-match, by a margin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from tllboost.projections.batches import batches
from tllboost.projections.maps import COMMON_OPTIONS, SiameseMap
from tllboost.projections.options import above_zero
from tllboost.projections.stopping import Matches
from tllboost.splits import PairSet
from tllboost.splits.others import draw_others
from tllboost.vectorizers.spec import one_of, positive

__all__ = ["TripletProjection"]


class TripletProjection(SiameseMap):
    """A map trained by the triplet loss max(0, D(a, p) − D(a, n) + margin).

    Schroff et al., "FaceNet" (2015), as in the Totally-Looks-Like write-up: for each
    match, other pictures are drawn anew in each epoch, 19 by default, and here in both
    directions: each picture of a match is the anchor once.

    ``negatives`` says which of them count: ``random`` takes all, ``semi-hard`` those
    farther than the match but inside the margin, ``hard`` the nearest of each anchor.
    Other parameters as :class:`~tllboost.projections.maps.SiameseMap`.

    Examples
    --------
    >>> from tllboost.projections import make_projection
    >>> make_projection("triplet?distance=l2&negatives=hard").distance
    'l2'
    """

    name = "triplet"
    default_margin = 0.2
    OPTIONS: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        **COMMON_OPTIONS,
        "margin": above_zero,
        "distance": one_of("cosine", "l2"),
        "negatives": one_of("random", "semi-hard", "hard"),
        "n_negatives": positive,
    }

    @property
    def nothing_to_learn(self) -> str:
        """What to say when the first epoch has not a single triplet."""
        return (
            f"no triplet of {self.negatives} negatives violates the margin "
            f"{self._margin:g}: give a larger margin, or other negatives"
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
        """Yield the loss of each step of one epoch; a step without triplet has none."""
        import torch

        sides = (matches.left, matches.right), (matches.right, matches.left)
        for anchor, positives in sides:
            others = self._draw(positives, matches.component, rng)
            for batch in batches(len(matches), self.batch, rng):
                drawn = others[batch] >= 0
                # Pictures are drawn many times over: each is mapped once a step.
                used, place = np.unique(others[batch], return_inverse=True)
                loss = self._hinge(
                    body(rows[anchor[batch]]),
                    body(rows[positives[batch]]),
                    body(rows[used.clip(min=0)]),
                    torch.from_numpy(place.reshape(drawn.shape)).to(rows.device),
                    torch.from_numpy(drawn).to(rows.device),
                )
                if loss is not None:
                    yield loss

    def _draw(
        self, pool: np.ndarray, component: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw other pictures for each match: (n_matches, n_negatives), −1 for none."""
        images, first = np.unique(pool, return_index=True)
        return draw_others(component, images, component[first], self.n_negatives, rng)

    def _hinge(self, a: Any, p: Any, n: Any, place: Any, counts: Any) -> Any:
        """Return the mean loss of the triplets that count, None if there is none.

        Parameters
        ----------
        a, p : torch.Tensor of shape (n_matches, n_outputs)
            The anchors and their matches.
        n : torch.Tensor of shape (n_pictures, n_outputs)
            Other pictures, each once.
        place, counts : torch.Tensor of shape (n_matches, n_negatives)
            Which of them were drawn for each anchor; whether one was.
        """
        import torch

        near = self.torch_distance(a, p)[:, None]
        far = self.torch_distances(a, n).gather(1, place)
        violation = near - far + self._margin
        if self.negatives == "semi-hard":
            counts = counts & (far > near)
        elif self.negatives == "hard":
            nearest = far.masked_fill(~counts, torch.inf).argmin(1, keepdim=True)
            counts = counts & torch.zeros_like(counts).scatter(1, nearest, True)
        if not bool((counts & (violation > 0)).any()):
            return None
        return violation.clamp(min=0)[counts].mean()
