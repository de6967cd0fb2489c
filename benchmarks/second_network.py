"""Fine-tune a second small network, and see whether the ensemble of a run gains by it.

    python benchmarks/second_network.py [results/tll] [--store DIR]

SqueezeNet is among the images and weights as an ONNX file alone, which can't be
trained. Here the weights of that file go into torchvision's network of the same form,
which timm is told of; all else is what a grid does for the cell "finetune views+maps,
then three infonce", with SqueezeNet in the place of MobileNetV2. Each seed's validation
set then picks the ensemble of the run's cells once more: without that cell, and with
it. The run must have its ``scores``. Writes results/choosing/second-network.csv and the
page beside it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench import RESULTS
from ensembles import figures, sets_of
from numpy.typing import NDArray
from similarity import LARGEST, SQUEEZENET, VECTORIZERS, VIEWS, read
from tables import rows_of, table

from tllboost.files import csv_text, write_text
from tllboost.finetune import FineTuneSettings, finetune
from tllboost.grid.best import select_members
from tllboost.grid.data import gather
from tllboost.grid.measure import Bench, fit_scorer
from tllboost.grid.summary import interval
from tllboost.projections import make_projection
from tllboost.splits import Split
from tllboost.store import default_store
from tllboost.vectorizers import make_vectorizer

OUT = RESULTS.parent / "choosing"
NAME = "squeezenet1_1"
N_STAGES, N_VIEWS, N_PICKS = 6, 3, 10
ALONE, WITHOUT, WITH = "the cell alone", "the ensemble without it", "and with it"
COLUMNS = ("way", "top2", "low", "high", "gain", "gain low", "gain high", "share")

Floats = NDArray[np.float64]

TEXT = """# Would a second network of that size help?

```sh
tllboost grid --config benchmarks/tll.toml --overwrite
python benchmarks/second_network.py results/tll
```

The best cells of [the challenge](../tll/README.md) all train MobileNetV2, so that an
ensemble of them has little to average. Here SqueezeNet 1.1 is trained, the only other
network at hand that is no larger: its last {n_stages} stages, beside the same frozen
vectors, then three `infonce`. Each seed's validation set picks an ensemble of {n_picks}
from all cells of the run, without this cell and with it. The gain is over the single
cell of the run that is best *on the test*: mean of the run's seeds, with its 95 %
interval (paired bootstrap over components). The share is the weight of the cell.

{table}
"""


def squeezenet1_1(pretrained: bool = False, **_: Any) -> Any:
    """Return the network up to its last map, with random weights."""
    from torch.nn import Sequential
    from torchvision.models import squeezenet1_1 as build

    network = Sequential()
    network.add_module("features", build().features)
    network.pretrained_cfg = {}
    return network


def weights(file: Path) -> None:
    """Write the weights of the ONNX file for that network, and tell timm of it."""
    import onnx
    import torch
    from safetensors.torch import save_file
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    from timm.models import generate_default_cfgs, register_model

    graph = onnx.load(SQUEEZENET.partition(":")[2]).graph
    arrays = [onnx.numpy_helper.to_array(one) for one in graph.initializer]
    floats = [torch.tensor(one) for one in arrays if one.dtype == np.float32]
    names = list(squeezenet1_1().state_dict())
    save_file(dict(zip(names, floats, strict=True)), file)
    of = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    of |= {"input_size": (3, 224, 224), "crop_pct": 0.875, "interpolation": "bicubic"}
    # timm looks for it in the module of the function that it is told of.
    globals()["default_cfgs"] = generate_default_cfgs({f"{NAME}.in1k": of})
    register_model(squeezenet1_1)
    # Both are in the order of the forward pass: that must give the same vectors.
    noise = np.random.default_rng(0).normal(size=(4, 3, 224, 224)).astype(np.float32)
    both = make_vectorizer(f"timm:{NAME}@{file}"), make_vectorizer(SQUEEZENET)
    ours, theirs = (one.forward(noise) for one in both)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def scored(split: Split, seed: int, work: Path, store: Any) -> tuple[Floats, Floats]:
    """Return the cell's log-odds of a seed's validation and test pairs."""
    pairs = read("tll")
    tuned = finetune(
        make_vectorizer(f"timm:{NAME}@{work / 'weights.safetensors'}"),
        list(pairs.paths),
        split.train,
        split.validation,
        work / f"{seed}.safetensors",
        settings=FineTuneSettings(n_stages=N_STAGES, n_views=N_VIEWS),
        seed=seed,
        message=print,
    )
    name = f"timm:{NAME}@{tuned.get_params()['file']}?{VIEWS}+{VECTORIZERS[LARGEST]}"
    data = gather(pairs, {"all": make_vectorizer(name)}, store=store)
    found = data.vectors["all"]
    projection = make_projection("infonce?members=3", seed=seed, n_threads=1)
    projection.fit(found.vectors, split.train, split.validation)
    bench = Bench(found.vectors, split, "dot", seed, found.widths, projection)
    scorer = fit_scorer(bench, "cosine")
    validation, test = (scorer.score(one) for one in bench.features[1:])
    return validation, test


def measured(run: Path, store: Any) -> Iterator[list[str]]:
    """Give a row for the cell, and for the ensemble without it and with it."""
    alone: list[Any] = []
    ways: dict[str, list[Any]] = {ALONE: [], WITHOUT: [], WITH: []}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        weights(work / "weights.safetensors")
        data = gather(read("tll"), {})
        for seed, (held, pairs, of_test, tested) in enumerate(sets_of(run)):
            (split,) = data.splits(seed)
            validation, test = scored(split, seed, work, store)
            alone.append([figures(one, tested)[1:] for one in of_test])
            ways[ALONE].append((*figures(test, tested)[1:], 1.0))
            more = np.vstack([held, validation]), np.vstack([of_test, test])
            for way, of_held, of in ((WITHOUT, held, of_test), (WITH, *more)):
                counts = select_members(list(of_held), pairs, N_PICKS)
                share = counts[-1] / N_PICKS if way == WITH else 0.0
                ways[way].append((*figures(counts @ of / N_PICKS, tested)[1:], share))
    tops = np.mean([[top2 for top2, _ in of_seed] for of_seed in alone], axis=0)
    best = int(np.argmax(tops))
    rival = np.mean([of_seed[best][1] for of_seed in alone], axis=0)
    for way, of in ways.items():
        top2, share = np.mean([(one[0], one[2]) for one in of], axis=0)
        draws = np.mean([one[1] for one in of], axis=0)
        ends = *interval(draws), top2 - tops[best], *interval(draws - rival)
        yield [way, *(f"{one:.4f}" for one in (top2, *ends, share))]


def page(out: Path) -> str:
    """Return the page that the table makes."""
    body = []
    for row in rows_of(out / "second-network.csv"):
        told = {name: f"{float(row[name]):.3f}" for name in COLUMNS[1:]}
        gain = [f"{float(row[name]):+.3f}" for name in COLUMNS[4:7]]
        top2 = f"{told['top2']} [{told['low']}, {told['high']}]"
        told["gain"] = f"{gain[0]} [{gain[1]}, {gain[2]}]"
        body.append([row["way"], top2, told["gain"], told["share"]])
    return TEXT.format(
        n_stages=N_STAGES,
        n_picks=N_PICKS,
        table="\n".join(table(["", "top-2", "gain", "share"], body)),
    )


def main() -> None:
    """Measure, and write the table and its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, default=OUT.parent / "tll")
    parser.add_argument("--store", type=Path, help="folder of the vector store")
    parser.add_argument("--out", type=Path, default=OUT)
    said = parser.parse_args()
    rows = list(measured(said.run, said.store or default_store()))
    write_text(said.out / "second-network.csv", csv_text(COLUMNS, rows))
    write_text(said.out / "second-network.md", page(said.out))


if __name__ == "__main__":
    main()
