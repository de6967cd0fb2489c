"""Train one Siamese map in torch; the epoch that validation likes best is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError
from tllboost.projections.network import Network, dense_layers, siamese_network
from tllboost.projections.stopping import Matches
from tllboost.projections.torch_state import own_chance, threads
from tllboost.splits import PairSet

if TYPE_CHECKING:
    from tllboost.projections.maps import SiameseMap
    from tllboost.projections.network import Layer

__all__ = ["Trained", "train_map"]


class Trained:
    """What one training came to.

    Attributes
    ----------
    layers, joined : list of (ndarray, ndarray)
        Of the body and of the joined network, if there is one, at the best epoch.
    losses : list of float
        Validation loss before the first epoch and after each.
    """

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.joined: list[Layer] = []
        self.losses: list[float] = []

    def keep(self, network: Network) -> None:
        """Copy the weights as they are now."""
        self.layers = dense_layers(network.body)
        self.joined = dense_layers(network.joined) if network.joined else []


def train_map(
    projection: SiameseMap,
    coordinates: NDArray[np.float32],
    sides: tuple[PairSet, Matches, Matches],
    *,
    member: int = 0,
) -> Trained:
    """Train one map.

    Parameters
    ----------
    projection : SiameseMap
        Its parameters and its loss.
    coordinates : ndarray of shape (n_images, n_axes), float32
        Rows of images that are in no training or validation pair are zero.
    sides : tuple of (PairSet, Matches, Matches)
        The training pairs, and the matches of training and of validation.
    member : int, default=0
        Which of several maps: another start and another order.
    """
    import torch

    from tllboost.vectorizers.torch_run import choose_device

    device = choose_device(projection.device)
    seed = projection.random_state + 1_000 * member
    n_axes = coordinates.shape[1]
    with threads(projection.n_threads), own_chance(seed, device):
        network = siamese_network(
            n_axes,
            projection.n_outputs(projection.n_dims_in_, n_axes),
            depth=projection.depth,
            dropout=projection.dropout,
            joined=projection.joined_network(n_axes),
        ).to(device)
        rows = torch.from_numpy(coordinates).to(device)
        rng = np.random.default_rng(seed)
        return _best_epoch(projection, network, rows, sides, rng)


def _best_epoch(
    projection: SiameseMap,
    network: Network,
    rows: Any,
    sides: tuple[PairSet, Matches, Matches],
    rng: np.random.Generator,
) -> Trained:
    import torch

    train, matches, held_out = sides
    optimiser = torch.optim.Adam(network.parameters(), projection.rate)
    result, best, since = Trained(), np.inf, 0
    for epoch in range(projection.epochs + 1):
        if epoch > 0:
            network.train(True)
            n_steps = 0
            for loss in projection.losses(
                network.body, rows, train, matches, rng, network.joined
            ):
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                n_steps += 1
            if n_steps == 0 and epoch == 1:
                msg = f"{projection.spec}: {projection.nothing_to_learn}"
                raise DataError(msg)
            if n_steps == 0:  # every margin is kept
                break
        network.train(False)
        with torch.no_grad():
            projected = network.body(rows).cpu().numpy()
        loss_now = np.inf
        if np.isfinite(projected).all():
            loss_now = projection.validation_loss(projected, held_out, network.joined)
        elif not projection.patience:  # else an earlier epoch is kept
            msg = (
                f"projection {projection.spec!r} diverged in epoch {epoch}: give a "
                "lower rate, or a smaller margin or higher temperature"
            )
            raise DataError(msg)
        result.losses.append(loss_now)
        since += 1
        # Not <=: a map that gains nothing stays at its start.
        if loss_now < best or not projection.patience:
            best, since = loss_now, 0
            result.keep(network)
        if projection.patience and since >= projection.patience:
            break
    return result
