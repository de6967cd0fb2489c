"""Small dense networks: trained in torch, kept as plain numbers, run by numpy alone.

Layers are weights (n_in, n_out) and biases (n_out,), float32, with ReLU between them.
The maps of projections are such networks, the dense heads, and the small networks that
train by epochs beside them share how the best epoch is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.conventions import n_threads_of

Floats = NDArray[np.float32]
Layer = tuple[Floats, Floats]
"""Weight (n_in, n_out) and bias (n_out,), float32."""


def run_layers(layers: Sequence[Layer], rows: Floats) -> Floats:
    """Run dense layers with ReLU between them: (n_rows, n_out) float32.

    Examples
    --------
    >>> layers = [(np.eye(2), np.zeros(2)), (np.ones((2, 1)), np.ones(1))]
    >>> run_layers(layers, np.float32([[1, -1], [1, 2]])).tolist()
    [[2.0], [4.0]]
    """
    for weight, bias in layers[:-1]:
        rows = np.maximum(rows @ weight + bias, 0)
    weight, bias = layers[-1]
    return rows @ weight + bias


def as_tensors(layers: Sequence[Layer], name: str = "") -> dict[str, NDArray[Any]]:
    """Return the arrays of layers, numbered, their names preceded by `name`."""
    return {
        f"{name}{what}{number}": np.ascontiguousarray(array)
        for number, layer in enumerate(layers)
        for what, array in zip(("weight", "bias"), layer, strict=True)
    }


def take_layers(tensors: dict[str, NDArray[Any]], name: str = "") -> list[Layer]:
    """Take what :func:`as_tensors` gave out of `tensors`, be it a stranger's.

    Raises
    ------
    ValueError
        If there are no such layers, or they do not fit each other.
    """
    layers: list[Layer] = []
    while f"{name}weight{len(layers)}" in tensors:
        weight = tensors.pop(f"{name}weight{len(layers)}")
        bias = tensors.pop(f"{name}bias{len(layers)}", np.empty(()))
        layers.append((weight, bias))
    shapes = [weight.shape for weight, _ in layers]
    if not (
        layers
        and all(len(shape) == 2 for shape in shapes)
        and all(bias.shape == weight.shape[1:] for weight, bias in layers)
        and all(before[1] == after[0] for before, after in pairwise(shapes))
    ):
        msg = f"dense layers {name!r} of shapes {shapes} do not fit each other"
        raise ValueError(msg)
    return layers


def layers_of(network: Iterable[Any]) -> list[Layer]:
    """Copy the dense layers of a torch network."""
    layers = [(one.weight, one.bias) for one in network if hasattr(one, "weight")]
    return [
        (weight.detach().cpu().numpy().T.copy(), bias.detach().cpu().numpy().copy())
        for weight, bias in layers
    ]


class Adam:
    """Steps of Adam (Kingma & Ba, 2015), or of AdamW (Loshchilov & Hutter, 2019).

    The steps are those of ``torch.optim`` with ``fused=True``, to the last digit. Its
    classes load the compiler of torch as well, which takes each process that trains two
    seconds.

    Parameters
    ----------
    parameters : iterable of torch.nn.Parameter
    rate : float
    weight_decay : float, default=0.0
        Of AdamW.
    """

    def __init__(
        self, parameters: Iterable[Any], rate: float, weight_decay: float = 0.0
    ) -> None:
        import torch

        self.rate, self.decay = rate, weight_decay
        self.kept = [
            (
                one,
                *(torch.zeros_like(one) for _ in range(2)),  # the moments
                torch.zeros((), device=one.device),  # steps taken
            )
            for one in parameters
        ]

    def step(self) -> None:
        """Move the parameters that have a gradient, and forget that."""
        import torch
        from torch.optim.adamw import adamw

        moved = [kept for kept in self.kept if kept[0].grad is not None]
        values, first, second, steps = map(list, zip(*moved, strict=True))
        grads = [one.grad for one in values]
        how: dict[str, Any] = {"lr": self.rate, "weight_decay": self.decay}
        how |= {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
        # One pass over the numbers: five times as fast on a CPU.
        how |= {"amsgrad": False, "maximize": False, "foreach": False, "fused": True}
        with torch.no_grad():
            adamw(values, grads, first, second, [], steps, **how)
        for one in values:
            one.grad = None


def train(
    network: Any,
    optimiser: Adam,
    losses: Callable[[], Iterable[Any]],
    validate: Callable[[], float],
    keep: Callable[[], None],
    *,
    n_epochs: int,
    patience: int,
) -> list[float]:
    """Train epoch by epoch until validation gains no more; return its losses.

    Parameters
    ----------
    network : torch.nn.Module
    optimiser : Adam
    losses : callable
        Gives the loss of every step of an epoch; none where nothing is to be learned,
        which ends the training.
    validate : callable
        Gives the validation loss as the network is now.
    keep : callable
        Keeps the network as it is now.
    n_epochs : int
        At most.
    patience : int
        Epochs without gain before training stops; 0 never stops and keeps the last.

    Returns
    -------
    list of float
        The validation loss before the first epoch and after each.
    """
    found: list[float] = []
    best, since = np.inf, 0
    for epoch in range(n_epochs + 1):
        if epoch:
            network.train()
            n_steps = 0
            for loss in losses():
                loss.backward()
                optimiser.step()
                n_steps += 1
            if not n_steps:
                break
        network.eval()
        found.append(validate())
        since += 1
        # Not <=: what gains nothing stays at its start.
        if found[-1] < best or not patience:
            best, since = found[-1], 0
            keep()
        if patience and since >= patience:
            break
    return found


@contextmanager
def threads(n_threads: int | None) -> Iterator[None]:
    """Let torch use that many threads, None as many as before, inside the block.

    -1 is every core: see :func:`~tllboost.conventions.n_threads_of`.
    """
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads_of(n_threads) or before)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def own_chance(seed: int, device: Any = None) -> Iterator[None]:
    """Seed torch and leave the caller's random state as it was.

    Parameters
    ----------
    seed : int
    device : torch.device, optional
        Where chances are taken besides the CPU.
    """
    import torch

    is_cuda = device is not None and device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if is_cuda else []):
        torch.manual_seed(seed)
        yield
