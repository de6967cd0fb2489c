"""The head `mlp` on the 3,324 numbers of `classic`, beside its bare steps in torch.

Both merges of the demo, on the demo's pairs, in one thread as a cell has it. The bare
steps are as many batches through the same layers, with the gradient and AdamW, on
random numbers: nothing is merged, scaled, validated or kept.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from bench import Bound, limit, options
from torch.nn.functional import binary_cross_entropy_with_logits

from tllboost.demo import make_demo_set
from tllboost.grid.data import gather
from tllboost.grid.measure import Bench, fit_scorer, one_thread
from tllboost.heads import mlp
from tllboost.pairs import read_pairs
from tllboost.vectorizers import make_vectorizer

MOST = 2.0  # seconds, both merges
MERGES = ("dot", "l1")
BATCH = 32


def bare_steps(n_steps: int, n_dims: int) -> Bound:
    """Return as many steps of the same network on random rows."""
    head = mlp.MLPHead()
    rows, label = torch.randn(4_000, n_dims), torch.ones(BATCH)

    def run() -> None:
        with one_thread():
            torch.set_num_threads(1)
            network = head._network(n_dims)
            optimiser = mlp.Adam(network.parameters(), 1e-3, 1e-3)
            for step in range(n_steps):
                batch = rows[(torch.arange(BATCH) + BATCH * step) % len(rows)]
                margin = network(batch).squeeze(1)
                binary_cross_entropy_with_logits(margin, label).backward()
                optimiser.step()  # one pass over the weights, as in the head

    return Bound("bare steps in torch", "steps/s", n_steps, run)


def main() -> None:
    """Measure."""
    said = options(__doc__)
    with tempfile.TemporaryDirectory() as made:
        n_scenes = 40 if said.quick else 240
        demo = make_demo_set(Path(made, "demo"), n_scenes=n_scenes)
        table = read_pairs(demo.pairs, images=demo.pairs.parent)
        data = gather(table, {"classic": make_vectorizer("classic")}, store=made)
        vectors, (split,) = data.vectors["classic"].vectors, data.splits(0)
        steps: list[int] = []

        class Counted(mlp.Adam):
            """Counts its steps."""

            def step(self) -> None:
                """Take one."""
                steps.append(1)
                super().step()

        def work() -> None:
            torch.set_num_threads(1)
            for merge in MERGES:
                fit_scorer(Bench(vectors, split, merge, 0), "mlp")

        with patch.object(mlp, "Adam", Counted):
            work()
        n_steps = len(steps)
        limit(
            "mlp",
            work,
            at_most=MOST,
            runs=said.runs,
            bounds=[bare_steps(n_steps, vectors.shape[1])],
            what=f"`mlp` on `dot` and `l1` of `classic`, {len(split.train):,} "
            f"pairs of {vectors.shape[1]:,} numbers, {n_steps} steps",
            profile="the steps alone take most of the time, and what AdamW reads and "
            "writes in each is the weights, their gradient and two moments, "
            f"{4 * 4 * np.prod([vectors.shape[1], 512]) / 1e6:.0f} MB",
            folder=said.folder,
        )


if __name__ == "__main__":
    main()
