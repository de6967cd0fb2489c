"""``siamese-cnn``: a small convolutional network from scratch, as the honest floor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tllboost.conventions import repeatable, seed_of
from tllboost.dense import Adam, own_chance, threads, train
from tllboost.errors import DataError, UsageError
from tllboost.projections.base import Projection, refuse_collapse
from tllboost.registry import above_zero, option, positive, whole
from tllboost.splits import PairSet

Floats = NDArray[np.float32]
SIDES = range(16, 513)
"""Sides of an image that can be looked at; below, nothing is left to pool."""

_ROWS = 256


def side_of(n_dims: int) -> int:
    """Return the side of the squares that vectors of `n_dims` numbers are."""
    side = math.isqrt(n_dims // 3)
    if 3 * side**2 != n_dims or side not in SIDES:
        msg = (
            f"siamese-cnn needs pixels, and got vectors of {n_dims} numbers: use the "
            "vectorizer pixels, of size 16 to 512"
        )
        raise UsageError(msg)
    return side


def shared_layers(side: int, components: int) -> Any:
    """Return the layers that both images go through: shapes alone, and no numbers.

    So that nothing is drawn, and nothing held of any number of components.
    """
    import torch
    from torch import nn

    pooled = ((side - 4) // 2 - 4) // 2
    with torch.device("meta"):
        return nn.Sequential(
            *(nn.Conv2d(3, 20, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(50 * pooled**2, components), nn.ReLU()),
        )


def set_random(layers: Any) -> None:
    """Give layers random weights, and no bias.

    As wide as keeps the spread through ReLU (He et al., 2015): in the product of two
    shrunken outputs there would be nothing left to learn from.
    """
    import torch

    with torch.no_grad():
        for layer in layers:
            width = math.sqrt(6 / math.prod(layer.weight.shape[1:]))
            layer.weight.copy_(width * (2 * torch.rand(layer.weight.shape) - 1))
            layer.bias.copy_(0.0 * (2 * torch.rand(layer.bias.shape) - 1))


def as_images(vectors: Floats) -> Floats:
    """Return pixels (n_images, 3, side, side) around zero.

    Examples
    --------
    >>> as_images(np.full((2, 3 * 32 * 32), 0.75))[0, 0, 0, :2].tolist()
    [0.25, 0.25]
    """
    side = side_of(vectors.shape[1])
    return (vectors.reshape(-1, 3, side, side) - 0.5).astype(np.float32)


def pair_loss(network: Any, images: Floats, pairs: PairSet) -> Any:
    """Return the weighted cross-entropy of some pairs, each image run once."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    shared, joined = network
    device = joined.weight.device
    used, place = np.unique(np.append(pairs.left, pairs.right), return_inverse=True)
    rows = torch.from_numpy(images[used]).to(device)
    outputs = shared(rows)[torch.from_numpy(place).to(device)]
    left, right = outputs.chunk(2)
    label, weight = (
        torch.from_numpy(column.astype(np.float32)).to(device)
        for column in (pairs.label, pairs.weight)
    )
    return binary_cross_entropy_with_logits(
        joined(left * right)[:, 0], label, weight, reduction="sum"
    )


@repeatable
def mean_loss(network: Any, images: Floats, pairs: PairSet) -> float:
    """Return the weighted mean cross-entropy over a set."""
    import torch

    blocks = np.array_split(np.arange(len(pairs)), math.ceil(len(pairs) / _ROWS))
    with torch.no_grad():
        total = sum(float(pair_loss(network, images, pairs.take(b))) for b in blocks)
    return total / float(pairs.weight.sum())


@dataclass(eq=False, repr=False, kw_only=True)
class SiameseCNNProjection(Projection):
    """The LeNet-like Siamese network of the 2017 Holidays experiments, on ``pixels``.

    Convolutions of 20 and 50 channels, 5 x 5 each, ReLU and 2 x 2 pooling after each,
    and a dense layer of 500 with ReLU, shared by both images. It is trained by the
    cross-entropy of one dense layer on the elementwise product of two outputs, over
    all training pairs; the epoch of lowest validation loss is kept, the untrained
    network among them. Nothing is pretrained: what it reaches is the floor for what
    pretrained vectors must beat.

    Parameters
    ----------
    components : int, default=500
        Width of the dense layer.
    epochs : int, default=10
        Passes over the training pairs at most.
    patience : int, default=3
        Passes without gain on validation before training stops; 0 never stops and
        keeps the last.
    batch : int, default=32
        Pairs a step.
    rate : float, default=1e-3
        Learning rate of Adam (Kingma & Ba, 2015).
    random_state : int, RandomState, Generator or None, default=0
    device : str, default="auto"
    n_threads : int or None, default=None

    Attributes
    ----------
    arrays_ : dict of str to ndarray
        Weights and biases of the three layers, float32.
    history_ : list of float
        Validation loss before the first epoch and after each.

    Examples
    --------
    >>> SiameseCNNProjection(epochs=5).spec
    'siamese-cnn?epochs=5'
    """

    name = "siamese-cnn"
    components: int = option(500, positive)
    epochs: int = option(10, positive)
    patience: int = option(3, whole)
    batch: int = option(32, positive)
    rate: float = option(1e-3, above_zero)
    random_state: Any = 0
    device: str = "auto"
    n_threads: int | None = None

    def fit(self, vectors: Floats, pairs: PairSet, validation: PairSet) -> Self:
        """Train on the pairs of the training set; validation chooses the epoch.

        Raises
        ------
        UsageError
            If the vectors are not those of ``pixels``, or an option is wrong.
        DataError
            If the training pairs are all matches or none is, or the network gives all
            images the same vector.
        """
        from tllboost.vectorizers.torch import choose_device

        self.check_options()
        side = side_of(vectors.shape[1])
        if len(np.unique(pairs.label)) < 2:
            msg = (
                f"{self.name} learns to tell matches from non-matches, but all "
                "training pairs are of one kind: let non-matches be drawn"
            )
            raise DataError(msg)
        self.n_dims_in_ = vectors.shape[1]
        device = choose_device(self.device)
        import torch

        images, seed = as_images(vectors), seed_of(self.random_state)
        rng = np.random.default_rng(seed)
        shared = shared_layers(side, self.components)
        joined = torch.nn.Linear(self.components, 1, device="meta")  # trained along
        network = torch.nn.ModuleList([shared, joined]).to_empty(device="cpu")

        def losses() -> Iterator[Any]:
            order = rng.permutation(len(pairs))
            for rows in np.array_split(order, math.ceil(len(order) / self.batch)):
                yield pair_loss(network, images, pairs.take(rows)) / len(rows)

        def keep() -> None:
            state = network[0].state_dict()
            self.arrays_ = {k: one.cpu().numpy().copy() for k, one in state.items()}

        with threads(self.n_threads), own_chance(seed, device):
            set_random([*(one for one in shared if hasattr(one, "weight")), joined])
            network.to(device)
            with torch.enable_grad():
                self.history_ = train(
                    network,
                    Adam(network.parameters(), self.rate),
                    losses,
                    lambda: mean_loss(network, images, validation),
                    keep,
                    n_epochs=self.epochs,
                    patience=self.patience,
                )
        refuse_collapse(self, vectors[np.union1d(pairs.left, pairs.right)], 1e-7)
        return self

    def transform(self, vectors: Floats) -> Floats:
        """Return the dense layer's outputs: (n_images, n_components) float32."""
        import torch

        from tllboost.vectorizers.torch import choose_device

        device = choose_device(self.device)
        shared = shared_layers(side_of(self.n_dims_in_), self.components)
        tensors = {name: torch.from_numpy(one) for name, one in self.arrays_.items()}
        shared.load_state_dict(tensors, assign=True)
        images = as_images(vectors)
        blocks = [np.zeros((0, self.components), np.float32)]
        with threads(self.n_threads), torch.inference_mode():
            shared.to(device)
            for start in range(0, len(images), _ROWS):
                block = torch.from_numpy(images[start : start + _ROWS]).to(device)
                blocks.append(shared(block).cpu().numpy())
        return np.concatenate(blocks)

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the layers, and the side of an image."""
        return self.arrays_ | {"side": np.array([side_of(self.n_dims_in_)])}

    def from_tensors(self, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Take the layers back; ValueError if they are not those of this network."""
        arrays = dict(tensors)
        side = int(arrays.pop("side", np.zeros(1)).item())
        wanted = {}
        if side in SIDES:
            state = shared_layers(side, self.components).state_dict()
            wanted = {name: tuple(one.shape) for name, one in state.items()}
        shapes = {name: one.shape for name, one in arrays.items()}
        if shapes != wanted:
            msg = f"its layers are not those of {self.spec!r}: {shapes}"
            raise ValueError(msg)
        self.arrays_ = arrays
        self.n_dims_in_ = 3 * side**2
        return self
