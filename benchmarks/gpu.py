"""Vectorizing, fine-tuning and projections on a GPU, held against the CPU's vectors.

Run it as ``python benchmarks/gpu.py`` where torch sees a GPU: it takes minutes, eight
at most, and writes ``results/bench/gpu.json``. Where there is none it says so, and
measures nothing. Weights are random: they are as fast. The CPU's vectors are those that
torch computes there in float32.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench import PAIRS, RESULTS, spread, timed, written

from tllboost.demo import make_scenes
from tllboost.finetune import FineTuneSettings, finetune
from tllboost.images import open_image
from tllboost.projections import PROJECTIONS, make_projection
from tllboost.splits import (
    Protocol,
    Split,
    SplitTable,
    make_splits,
    match_components,
)
from tllboost.store import VectorStore
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizers.torch import disagreement, quiet
from tllboost.vectorizing import space_of, vectorize

AT_MOST = 8 * 60.0  # seconds of all of it
NETWORKS = ("timm:resnet50", "clip:ViT-B-32:openai")
N_IMAGES = 1024
N_CHECKED = 32  # images that the CPU vectorizes too
N_LEARNT = 48  # images to learn from, at least
SIDE = 256  # of an image, in pixels
EPOCHS = 3
WITHIN = {"float32": 1e-4, "bfloat16": 1e-2}  # of a vector's length
NO_GPU = "no GPU: torch sees none here, so nothing was measured and nothing written"

Row = dict[str, Any]


def gpu_name() -> str | None:
    """Return the name of the GPU that torch uses, None where there is none."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def random_weights(network: str, folder: Path) -> str:
    """Return the name of a network with random weights, saved in a folder once."""
    import torch

    kind, arch, *_ = network.split(":")
    file = folder / f"{arch}.pth"
    if file.exists():
        return f"{network}@{file}"
    torch.manual_seed(0)
    with quiet():
        if kind == "timm":
            import timm

            made = timm.create_model(arch, num_classes=0)
        else:
            import open_clip

            made = open_clip.create_model(arch, load_weights=False)
        torch.save(made.state_dict(), file)
    return f"{network}@{file}"


def pairs_of(n_images: int) -> Split:
    """Split images of which each second one matches the one before."""
    left, right = np.arange(0, n_images, 2), np.arange(1, n_images, 2)
    protocol = Protocol(n_negatives=1, n_distractors=1)
    label = np.ones(len(left), dtype=np.int8)
    table = SplitTable(left, right, label, match_components(n_images, left, right))
    (split,) = make_splits(table, protocol=protocol, seed=0)
    return split


def row(
    what: str,
    rates: Sequence[float],
    vectors: tuple[np.ndarray, np.ndarray],
    within: float | None,
) -> Row:
    """Return images a second of a work, and how far its vectors are from the CPU's.

    `vectors` are the CPU's and those of the GPU.
    """
    return {
        "what": what,
        "images_a_second": spread(rates),
        "apart": disagreement(*vectors),
        "within": within,
    }


def vectorizing(
    network: str, device: str, paths: list[Path], folder: Path
) -> Iterator[Row]:
    """Measure images to stored vectors, and the network alone, in each precision."""
    weights = random_weights(network, folder)
    few = paths[:N_CHECKED]
    here = vectorize(make_vectorizer(weights, device="cpu"), few, strict=True).vectors
    for precision, within in WITHIN.items():
        option = "" if precision == "float32" else f"?precision={precision}"
        one = make_vectorizer(weights + option, device=device)
        store = VectorStore(folder / f"store-{precision}")
        vectorize(one, few, store=store, strict=True)  # opens what it needs

        def stored(one: Any = one, store: VectorStore = store) -> np.ndarray:
            store.prune(space_of(one))
            return vectorize(one, paths, store=store, strict=True).vectors

        prepared = [one.prepare(open_image(p, shrink_to=one.input_size)) for p in few]
        works = {
            "images to stored vectors": stored,
            "the network alone": partial(one.forward, np.stack(prepared)),
        }
        for what, work in works.items():
            there = work()
            walls = [timed(work)[1]["wall"] for _ in range(PAIRS)]
            yield row(
                f"`vectorize` with `{network}`, {precision}: {what}",
                [len(there) / wall for wall in walls],
                (here, there[: len(here)]),
                within,
            )


def fine_tuning(
    network: str, device: str, paths: list[Path], folder: Path
) -> Iterator[Row]:
    """Train the last stages; the file that this writes gives the same vectors here."""
    split = pairs_of(len(paths))
    settings = FineTuneSettings(n_epochs=EPOCHS, patience=EPOCHS)
    work = partial(
        finetune,
        make_vectorizer(random_weights(network, folder), device=device),
        paths,
        split.train,
        split.validation,
        folder / "tuned.safetensors",
        settings=settings,
        device=device,
    )
    tuned, cost = timed(work)
    n_seen = EPOCHS * len(np.union1d(split.train.left, split.train.right))
    few = paths[:N_CHECKED]
    there = vectorize(tuned, few, strict=True).vectors
    again = make_vectorizer(tuned.spec, device="cpu")
    here = vectorize(again, few, strict=True).vectors
    told = f"`finetune` of `{network}`, {EPOCHS} epochs; then its vectors"
    yield row(told, [n_seen / cost["wall"]], (here, there), WITHIN["float32"])


def projecting(
    network: str, device: str, paths: list[Path], folder: Path
) -> Iterator[Row]:
    """Fit each projection; what it learnt gives the same vectors on the CPU.

    It is fitted on the CPU too, from the same start and in the same order: rounding
    alone keeps both apart, and adds up from step to step, so that has no limit.
    """
    weights = random_weights(network, folder)
    split = pairs_of(len(paths))
    n_seen = EPOCHS * len(np.union1d(split.train.left, split.train.right))
    vectors = {
        spec: vectorize(make_vectorizer(spec, device=device), paths).vectors
        for spec in (weights, "pixels")
    }
    for name in PROJECTIONS:
        on_pixels = name == "siamese-cnn"
        options = f"epochs={EPOCHS}&patience=0" + ("" if on_pixels else "&dropout=0")
        rows = vectors["pixels" if on_pixels else weights]

        def fitted(where: str, name: str = name, options: str = options) -> Any:
            made = make_projection(f"{name}?{options}", device=where)
            return made.fit(rows, split.train, split.validation)  # noqa: B023

        learnt, cost = timed(partial(fitted, device))
        there = learnt.transform(rows)
        taken = make_projection(f"{name}?{options}", device="cpu")
        here = taken.from_tensors(learnt.to_tensors()).transform(rows)
        rate = [n_seen / cost["wall"]]
        source = "pixels" if on_pixels else network
        told = f"`{name}` on `{source}`, {EPOCHS} epochs"
        within = WITHIN["float32"]
        yield row(f"{told}; then its vectors", rate, (here, there), within)
        alone = fitted("cpu").transform(rows)
        yield row(f"{told}, beside a fit on the CPU", rate, (alone, there), None)


def steps(
    networks: Sequence[str], device: str, n_images: int, folder: Path
) -> Iterator[tuple[str, Callable[[], Iterator[Row]]]]:
    """Yield each part by its name."""
    n_scenes = max(n_images, N_LEARNT) // 2
    make_scenes(folder / "scenes", n_scenes=n_scenes, n_views=2, size=SIDE)
    paths = sorted((folder / "scenes").glob("*.jpg"))
    for number, network in enumerate(networks):
        own = folder / str(number)
        own.mkdir()
        some = paths[:n_images]
        yield f"vectorize {network}", partial(vectorizing, network, device, some, own)
        given = (network, device, paths, own)
        yield f"finetune {network}", partial(fine_tuning, *given)
        if number == 0:
            yield "projections", partial(projecting, *given)


def options(words: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says; what is not told of there is for the tests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="default: results/bench")
    hidden = argparse.SUPPRESS
    parser.add_argument("--device", default="cuda", help=hidden)
    parser.add_argument("--images", type=int, default=N_IMAGES, help=hidden)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help=hidden)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Measure all that the time allows.

    Returns
    -------
    int
        1 where vectors are too far apart, a part failed or all took too long; what
        can be measured is.
    """
    said = options(words)
    name = gpu_name()
    if said.device != "cpu" and name is None:
        print(NO_GPU)
        return 0
    started = time.monotonic()
    rows: list[Row] = []
    failed = []
    notes = []
    with tempfile.TemporaryDirectory() as made:
        parts = steps(said.networks, said.device, said.images, Path(made))
        for part, measure in parts:
            # The longest part takes less than a quarter of the time.
            if time.monotonic() - started > 0.75 * AT_MOST:
                notes.append(f"There was no time for {part}.")
                continue
            try:
                for one in measure():
                    rows.append(one)
                    print(in_a_line(one), flush=True)
            except Exception as error:  # what else there is can be measured
                traceback.print_exc()
                failed.append(f"{part} failed ({type(error).__name__}: {error})")
    seconds = time.monotonic() - started
    if seconds > AT_MOST:
        failed.append(f"it took {seconds:.0f} s, at most {AT_MOST:.0f}")
    record = {
        "kind": "gpu",
        "name": "gpu",
        "what": f"On a GPU: {name}" if said.device != "cpu" else "On the CPU alone",
        "rows": rows,
        "seconds": seconds,
        "at_most": AT_MOST,
        "failed": failed,
        "profile": "; ".join([*failed, *map(in_a_line, filter(is_apart, rows))]),
        "notes": [f"It took {seconds:.0f} s, at most {AT_MOST:.0f}.", *notes],
    }
    written(record, said.out or (None if said.device == "cpu" else RESULTS))
    print(*record["notes"])
    return int(bool(record["profile"]))


def is_apart(one: Row) -> bool:
    """Tell whether vectors are further from the CPU's than they may be."""
    return one["within"] is not None and not one["apart"] <= one["within"]


def in_a_line(one: Row) -> str:
    """Return what a row says, in words."""
    rate, most = one["images_a_second"]["median"], one["within"]
    limit = "" if most is None else f", at most {most:g}"
    far = " NOT within it" if is_apart(one) else ""
    return (
        f"{one['what']}: {rate:.4g} images a second, {one['apart']:.2g} of their "
        f"length from the CPU's vectors{limit}{far}"
    )


if __name__ == "__main__":
    sys.exit(main())
