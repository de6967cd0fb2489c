"""How far a training is, in one file that is there whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tllboost.whole_file import whole_file

__all__ = ["State", "load_state", "save_state"]


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
