"""What learns: the trained stages, the projection above them, and their optimiser."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.finetune.loss import info_nce
from tllboost.finetune.settings import FineTuneSettings
from tllboost.finetune.stages import CutNetwork

__all__ = ["Learner"]

_WARM = 0.1  # of all steps, over which the learning rate rises
_PROJECTION_RATE = 3.0  # times that of the network: it starts from nothing


class Learner:
    """The trained stages of a network, and what is needed to train them.

    Parameters
    ----------
    network : CutNetwork
    settings : FineTuneSettings
    seed : int
        Decides the projection's first weights.

    Attributes
    ----------
    trained : dict of str to torch.nn.Parameter
        The network's own, by name.
    """

    def __init__(
        self, network: CutNetwork, settings: FineTuneSettings, seed: int
    ) -> None:
        import torch

        self.network = network
        self.settings = settings
        parameters = dict(network.whole.named_parameters())
        self.trained = {name: parameters[name] for name in network.trained}
        self.device = next(iter(self.trained.values())).device
        self.projection = self._projection(seed)
        groups = [{"params": list(self.trained.values())}]
        if settings.n_components:
            groups.append({"params": list(self.projection.parameters())})
        self.optimiser = torch.optim.AdamW(
            groups, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def step(self, maps: Any, component: NDArray[np.int64]) -> float:
        """Learn from one batch; return its loss.

        Parameters
        ----------
        maps : torch.Tensor of shape (2 * n_matches, ...)
            Of the left pictures, then of the right ones.
        component : ndarray of shape (n_matches,), int64
        """
        import torch

        kind = self.device.type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda"):
            left, right = self.projection(self.network.tail(maps)).chunk(2)
        components = torch.from_numpy(component).to(self.device)
        loss = info_nce(left, right, components, self.settings.temperature)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())

    def set_rate(self, done: float) -> None:
        """Set the learning rate after `done` epochs: up, then along a cosine."""
        part = done / self.settings.n_epochs
        warm = min(1.0, (part + 0.01) / _WARM)
        rate = self.settings.learning_rate * warm * (1 + math.cos(math.pi * part)) / 2
        times = (1.0, _PROJECTION_RATE)
        for group, one in zip(self.optimiser.param_groups, times, strict=False):
            group["lr"] = rate * one

    def parameters(self) -> dict[str, Any]:
        """Return copies of the trained parameters, on the CPU."""
        return {name: _copy(one) for name, one in self.trained.items()}

    def put(self, parameters: dict[str, Any]) -> None:
        """Write parameters into the network."""
        import torch

        with torch.no_grad():
            for name, one in parameters.items():
                self.trained[name].copy_(one)

    def surroundings(self) -> dict[str, Any]:
        """Return copies of the projection and of what the optimiser remembers."""
        tensors = {
            f"projection.{name}": _copy(one)
            for name, one in self.projection.state_dict().items()
        }
        for index, slot in self.optimiser.state_dict()["state"].items():
            for name, one in slot.items():
                tensors[f"adam.{index}.{name}"] = _copy(one)
        return tensors

    def restore(self, tensors: dict[str, Any]) -> None:
        """Take back what `surroundings` gave."""
        slots: dict[int, dict[str, Any]] = {}
        projection = {}
        for key, one in tensors.items():
            kind, _, name = key.partition(".")
            if kind == "projection":
                projection[name] = one
            elif kind == "adam":
                index, _, name = name.partition(".")
                slots.setdefault(int(index), {})[name] = one
        self.projection.load_state_dict(projection)
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": slots, "param_groups": groups})

    def _projection(self, seed: int) -> Any:
        """Return what the loss sees the vectors through."""
        import torch

        if not self.settings.n_components:
            return torch.nn.Identity()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            projection = torch.nn.Linear(
                self.network.n_dims, self.settings.n_components, bias=False
            )
        return projection.to(self.device)


def _copy(tensor: Any) -> Any:
    return tensor.detach().cpu().clone()
