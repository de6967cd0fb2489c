"""The head `mlp` on the 3,324 numbers of `classic`, beside its bare steps in torch.

Both merges of the demo, on the demo's pairs, side by side in two processes of one
thread, as the demo has them; torch is loaded before. The bare steps are as many batches
through the same layers, with the gradient and AdamW, on random numbers, side by side as
well: nothing is merged, scaled, validated or kept.
"""

from __future__ import annotations

import cProfile
import multiprocessing
import pickle
import pstats
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

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
# What a fit spends its time in, by the functions that a profiler tells of.
PHASES = {
    "products forward (of validation too)": "_nn.linear",
    "gradients": "run_backward",
    "AdamW": "_fused_adamw_",
}


def bare_steps(n_steps: int, n_dims: int) -> None:
    """Take as many steps of the same network on random rows."""
    head = mlp.MLPHead()
    rows, label = torch.randn(4_000, n_dims), torch.ones(BATCH)
    with one_thread():
        torch.set_num_threads(1)
        network = head._network(n_dims)
        optimiser = mlp.Adam(network.parameters(), 1e-3, 1e-3)
        for step in range(n_steps):
            batch = rows[(torch.arange(BATCH) + BATCH * step) % len(rows)]
            margin = network(batch).squeeze(1)
            binary_cross_entropy_with_logits(margin, label).backward()
            optimiser.step()  # one pass over the weights, as in the head


def fit(file: Path, merge: str) -> None:
    """Fit the head on one merge."""
    torch.set_num_threads(1)
    vectors, split = pickle.loads(file.read_bytes())
    fit_scorer(Bench(vectors, split, merge, 0), "mlp")


def seconds_of(file: Path, merge: str) -> dict[str, float]:
    """Return the seconds of a fit and of each phase, by a profiler; and its steps."""
    profiler = cProfile.Profile()
    profiler.runcall(fit, file, merge)
    told: Any = pstats.Stats(profiler)
    found = {"all": told.total_tt}
    for phase, name in PHASES.items():
        of = [one for (*_, function), one in told.stats.items() if name in function]
        found[phase] = sum(seconds for _, _, seconds, *_ in of)
        if phase == "AdamW":
            found["steps"] = sum(n_calls for _, n_calls, *_ in of)
    return found


def main() -> None:
    """Measure."""
    said = options(__doc__)
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as made,
        ProcessPoolExecutor(len(MERGES), mp_context=spawn) as pool,
    ):
        n_scenes = 40 if said.quick else 240
        demo = make_demo_set(Path(made, "demo"), n_scenes=n_scenes)
        table = read_pairs(demo.pairs, images=demo.pairs.parent)
        data = gather(table, {"classic": make_vectorizer("classic")}, store=made)
        vectors, (split,) = data.vectors["classic"].vectors, data.splits(0)
        file = Path(made, "data.pickle")
        file.write_bytes(pickle.dumps((vectors, split)))

        def side_by_side(function: Callable[..., Any], *each: Iterable[Any]) -> Any:
            return [*pool.map(function, *each)]

        files = [file] * len(MERGES)
        n_dims = vectors.shape[1]
        spent = side_by_side(seconds_of, files, MERGES)
        n_steps = [int(one["steps"]) for one in spent]
        total = {name: sum(one[name] for one in spent) for name in spent[0]}
        shares = [f"{name} {total[name] / total['all']:.0%}" for name in PHASES]
        limit(
            "mlp",
            lambda: side_by_side(fit, files, MERGES),
            at_most=MOST,
            runs=said.runs,
            bounds=[
                Bound(
                    "bare steps in torch",
                    "steps/s",
                    sum(n_steps),
                    lambda: side_by_side(bare_steps, n_steps, [n_dims] * len(MERGES)),
                )
            ],
            what=f"`mlp` on `dot` and `l1` of `classic`, side by side as in the demo, "
            f"{len(split.train):,} pairs of {n_dims:,} numbers, {sum(n_steps)} steps",
            profile=f"share of the seconds in both fits: {', '.join(shares)}",
            folder=said.folder,
        )


if __name__ == "__main__":
    main()
