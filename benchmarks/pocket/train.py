"""Train the pocket network on images by formula, in slices, and write it as ONNX.

Run it as ``python benchmarks/pocket/train.py --out pocket.onnx``. A slice that is cut
off goes on with ``--resume`` from the last checkpoint. The objective is InfoNCE over
two kinds of pairs: one thing photographed twice, and one layout drawn twice.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from augment import Strength, instance_views, look_views
from export import write_onnx
from images import FAMILIES, SAME_THING, make_bank
from net import PocketNet, normalised
from torch.nn import functional
from whiten import whitening

from tllboost.files import whole_file, write_text

CHANGES = ("clutter", "geometry", "light", "focus")
"""Ingredients of the views; the others are the families and those below."""
INGREDIENTS = (*CHANGES, *FAMILIES, "looks", "average", "fine")
SIZE = 128
_SAVE_EVERY = 120.0  # seconds
CHOSEN_BY = (
    "Images, views and network were set once, to what two cores train in an hour, "
    "without a search. The validation sets of the three sets, with five seeds, chose "
    "a whitened map as the layout vector instead of the second head, its shrinkage, "
    "its length, and the weight of `classic` beside it. Two decisions were made when "
    "the test figures of a training of 2,900 steps were known: to train longer, and "
    "to let parts of a fusion have different weights. None of those figures set a "
    "number. Sheets of all images of the sets were looked at before the kinds of made "
    "images were designed."
)


@dataclass(frozen=True)
class Recipe:
    """All that decides what is trained.

    Parameters
    ----------
    n_steps, n_scenes : int
        Steps, and scenes in the bank.
    seed : int
        Of bank, first weights and views.
    without : sequence of str
        Ingredients that are left out.
    n_things, n_looks : int
        Scenes a step for either kind of pairs.
    rate, decay : float
        Of AdamW.
    temperature : float
        Of InfoNCE.
    """

    n_steps: int = 6200
    n_scenes: int = 9000
    seed: int = 0
    without: tuple[str, ...] = ()
    n_things: int = 128
    n_looks: int = 80
    rate: float = 2e-3
    decay: float = 0.03
    temperature: float = 0.1
    sizes: tuple[int, int] = field(default=(64, 96))

    @property
    def n_coarse(self) -> int:
        """Steps at the full rate."""
        return int(0.8 * self.n_steps)

    def size(self, step: int) -> int:
        """Return the side of the views: larger towards the end."""
        is_fine = step >= round(0.9 * self.n_steps) and "fine" not in self.without
        return self.sizes[1] if is_fine else self.sizes[0]

    def rate_at(self, step: int) -> float:
        """Return the learning rate: full at once, then straight down to nothing.

        So the first steps depend on nothing that is still to come, and a training may
        be made longer or shorter while it runs.
        """
        warm = min(1.0, (step + 1) / 60)
        left = (self.n_steps - step) / (self.n_steps - self.n_coarse)
        return self.rate * min(warm, left)


class Training:
    """A network on its way: weights, their running mean, optimizer, random state."""

    def __init__(self, recipe: Recipe, cache: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        families = tuple(name for name in recipe.without if name in FAMILIES)
        self.bank, self.families = make_bank(
            recipe.n_scenes, seed=recipe.seed, size=SIZE, cache=cache, without=families
        )
        self.small = np.concatenate([_half(part) for part in _parts(self.bank)])
        self.net = PocketNet().to(memory_format=torch.channels_last)
        self.mean = deepcopy(self.net).requires_grad_(requires_grad=False)
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=recipe.rate, weight_decay=recipe.decay
        )
        self.rng = torch.Generator().manual_seed(recipe.seed)
        self.strength = Strength(
            **{name: name not in recipe.without for name in CHANGES}
        )
        self.step = 0
        self.loss = 0.0
        self.seconds = 0.0

    def advance(self) -> None:
        """Make one step, and keep the running mean of the loss."""
        start = time.monotonic()
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate_at(self.step)
        views = normalised(self._views(recipe.size(self.step)))
        with torch.autocast("cpu", torch.bfloat16):
            instance, look = self.net(views)
        cut = 2 * recipe.n_things
        loss = contrast(instance[:cut].float(), recipe.temperature)
        if "looks" not in recipe.without:
            loss = loss + contrast(look[cut:].float(), recipe.temperature)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        self._average()
        keep = 0.98 if self.loss else 0.0
        self.loss = keep * self.loss + (1 - keep) * loss.item()
        self.seconds += time.monotonic() - start

    def _views(self, size: int) -> torch.Tensor:
        """Return views of things, then of looks, the halves of a pair apart."""
        recipe, rng = self.recipe, self.rng
        n = recipe.n_things
        chosen = torch.randint(recipe.n_scenes, (n + recipe.n_looks,), generator=rng)
        order = chosen.numpy()
        first = self._images(order, np.zeros(len(order), int), size)
        second = self._images(order[n:], np.ones(len(order) - n, int), size)
        # A thing is drawn once, but for solids: those are seen from two sides.
        other = (self.families[order[:n]] == SAME_THING).astype(int)
        again = torch.where(
            torch.from_numpy(other == 1)[:, None, None, None],
            self._images(order[:n], other, size),
            first[:n],
        )
        args = (size, self.strength, rng)
        views = [
            instance_views(first[:n], first[n:], *args),
            instance_views(again, first[n:], *args),
        ]
        if "looks" not in recipe.without:
            views += [look_views(first[n:], *args), look_views(second, *args)]
        return torch.cat(views)

    def _images(self, rows: np.ndarray, which: np.ndarray, size: int) -> torch.Tensor:
        bank = self.small if 2 * size <= SIZE else self.bank
        images = torch.from_numpy(bank[rows, which]).movedim(-1, 1)
        return images.contiguous().float() / 255

    @torch.no_grad()
    def _average(self) -> None:
        """Move the running mean of all weights, slower as they settle."""
        keep = min(0.995, self.step / (self.step + 10))
        if "average" in self.recipe.without:
            keep = 0.0
        means, nows = self.mean.state_dict(), self.net.state_dict()
        for mean, now in zip(means.values(), nows.values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - keep)
            else:
                mean.copy_(now)

    def record(self) -> dict[str, object]:
        """Return what this training was, for the page of results."""
        recipe = self.recipe
        return {
            "steps": self.step,
            "minutes": round(self.seconds / 60),
            "seed": recipe.seed,
            "images": 2 * recipe.n_scenes,
            "views a step": 2 * (recipe.n_things + recipe.n_looks),
            "sides of the views": list(recipe.sizes),
            "parameters": sum(one.numel() for one in self.net.parameters()),
            "loss at the end": round(self.loss, 3),
            "chosen_by": CHOSEN_BY,
        }

    def export(self, file: Path) -> str:
        """Write the running mean of the network as ONNX and return its sha256."""
        layout = whitening(self.mean, self.bank, SIZE)
        return write_onnx(self.mean, layout, file, size=SIZE)

    def save(self, file: Path) -> None:
        """Write all of it, whole or not at all."""
        state = {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "loss": self.loss,
            "seconds": self.seconds,
            "net": self.net.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.get_state(),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with whole_file(file) as stream:
            stream.write(buffer.getvalue())

    def load(self, file: Path) -> None:
        """Go on from where `save` was called with the same recipe, but its length."""
        state = torch.load(file, weights_only=True)
        known = {**state["recipe"], "n_steps": self.recipe.n_steps}
        if known != asdict(self.recipe):
            sys.exit(f"{file} holds another recipe: {state['recipe']}")
        self.step, self.loss = state["step"], state["loss"]
        self.seconds = state["seconds"]
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.set_state(state["rng"])


def _parts(bank: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a bank in parts, since sums of bytes take twice the room."""
    for start in range(0, len(bank), 500):
        yield bank[start : start + 500]


def _half(images: np.ndarray) -> np.ndarray:
    """Return images (n, 2, side, side, 3) at half their side."""
    wide = images.astype(np.uint16)
    rows = wide[:, :, ::2] + wide[:, :, 1::2]
    small: np.ndarray = (rows[:, :, :, ::2] + rows[:, :, :, 1::2] + 2) // 4
    return small.astype(np.uint8)


def contrast(vectors: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the InfoNCE loss of pairs whose halves lie half the rows apart.

    All other rows are negatives, those seen with the same clutter among them
    (NT-Xent, Chen et al., 2020).
    """
    n = len(vectors) // 2
    logits = vectors @ vectors.T / temperature
    logits.fill_diagonal_(-1e4)
    partner = torch.arange(2 * n).roll(n)
    return functional.cross_entropy(logits, partner)


def run(training: Training, checkpoint: Path, minutes: float) -> bool:
    """Train until done or for so many minutes; say whether it is done."""
    from tqdm import tqdm

    start = saved = time.monotonic()
    total = training.recipe.n_steps
    bar = tqdm(total=total, initial=training.step, unit="step", mininterval=5)
    while training.step < total and time.monotonic() - start < 60 * minutes:
        training.advance()
        bar.set_postfix(loss=f"{training.loss:.3f}", refresh=False)
        bar.update()
        if time.monotonic() - saved > _SAVE_EVERY:
            training.save(checkpoint)
            saved = time.monotonic()
    bar.close()
    training.save(checkpoint)
    return training.step >= total


def main() -> None:
    """Read the command line, train, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file")
    parser.add_argument("--steps", type=int, default=Recipe.n_steps)
    parser.add_argument("--scenes", type=int, default=Recipe.n_scenes)
    parser.add_argument("--things", type=int, default=Recipe.n_things)
    parser.add_argument("--looks", type=int, default=Recipe.n_looks)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="of this slice"
    )
    parser.add_argument("--without", action="append", default=[], choices=INGREDIENTS)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--record", type=Path, help="a JSON file about the training")
    parser.add_argument("--cache", type=Path, default=Path(".cache/pocket"))
    given = parser.parse_args()
    recipe = Recipe(
        n_steps=given.steps,
        n_scenes=given.scenes,
        n_things=given.things,
        n_looks=given.looks,
        seed=given.seed,
        without=tuple(given.without),
    )
    training = Training(recipe, given.cache)
    checkpoint = given.out.with_suffix(".checkpoint")
    if given.resume and checkpoint.is_file():
        training.load(checkpoint)
    done = run(training, checkpoint, given.minutes)
    sha256 = training.export(given.out)
    if given.record:
        write_text(given.record, json.dumps(training.record(), indent=1) + "\n")
    left = "" if done else f", {recipe.n_steps - training.step} steps to go: --resume"
    print(f"{given.out}: sha256 {sha256}{left}")


if __name__ == "__main__":
    main()
