"""The Siamese map: one map for both images of a pair, so that matches lie close.

Few images and many columns make a free linear map learn the noise. So vectors are first
laid on their principal axes, centred and half-way to whitened: on its first few hundred
axes the same map has a tenth of the weights, and an orthogonal start keeps all angles.
Before the first step it is the cosine of centred vectors, which on Totally-Looks-Like
already beats the plain one. The map is then trained in torch, and the epoch that
is best on validation is kept; at the end axes and map are folded into plain layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tllboost.conventions import repeatable, seed_of
from tllboost.dense import (
    Adam,
    Layer,
    as_tensors,
    layers_of,
    own_chance,
    run_layers,
    take_layers,
    threads,
    train,
)
from tllboost.errors import DataError
from tllboost.merges import unit_rows
from tllboost.projections.base import (
    Projection,
    find_loss,
    matches_of,
    refuse_collapse,
)
from tllboost.registry import (
    Option,
    above_zero,
    below_one,
    option,
    positive,
    share,
    whole,
)
from tllboost.splits import PairSet

Floats = NDArray[np.float32]
Layers = list[Layer]

_MAX_ROWS = 20_000


def principal_axes(
    vectors: Floats, n_axes: int, whiten: float, seed: int
) -> tuple[Floats, Floats]:
    """Return the axes of largest variance of unit vectors.

    Parameters
    ----------
    vectors : ndarray of shape (n_images, n_dims), float32
        Of the training images.
    n_axes : int
        At most; no more than the vectors span.
    whiten : float
        Each coordinate is divided by its spread to this power: 0 keeps distances, 1
        gives every axis the same weight (Jégou & Chum, "Negative evidences and
        co-occurences in image retrieval: the benefit of PCA and whitening", 2012).
    seed : int
        Of the sample of 20,000 images that stands for more.

    Returns
    -------
    weight : ndarray of shape (n_dims, n_axes), float32
    bias : ndarray of shape (n_axes,), float32
        Of the linear map of unit vectors onto the axes, scaled so that the mean
        squared length of a row is 1.

    Raises
    ------
    DataError
        If all vectors are alike.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> vectors = rng.normal(size=(50, 8)).astype(np.float32)
    >>> weight, bias = principal_axes(vectors, 4, 0.25, 0)
    >>> weight.shape, bias.shape
    ((8, 4), (4,))
    """
    from scipy.linalg import eigh

    if len(vectors) > _MAX_ROWS:
        rows = np.random.default_rng(seed).choice(len(vectors), _MAX_ROWS, False)
        vectors = vectors[np.sort(rows)]
    unit = unit_rows(vectors).astype(np.float64)
    mean = unit.mean(axis=0)
    centred = unit - mean
    # By the smaller Gram matrix: that of images, or that of columns.
    wide = centred.shape[0] < centred.shape[1]
    gram = centred @ centred.T if wide else centred.T @ centred
    first = max(0, len(gram) - n_axes)
    values, axes = eigh(gram, subset_by_index=[first, len(gram) - 1])
    values, axes = values[::-1], axes[:, ::-1]
    # A mean square of 1e-12 is what float32 rounds off vectors of length 1.
    real = values > max(1e-9 * values[0], 1e-12 * len(centred))
    if not real.any():
        msg = (
            f"the {len(centred)} training images have one and the same vector: a "
            "projection can't learn to tell them apart"
        )
        raise DataError(msg)
    values, axes = values[real], axes[:, real]
    if wide:
        axes = centred.T @ axes / np.sqrt(values)
    spread = np.sqrt(values / len(centred))
    factor = (spread / spread[0]) ** -whiten
    weight = axes * factor / np.linalg.norm(spread * factor)
    return weight.astype(np.float32), (-mean @ weight).astype(np.float32)


class Epoch(NamedTuple):
    """What the losses of one epoch are computed from.

    Attributes
    ----------
    body : torch.nn.Module
        The map of coordinates.
    joined : torch.nn.Module or None
        What is trained along on pairs of outputs.
    rows : torch.Tensor of shape (n_images, n_axes)
        The coordinates.
    train : PairSet
    matches : PairSet
        The matches in `train`.
    rng : numpy.random.Generator
    """

    body: Any
    joined: Any
    rows: Any
    train: PairSet
    matches: PairSet
    rng: np.random.Generator


_MOST_COMPONENTS = 512


@dataclass(eq=False, repr=False, kw_only=True)
class SiameseMap(Projection):
    """A shared map of frozen vectors, trained so that matches come to lie close.

    Vectors are scaled to length 1, centred, and laid on their principal axes; the map
    starts from a random rotation of those, and Adam trains it. After each epoch the
    validation matches are looked up among each other; the epoch that finds them best
    is kept, the start included, so a map that learns nothing is left at its start.

    Parameters
    ----------
    components : int or None, default=None
        Width of the projected vectors; None takes half the width of the vectors, 512
        at most (wider ones were measured no better, and slower in every head).
    depth : {0, 1, 2}, default=1
        Fully connected layers: 0 has one weight a principal axis and mixes none, its
        components being the first axes; 1 is linear, 2 has a hidden layer of ReLU.
    axes : int, default=512
        Principal axes at most.
    whiten : float, default=0.25
        See :func:`~tllboost.projections.siamese.principal_axes`.
    members : int, default=1
        Maps trained from different starts; their outputs stand side by side, so that
        the cosine is the mean of their cosines.
    epochs : int, default=40
        Passes over the training matches at most.
    patience : int, default=5
        Passes without gain on validation before it stops; 0 trains all epochs and
        keeps the last, whatever validation says.
    batch : int, default=256
        Matches a step.
    rate : float, default=0.001
        Learning rate of Adam.
    dropout : float, default=0.3
        Share of the coordinates that each image loses in each step.
    random_state : int, RandomState, Generator or None, default=0
    device : str, default="auto"
    n_threads : int or None, default=None

    Attributes
    ----------
    maps_ : list of list of (ndarray, ndarray)
        Weight (n_in, n_out) and bias (n_out,) of the layers of each member, float32.
    history_ : list of list of float
        Validation loss of each member before the first epoch and after each.
    joined_ : list of (ndarray, ndarray)
        Layers of the classification network that was trained along; empty for none.
    """

    components: int | None = option(None, positive)
    depth: int = option(1, Option("0, 1 or 2", int, lambda n: n in (0, 1, 2)))
    axes: int = option(512, positive)
    whiten: float = option(0.25, share)
    members: int = option(1, positive)
    epochs: int = option(40, positive)
    patience: int = option(5, whole)
    batch: int = option(256, positive)
    rate: float = option(1e-3, above_zero)
    dropout: float = option(0.3, below_one)
    random_state: Any = 0
    device: str = "auto"
    n_threads: int | None = None

    distance = "cosine"  # where a loss gives no choice

    def fit(self, vectors: Floats, train: PairSet, validation: PairSet) -> Self:
        """Train; the validation matches choose the epoch.

        Raises
        ------
        UsageError
            If an option is out of its range.
        DataError
            If a set has too few matches, vectors are not finite numbers, or the map
            collapses: all images alike.
        """
        self.check_options()
        matches = matches_of(train, "training")
        held_out = matches_of(validation, "validation")
        images = np.unique(np.concatenate([train.left, train.right]))
        seen = np.unique(np.concatenate([images, held_out.left, held_out.right]))
        finite = np.isfinite(vectors[seen]).all(axis=1)
        if not finite.all():
            msg = (
                f"{np.count_nonzero(~finite)} of {len(seen)} vectors hold numbers that "
                "are not finite: a projection can't learn from them"
            )
            raise DataError(msg)
        # Without a layer the outputs are the axes: fewer outputs are fewer axes.
        n_axes = min(self.axes, (self.depth == 0 and self.components) or self.axes)
        seed = seed_of(self.random_state)
        axes = principal_axes(vectors[images], n_axes, self.whiten, seed)
        coordinates = np.zeros((len(vectors), len(axes[1])), dtype=np.float32)
        coordinates[seen] = unit_rows(vectors[seen]) @ axes[0] + axes[1]
        self.n_dims_in_ = vectors.shape[1]
        sets = (train, matches, held_out)
        trained = [
            self._train(coordinates, sets, seed=seed + 1_000 * member)
            for member in range(self.members)
        ]
        self.maps_ = [_folded(axes, networks["body"]) for networks, _ in trained]
        # Several maps have several such networks, which no head can tell apart.
        self.joined_ = trained[0][0].get("joined", []) if self.members == 1 else []
        self.history_ = [losses for _, losses in trained]
        refuse_collapse(self, vectors[images], 1e-4)
        return self

    def _train(
        self,
        coordinates: Floats,
        sets: tuple[PairSet, PairSet, PairSet],
        *,
        seed: int,
    ) -> tuple[dict[str, Layers], list[float]]:
        """Train one map; return its layers and the validation losses.

        Parameters
        ----------
        coordinates : ndarray of shape (n_images, n_axes), float32
            Rows of images that are in no training or validation pair are zero.
        sets : tuple of PairSet
            The training pairs, and the matches of training and of validation.
        seed : int
            Of the start and of the order.
        """
        from tllboost.vectorizers.torch import choose_device

        device = choose_device(self.device)
        import torch

        pairs, matches, held_out = sets
        with threads(self.n_threads), own_chance(seed, device):
            network = self._new_network(coordinates.shape[1]).to(device)
            body, joined = network["body"], dict(network.items()).get("joined")
            rows = torch.from_numpy(coordinates).to(device)
            rng = np.random.default_rng(seed)
            now = Epoch(body, joined, rows, pairs, matches, rng)
            layers: dict[str, Layers] = {}

            @repeatable
            def validate() -> float:
                with torch.no_grad():
                    projected = body(rows).cpu().numpy()
                if np.isfinite(projected).all():
                    return self.validation_loss(projected, held_out, joined)
                if self.patience:  # an earlier epoch is kept
                    return float(np.inf)
                msg = (
                    f"projection {self.spec!r} diverged: give a lower rate, or a "
                    "smaller margin or higher temperature"
                )
                raise DataError(msg)

            def keep() -> None:
                layers.update({k: layers_of(one) for k, one in network.items()})

            losses = train(
                network,
                Adam(network.parameters(), self.rate),
                lambda: self.losses(now),
                validate,
                keep,
                n_epochs=self.epochs,
                patience=self.patience,
            )
        if len(losses) == 1:
            msg = (
                f"projection {self.spec!r} has nothing to learn: no triplet violates "
                "the margin; give a larger margin, or other negatives"
            )
            raise DataError(msg)
        return layers, losses

    def _new_network(self, n_axes: int) -> Any:
        """Return the map at its start, which keeps angles, and what is trained along.

        A torch.nn.ModuleDict of ``body`` and, if there is one, ``joined``.
        """
        from torch import nn, ones, zeros

        from tllboost.vectorizers.torch import module

        joined = self.joined_network(n_axes)
        n_outputs = self.n_outputs(n_axes)
        layers: list[Any] = [nn.Dropout(self.dropout)]
        if self.depth == 0:
            # One weight an axis, and no other.
            own = {"weight": nn.Parameter(ones(n_axes)), "bias": zeros(n_axes)}
            layers.append(module(lambda one, rows: rows * one.weight, **own))
        for n_in, n_out in pairwise([n_axes] + [n_outputs] * self.depth):
            layer = nn.Linear(n_in, n_out)
            # Rotated, not aligned with the axes: Adam then steps alike in every
            # output, which gained three points of top-2 over a start at the identity.
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.ReLU()]
        body = nn.Sequential(*layers[: -1 if self.depth else None])
        return nn.ModuleDict({"body": body} | ({"joined": joined} if joined else {}))

    def transform(self, vectors: Floats) -> Floats:
        """Return projected vectors: (n_images, n_components) float32.

        Of length 1 where the loss compares cosines.
        """
        rows = unit_rows(vectors)
        outputs = [run_layers(layers, rows) for layers in self.maps_]
        if self.distance == "cosine":
            outputs = [unit_rows(block) for block in outputs]
        scale = np.float32(1 / np.sqrt(len(outputs)))
        return np.hstack([block * scale for block in outputs]).astype(np.float32)

    def validation_loss(
        self, projected: Floats, matches: PairSet, joined: Any = None
    ) -> float:
        """Return how badly validation matches find each other, see `find_loss`.

        Parameters
        ----------
        projected : ndarray of shape (n_images, n_components), float32
        matches : PairSet
        joined : torch.nn.Module or None
            What was trained along.
        """
        left, right = projected[matches.left], projected[matches.right]
        if self.distance == "cosine":
            similarity = unit_rows(left) @ unit_rows(right).T
        else:
            squares = np.square(left).sum(1)[:, None] + np.square(right).sum(1)
            similarity = -np.sqrt(np.maximum(squares - 2 * left @ right.T, 0))
        return find_loss(similarity, matches.component)

    def losses(self, now: Epoch) -> Iterator[Any]:
        """Yield the loss of each step of one epoch, as torch scalars."""
        raise NotImplementedError

    def joined_network(self, n_axes: int) -> Any:
        """Return a torch network that is trained along on pairs of outputs, or None."""
        return None

    def torch_unit(self, outputs: Any) -> Any:
        """Scale torch outputs to length 1 where the loss compares cosines."""
        from torch.nn.functional import normalize

        return normalize(outputs, dim=-1) if self.distance == "cosine" else outputs

    def torch_distance(self, left: Any, right: Any) -> Any:
        """Return 1 − cosine, or the Euclidean distance, of torch outputs."""
        from torch.nn.functional import cosine_similarity

        if self.distance == "cosine":
            return 1 - cosine_similarity(left, right, dim=-1)
        # The square root has no slope at 0.
        return (left - right).square().sum(-1).clamp(min=1e-9).sqrt()

    def torch_distances(self, left: Any, right: Any) -> Any:
        """Return the same of each left with each right: (n_left, n_right)."""
        left, right = self.torch_unit(left), self.torch_unit(right)
        if self.distance == "cosine":
            return 1 - left @ right.T
        squares = left.square().sum(1)[:, None] + right.square().sum(1)
        return (squares - 2 * left @ right.T).clamp(min=1e-9).sqrt()

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of all layers."""
        arrays = as_tensors(self.joined_, "joined.")
        for number, layers in enumerate(self.maps_):
            arrays |= as_tensors(layers, f"map{number}.")
        return arrays

    def from_tensors(self, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Take the layers back; ValueError if they are not those of such a map."""
        arrays = dict(tensors)
        self.maps_ = [take_layers(arrays, f"map{i}.") for i in range(self.members)]
        self.joined_ = take_layers(arrays, "joined.") if arrays else []
        if arrays:
            msg = f"{sorted(arrays)[0]!r} has no place in a projection {self.spec!r}"
            raise ValueError(msg)
        widths = {_widths(layers) for layers in self.maps_}
        if len(widths) != 1:
            msg = "its maps are of different widths"
            raise ValueError(msg)
        self.n_dims_in_, n_outputs = widths.pop()
        if self.joined_ and _widths(self.joined_) != (2 * n_outputs, 1):
            msg = f"its joined network is not one for pairs of {n_outputs} outputs"
            raise ValueError(msg)
        return self

    def n_outputs(self, n_axes: int) -> int:
        """Return the width of one member's output."""
        if self.depth == 0:
            return n_axes
        return self.components or max(1, min(self.n_dims_in_ // 2, _MOST_COMPONENTS))


def _folded(axes: tuple[Floats, Floats], layers: Layers) -> Layers:
    """Put the principal axes into the first layer, which may be a weight an axis."""
    (weight, bias), *rest = layers
    weight = np.diag(weight) if weight.ndim == 1 else weight
    return [(axes[0] @ weight, axes[1] @ weight + bias), *rest]


def _widths(layers: Layers) -> tuple[int, int]:
    return layers[0][0].shape[0], layers[-1][0].shape[1]
