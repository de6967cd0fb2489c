"""What fine-tuning makes small, what judges an epoch, and when vectors are all one.

What learns: the trained stages, the projection above them, and their optimiser.

How far a training is, in one file that is there whole or not at all.

The epochs: matches in batches, a step each, the best on validation kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError
from tllboost.files import whole_file
from tllboost.finetune.images import Job, Maps
from tllboost.finetune.network import CutNetwork
from tllboost.finetune.settings import FineTuneSettings
from tllboost.merges import unit_rows
from tllboost.projections.base import Matches, find_loss
from tllboost.projections.losses import info_nce
from tllboost.splits import PairSet

__all__ = ["Learner", "State", "Trainer", "are_alike", "ranking_loss"]

_TEMPERATURES = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
_ALIKE = 1e-3
_MOST = 1_000  # validation matches that are looked up among each other


def ranking_loss(vectors: NDArray[np.float32], pairs: PairSet) -> float:
    """Return how badly the cosine ranks: cross-entropy of each list's match.

    The temperature is the one that suits best, so that vectors are judged by how they
    order candidates, not by how far apart they lie.

    Parameters
    ----------
    vectors : ndarray of shape (n_images, n_dims), float32
    pairs : PairSet
        With ranking lists; without any, its matches are looked up among each other.

    Examples
    --------
    >>> from tllboost.splits import Protocol, make_splits
    >>> left, right = np.arange(40), np.arange(40, 80)
    >>> component, label = np.tile(np.arange(40), 2), np.ones(40, np.int8)
    >>> (split,) = make_splits(left, right, label, component,
    ...                        protocol=Protocol(n_distractors=3), seed=0)
    >>> good = np.eye(40, dtype=np.float32)[component]
    >>> bool(ranking_loss(good, split.test) < 1e-9)
    True
    """
    listed = np.flatnonzero(pairs.query >= 0)
    unit = unit_rows(vectors)
    if not len(listed):
        # The old protocol of 2017 has pairs and no lists: matches among each other.
        matches = Matches(pairs, _MOST)
        similarity = unit[matches.left] @ unit[matches.right].T
        return find_loss(similarity, matches.component)
    order = listed[np.argsort(pairs.query[listed], kind="stable")]
    left, right = unit[pairs.left[order]], unit[pairs.right[order]]
    cosine = np.einsum("ij,ij->i", left, right, dtype=np.float64)
    label, query = pairs.label[order], pairs.query[order]
    starts = np.flatnonzero(np.r_[True, query[1:] != query[:-1]])
    return min(_list_loss(cosine / one, label, starts) for one in _TEMPERATURES)


def are_alike(vectors: NDArray[np.float32]) -> bool:
    """Tell whether vectors all point one way: the network has collapsed.

    Examples
    --------
    >>> are_alike(np.ones((3, 2), np.float32)), are_alike(np.eye(3, dtype=np.float32))
    (True, False)
    """
    unit = unit_rows(vectors)
    mean = unit_rows(unit.mean(axis=0, keepdims=True))
    return not np.max(1 - unit @ mean[0], initial=0.0) > _ALIKE  # NaN counts as alike


def _list_loss(
    score: NDArray[np.float64], label: NDArray[np.int8], starts: NDArray[np.int64]
) -> float:
    """Return the mean negative log-likelihood of the matches of each list."""
    length = np.diff(np.r_[starts, len(score)])
    highest = np.maximum.reduceat(score, starts)
    power = np.exp(score - np.repeat(highest, length))
    whole = highest + np.log(np.add.reduceat(power, starts))
    n_matches = np.maximum(np.add.reduceat(label.astype(np.float64), starts), 1)
    match = np.add.reduceat(score * label, starts) / n_matches
    return float(np.mean(whole - match))


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
            Of the left images, then of the right ones.
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


@dataclass(eq=False)
class State:
    """A training between two epochs.

    Attributes
    ----------
    tensors : dict of str to torch.Tensor
        Trained parameters, projection and optimiser as they are now, and the best
        parameters so far.
    history : list of dict
        ``epoch``, ``loss`` on training matches and ``validation``, a record an epoch,
        the frozen network first.
    """

    tensors: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """The last finished epoch; 0 is the frozen network."""
        return len(self.history) - 1

    @property
    def best(self) -> int:
        """The epoch of lowest validation loss, the first of equals."""
        losses = [one["validation"] for one in self.history]
        return losses.index(min(losses))

    def part(self, prefix: str) -> dict[str, Any]:
        """Return the tensors whose name begins with `prefix`, without it."""
        return {
            name.removeprefix(prefix): value
            for name, value in self.tensors.items()
            if name.startswith(prefix)
        }


def save_state(file: Path, state: State, key: str) -> None:
    """Write a state; `key` says which training it is of."""
    from safetensors.torch import save

    tensors = {name: one.contiguous() for name, one in state.tensors.items()}
    data = save(tensors, {"key": key, "history": json.dumps(state.history)})
    with whole_file(file) as opened:
        opened.write(data)


def load_state(file: Path, key: str) -> State | None:
    """Return the state in a file; None if there is none, or of another training."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(file, framework="numpy") as opened:
            record = opened.metadata() or {}
        if record.get("key") != key:
            return None
        return State(load_file(file), json.loads(record["history"]))
    except (SafetensorError, OSError, ValueError, KeyError):
        return None  # damaged: the epochs are done again


Message = Callable[[str], None]
Progress = Callable[[int, int, str], None]
_BATCH = 64
# More than the batches of an epoch could ask for: numbers of views never meet.
_VIEWS_AN_EPOCH = 2**20


class Trainer:
    """Train the last stages of a network on the matches of a training set.

    Parameters
    ----------
    learner : Learner
    maps : Maps
        What the frozen stages make of each image.
    train, validation : PairSet
    seed : int
        Decides the order, and which views are taken.
    n_views : int
        Kept views an image; 0 takes new ones every epoch.
    file : Path
        The checkpoint.
    key : str
        Which training it is.
    progress, message : callable, optional
    """

    def __init__(
        self,
        learner: Learner,
        maps: Maps,
        train: PairSet,
        validation: PairSet,
        *,
        seed: int,
        n_views: int,
        file: Path,
        key: str,
        progress: Progress | None = None,
        message: Message | None = None,
    ) -> None:
        self.learner = learner
        self.settings = learner.settings
        self.maps = maps
        self.matches = train.take(np.flatnonzero(train.label == 1))
        self.validation = validation
        self.seed = seed
        self.n_views = n_views
        self.file = file
        self.key = key
        self.progress = progress
        self.message = message or (lambda line: None)

    def run(self) -> State:
        """Train to the end, from where a checkpoint left off; put the best in place.

        Raises
        ------
        DataError
            If the training set has matches of one component alone, or the vectors of
            the validation set are all alike before training.
        """
        if len(np.unique(self.matches.component)) < 2:
            msg = (
                "fine-tuning needs training matches of at least two groups that share "
                "no image: there is nothing to tell a match from"
            )
            raise DataError(msg)
        state = load_state(self.file, self.key)
        if state is None:
            state = self._first_state()
        else:
            self.learner.put(state.part("now."))
            self.learner.restore(state.tensors)
            self.message(f"going on after epoch {state.epoch}")
        while self._goes_on(state) and self._epoch(state):
            pass
        self.learner.put(state.part("best."))
        return state

    def _goes_on(self, state: State) -> bool:
        stale = state.epoch - state.best
        return state.epoch < self.settings.n_epochs and stale < self.settings.patience

    def _first_state(self) -> State:
        vectors = self._validation_vectors()
        if are_alike(vectors[self._held_out]):
            msg = (
                "the network gives all validation images the same vector before any "
                "training: its weights are no use to start from"
            )
            raise DataError(msg)
        state = State()
        self._keep(state, None, ranking_loss(vectors, self.validation))
        return state

    def _epoch(self, state: State) -> bool:
        """Train one epoch and record it; False if the network has collapsed."""
        epoch = state.epoch + 1
        loss = self._train(epoch)
        vectors = self._validation_vectors()
        if not math.isfinite(loss) or are_alike(vectors[self._held_out]):
            self.message(
                f"epoch {epoch}: collapsed, all vectors are alike; epoch {state.best} "
                "stands; a lower learning rate may help"
            )
            return False
        self._keep(state, loss, ranking_loss(vectors, self.validation))
        self.message(
            f"epoch {epoch} of {self.settings.n_epochs}: loss {loss:.3f}, validation "
            f"{state.history[-1]['validation']:.3f}"
            f"{' (the best)' if state.best == epoch else ''}"
        )
        return True

    def _train(self, epoch: int) -> float:
        """Take one step a batch; return the mean loss."""
        batches = self._batches(epoch)
        losses = []
        for step, maps in enumerate(self.maps.batches(self._jobs(batches, epoch))):
            self.learner.set_rate(epoch - 1 + step / len(batches))
            component = self.matches.component[batches[step]]
            losses.append(self.learner.step(maps, component))
            if self.progress is not None:
                self.progress(step + 1, len(batches), f"epoch {epoch}")
        return float(np.mean(losses))

    def _batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the rows of each batch; none is so small that it tells nothing."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.matches))
        return np.array_split(order, max(1, len(order) // self.settings.batch_size))

    def _jobs(self, batches: list[NDArray[np.int64]], epoch: int) -> list[list[Job]]:
        """Choose a view of each image: of those kept, or one never made before."""
        rng = np.random.default_rng([self.seed, epoch, 1])
        low, high = 1, self.n_views + 1
        if self.n_views == 0:
            low, high = (epoch - 1) * _VIEWS_AN_EPOCH + 1, epoch * _VIEWS_AN_EPOCH
        jobs = []
        for rows in batches:
            images = np.append(self.matches.left[rows], self.matches.right[rows])
            views = rng.integers(low, high, len(images))
            jobs.append(list(zip(images.tolist(), views.tolist(), strict=True)))
        return jobs

    @property
    def _held_out(self) -> NDArray[np.int64]:
        """The images of the validation set."""
        return np.unique(np.append(self.validation.left, self.validation.right))

    def _validation_vectors(self) -> NDArray[np.float32]:
        """Return one row an image: the vectors of the validation set, else zeros."""
        import torch

        used = self._held_out
        chunks = np.array_split(used, math.ceil(len(used) / _BATCH))
        jobs = [[(int(image), 0) for image in chunk] for chunk in chunks]
        tail = self.learner.network.tail
        with torch.no_grad():
            blocks = [tail(one).float().cpu() for one in self.maps.batches(jobs)]
        rows = torch.cat(blocks).numpy()
        vectors = np.zeros((used.max() + 1, rows.shape[1]), dtype=np.float32)
        vectors[used] = rows
        return vectors

    def _keep(self, state: State, loss: float | None, validation: float) -> None:
        """Add an epoch to a state: all that the next needs, on the disk too."""
        epoch = len(state.history)
        state.history.append({"epoch": epoch, "loss": loss, "validation": validation})
        now: dict[str, Any] = self.learner.parameters()
        tensors = {f"now.{name}": one for name, one in now.items()}
        if state.best == epoch:
            tensors |= {f"best.{name}": one.clone() for name, one in now.items()}
        state.tensors |= tensors | self.learner.surroundings()
        save_state(self.file, state, self.key)
