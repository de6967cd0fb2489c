"""The epochs: matches in batches, a step each, the best on validation kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError
from tllboost.finetune.checkpoint import State, load_state, save_state
from tllboost.finetune.learner import Learner
from tllboost.finetune.loss import are_alike, ranking_loss
from tllboost.finetune.maps import Maps
from tllboost.finetune.pictures import Job
from tllboost.splits import PairSet

__all__ = ["Trainer"]

Message = Callable[[str], None]
Progress = Callable[[int, int, str], None]
_BATCH = 64
# More than the batches of an epoch could ask for: numbers of views never meet.
_VIEWS_AN_EPOCH = 2**20


class Trainer:
    """Train the last stages of a network on the matches of a training side.

    Parameters
    ----------
    learner : Learner
    maps : Maps
        What the frozen stages make of each picture.
    train, validation : PairSet
    seed : int
        Decides the order, and which views are taken.
    n_views : int
        Kept views a picture; 0 takes new ones every epoch.
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
            If the training side has matches of one component alone, or the vectors of
            the validation side are all alike before training.
        """
        if len(np.unique(self.matches.component)) < 2:
            msg = (
                "fine-tuning needs training matches of at least two groups that share "
                "no picture: there is nothing to tell a match from"
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
                "the network gives all validation pictures the same vector before any "
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
        """Choose a view of each picture: of those kept, or one never made before."""
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
        """The images of the validation side."""
        return np.unique(np.append(self.validation.left, self.validation.right))

    def _validation_vectors(self) -> NDArray[np.float32]:
        """Return one row an image: the vectors of the validation side, else zeros."""
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
