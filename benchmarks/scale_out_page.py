"""Write docs/scale-out.md: how 10^9 images and 10^10 pairs would be laid out.

Run it as ``python benchmarks/scale_out_page.py``; with ``--measure`` it first measures
anew what an image, a pair and a job cost here, on one core (a minute), into
``results/scale-out.json``. What the page says is computed from that, and from the
figures in ``results/bench`` where there are any.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "scale-out.md"
UNITS = ROOT / "results" / "scale-out.json"

IMAGES, PAIRS = 10**9, 10**10
DIMS = 1280  # MobileNetV2
IMAGE_BYTES = 100_000
PART = 10**6
CORES = 1000
HELD = 2**28  # bytes: MOST_BYTES of tllboost.heads.base
BINS, TREES, LEVELS = 16, 400, 2
RAM = 256e9
SHARD = 8 * 32

_WHAT_THERE_IS = """## How to use a cluster

    pip install 'tllboost[dask]'        # on every machine, the same versions
    dask scheduler
    dask worker tcp://10.0.0.1:8786 --nworkers 16 --nthreads 1

    tllboost vectorize part-0001 -v timm:mobilenetv2_100 --store stores/0001 \\
        --backend dask --scheduler tcp://10.0.0.1:8786
    tllboost grid pairs.csv --images part-0001 --store stores/0001 --out results \\
        --backend dask --scheduler tcp://10.0.0.1:8786

- Images and weights must have the same paths on all workers. Nothing else is shared:
  workers send back vectors and the files of cells, and only the process that you
  started writes the store and `--out`.
- If a worker is lost, its current work goes to another: a shard of at most 256 images,
  or the cells of one merge. Work that ends four workers fails; the rest goes on.
- A worker with other versions, or a network with other weights, is refused.
- A worker does one thing at a time: give it one thread, and set `TLLBOOST_CORES` to
  the cores that each may use for decoding and networks.
- Anyone who can reach a Dask scheduler can run code on its workers. Keep it in a
  private network, or give Dask certificates and a `tls://` address.
- `--max-pixels` applies to all workers.
- If no scheduler answers within 10 seconds, a message names the address, and the exit
  code is 2.
- Without `--scheduler`, `--backend dask` starts workers on this machine."""


def measure() -> dict[str, Any]:
    """Return what a pair costs a core, and what a job costs the cluster, in seconds."""
    import numpy as np
    import xgboost
    from bench import machine

    from tllboost.cluster import Cluster
    from tllboost.grid.measure import one_thread
    from tllboost.heads.boosting import quantised
    from tllboost.merges import PairFeatures
    from tllboost.processes import Job

    rng = np.random.default_rng(0)
    n_pairs = 50_000
    vectors = rng.normal(size=(2_000, DIMS)).astype(np.float32)
    left, right = rng.integers(len(vectors), size=(2, n_pairs))
    features = PairFeatures(vectors, left, right, "dot")
    parameters = {"tree_method": "hist", "max_bin": BINS, "max_depth": LEVELS}
    parameters |= {"objective": "binary:logistic", "nthread": 1, "subsample": 0.7}
    with one_thread():
        merge = timed(lambda: deque(features.blocks(), maxlen=0))
        started = time.process_time()
        matrix = quantised(features, BINS, np.arange(features.shape[1]))
        quantise = time.process_time() - started
        matrix.set_info(label=rng.integers(0, 2, n_pairs))
        booster = xgboost.Booster({**parameters, "colsample_bytree": 0.1}, [matrix])
        tree = timed(lambda: [booster.update(matrix, one) for one in range(20)]) / 20
        block = next(features.blocks())
        score = timed(lambda: booster.inplace_predict(block)) / len(block)
    with Cluster(n_workers=2) as cluster:
        # The first ones wait for imports.
        deque(cluster.each(deque([Job(int, ("7",))] * 8)), maxlen=0)
        jobs = deque(Job(int, ("7",)) for _ in range(1000))
        started = time.perf_counter()
        deque(cluster.each(jobs), maxlen=0)
        job = (time.perf_counter() - started) / 1000
    return {
        "merge_s": merge / n_pairs,
        "quantise_s": quantise / n_pairs,
        "tree_s": tree / n_pairs,
        "score_tree_s": score / 20,
        "job_s": job,
        "dims": DIMS,
        "machine": machine(),
    }


def timed(work: Any) -> float:
    """Return CPU seconds."""
    started = time.process_time()
    work()
    return time.process_time() - started


def images_per_core() -> tuple[float, str]:
    """Return images a second and core of MobileNetV2, and who says so."""
    for file in sorted((ROOT / "results" / "bench").glob("*mobilenetv2*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        n_images = re.search(r"([\d,]+) images", found["what"])
        if n_images and found["kind"] == "compare":
            walls = sorted(pair["ours"]["wall"] for pair in found["pairs"])
            n = int(n_images[1].replace(",", ""))
            rate = n / walls[len(walls) // 2] / found["machine"]["cores"]
            return rate, f"`results/bench/{file.name}`"
    msg = "no record of MobileNetV2 in results/bench: run bench_vectorize.py first"
    raise SystemExit(msg)


def page() -> str:
    """Return the whole page."""
    units = json.loads(UNITS.read_text(encoding="utf-8"))
    return "\n\n".join(
        [
            "# Several machines",
            wrapped(
                f"""This page estimates how a billion images and ten billion pairs
                would run on a Dask cluster. It has not been run. The cost of one image,
                one pair and one job was measured on a core of
                {units["machine"]["cpu"]}; `benchmarks/scale_out_page.py` computes the
                rest. It assumes images of {amount(IMAGE_BYTES)}, MobileNetV2 ({DIMS}
                numbers for each vector) and {CORES} cores."""
            ),
            _WHAT_THERE_IS,
            *vectorizing(units),
            *scoring(units),
            *training(units),
            *limits(),
        ]
    )


def vectorizing(units: dict[str, Any]) -> list[str]:
    """Return the section on images."""
    rate, source = images_per_core()
    hours, shard_s = IMAGES / rate / 3600, SHARD / rate
    read, job = CORES * rate * IMAGE_BYTES, units["job_s"]
    at_a_time = max(1, round(read / 1e9))
    each = f"{CORES} x {rate:.0f}"
    rows = [
        ("images", f"10^9 x {amount(IMAGE_BYTES)}", amount(IMAGES * 1e5)),
        ("vectors", f"10^9 x {DIMS} x 4 B", amount(IMAGES * DIMS * 4)),
        (f"core hours, {source}", f"10^9 / {rate:.0f} a second", f"{hours:,.0f}"),
        (f"on {CORES} cores", "", f"{hours / CORES:,.1f} h"),
        ("shards", f"10^9 / {SHARD}", f"{IMAGES / SHARD:,.0f}"),
        ("a shard, on a core", f"{SHARD} / {rate:.0f}", f"{shard_s:.1f} s"),
        (
            "cores that one command feeds",
            f"{shard_s:.1f} s / {job * 1e3:.0f} ms a job",
            f"{shard_s / job:,.0f}",
        ),
        ("images read", f"{each} x {amount(IMAGE_BYTES)}", f"{amount(read)}/s"),
        (
            "vectors sent back",
            f"{each} x {DIMS} x 4 B",
            f"{amount(CORES * rate * DIMS * 4)}/s",
        ),
    ]
    return [
        "## Vectorizing a billion images",
        table(rows),
        wrapped(
            f"""A command reads each image once to hash it, and holds the vectors
            of its images in memory. So cut the images into parts. Each part has a
            folder, a command and a store: {IMAGES // PART:,} parts of a million, with
            {amount(PART * DIMS * 4)} of vectors each. Hashing a part reads
            {amount(PART * IMAGE_BYTES)}. With {at_a_time} parts at a time, on machines
            that read 1 GB/s each, hashing keeps up with the cores. If a part is
            stopped, the same command goes on."""
        ),
    ]


def scoring(units: dict[str, Any]) -> list[str]:
    """Return the section on pairs."""
    merge, tree = units["merge_s"], units["score_tree_s"]
    both = PAIRS * (merge + TREES * tree) / 3600 / CORES
    n_parts = IMAGES // PART
    n_blocks = n_parts * (n_parts + 1) // 2
    rows = [
        ("the table, two integers a pair", "10^10 x 16 B", amount(PAIRS * 16)),
        (
            "feature rows, never kept",
            f"10^10 x {DIMS} x 4 B",
            amount(PAIRS * DIMS * 4),
        ),
        (
            "merging, core hours",
            f"10^10 x {merge * 1e6:.1f} µs",
            f"{PAIRS * merge / 3600:,.1f}",
        ),
        (
            f"{TREES} trees, core hours",
            f"10^10 x {TREES} x {tree * 1e9:.0f} ns",
            f"{PAIRS * TREES * tree / 3600:,.0f}",
        ),
        (f"both, on {CORES} cores", "", f"{both * 60:,.0f} min"),
        (
            "vectors, if every pair reads its own",
            f"10^10 x 2 x {DIMS} x 4 B",
            amount(PAIRS * 2 * DIMS * 4),
        ),
    ]
    return [
        "## Scoring ten billion pairs",
        table(rows),
        wrapped(
            f"""Reading vectors takes longer than computing. A block has the pairs
            between two parts, whose {amount(2 * PART * DIMS * 4)} of vectors fit into
            memory. Pairs of arbitrary images need {n_blocks:,} blocks of
            {PAIRS / n_blocks:,.0f} pairs. Each reads two parts, which is
            {amount(n_blocks * 2 * PART * DIMS * 4)} in all: more than if every pair
            read its own vectors. A better layout is an index for each part that gives
            ten candidates for each image. It needs {n_parts:,} blocks of one part each,
            and reads {amount(IMAGES * DIMS * 4)}. `tllboost score --pairs` scores one
            block, on one machine."""
        ),
    ]


def training(units: dict[str, Any]) -> list[str]:
    """Return the section on what trains a cell."""
    n_pairs = HELD // DIMS
    quantise, trees = n_pairs * units["quantise_s"], n_pairs * TREES * units["tree_s"]
    rows = [
        (
            "pairs held",
            f"{amount(HELD)} / {DIMS} columns, a byte each",
            f"{n_pairs:,}",
        ),
        (
            "quantising, on a core",
            f"{n_pairs:,} x {units['quantise_s'] * 1e6:.0f} µs",
            f"{quantise:.0f} s",
        ),
        (
            f"{TREES} trees, on a core",
            f"{n_pairs:,} x {TREES} x {units['tree_s'] * 1e9:.0f} ns",
            f"{trees:.0f} s",
        ),
    ]
    return [
        "## Training",
        wrapped(
            f"""One process trains a cell. `xgboost` holds the quantised features of
            its pairs in at most {HELD // 2**20} MiB. If there are more pairs, it draws
            as many as fit:"""
        ),
        table(rows),
    ]


def limits() -> list[str]:
    """Return the section on what is not there."""
    room = RAM / 16
    return [
        "## What is missing",
        wrapped(
            f"""- Each worker gets all vectors of the run, through the scheduler. A
            machine with {amount(RAM)} and 16 workers has {amount(room)} for each, which
            is enough for {room / (DIMS * 4) / 1e6:.1f} million images in a run. For
            more, vectors would have to be mapped from a shared disk, or workers would
            need more threads.""",
            indent="  ",
        ),
        wrapped(
            """- One worker trains a cell, and the process that you started trains the
            bundle of the best one.""",
            indent="  ",
        ),
        wrapped(
            """- `tllboost score` and `rank` run on one machine. You must start a
            command for each block yourself.""",
            indent="  ",
        )
        + "\n",
    ]


def table(rows: Iterable[tuple[str, str, str]]) -> str:
    """Return a table of what is computed, how, and the result."""
    lines = ["| what | arithmetic | result |", "|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def wrapped(text: str, indent: str = "") -> str:
    """Return a paragraph in lines."""
    return textwrap.fill(
        " ".join(text.split()),
        88,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def amount(n_bytes: float) -> str:
    """Return a number of bytes with a unit.

    Examples
    --------
    >>> amount(5.12e12), amount(100_000), amount(7)
    ('5.12 TB', '100 kB', '7 B')
    """
    for factor, prefix in zip((1e15, 1e12, 1e9, 1e6, 1e3), "PTGMk", strict=True):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.3g} {prefix}B"
    return f"{n_bytes:.3g} B"


def main() -> None:
    """Measure if asked, and write the page."""
    if "--measure" in sys.argv[1:]:
        UNITS.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
