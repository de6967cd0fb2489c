"""Measure `pocket` beside other vectors, and write results/pocket: one command.

Run it as ``python benchmarks/pocket_table.py``. The plain cosine of the vectors as they
are, on the images of ``../shared``, by grids of five seeds; nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bench import RESULTS, machine
from fetch_data import ABSENT, SHARED
from pocket_page import ROOT, chosen_fusion, page

from tllboost import run_grid
from tllboost.errors import DataError
from tllboost.files import csv_text, write_text
from tllboost.grid.records import read_record
from tllboost.grid.summary import comparison, interval
from tllboost.splits import Protocol
from tllboost.store import default_store

sys.path.append(str(ROOT / "benchmarks" / "pocket"))
from validation_sides import SETS, read_set

OUT = ROOT / "results" / "pocket"
SEEDS = range(5)
METRICS = ("top1", "top2", "mrr", "roc_auc")
MEAN = "mean"

NETWORKS = {
    "squeezenet": SHARED / "weights" / "squeezenet1_1.onnx",
    "mobilenetv2": SHARED / "weights" / "mobilenetv2.onnx",
}
FUSION, *PARTS = chosen_fusion(OUT)
VECTORIZERS = (
    *("classic", "pocket", "classic+pocket"),
    *(*PARTS, FUSION),
    *NETWORKS,
)
COMPARED = (
    ("pocket", "classic"),
    ("classic+pocket", "classic"),
    ("classic+pocket", "pocket"),
    *((FUSION, other) for other in ("classic", "pocket", *PARTS)),
    ("squeezenet", "pocket"),
    ("mobilenetv2", "pocket"),
    *((FUSION, other) for other in NETWORKS),
)

Records = dict[str, list[dict[str, Any]]]


def measure(name: str, folder: Path, store: Path) -> Records:
    """Return each vectorizer's records of all seeds of a set, by its name."""
    result = run_grid(
        read_set(SHARED / "data", name),
        VECTORIZERS,
        [],
        ["cosine"],
        aliases={name: f"onnx:{file}" for name, file in NETWORKS.items()},
        # Of fourteen groups too few would be held out.
        protocol=Protocol("kfold" if name == "ukbench" else "holdout"),
        seeds=SEEDS,
        out=folder,
        store=store,
        message=print,
    )
    if result.exit_code:
        msg = f"{name}: not all of it could be measured: see {folder}"
        raise DataError(msg)
    records: Records = {name: [] for name in VECTORIZERS}
    for file in sorted((folder / "cells").glob("*.json")):
        record = read_record(folder, file.stem)
        assert record is not None, file
        records[record["cell"]["vectorizer"]].append(record)
    return {name: sorted(some, key=_seed) for name, some in records.items()}


def _seed(record: Mapping[str, Any]) -> int:
    return int(record["seed"])


def figures(measured: Mapping[str, Records]) -> list[list[Any]]:
    """Return a row a set and vectorizer: each metric with its interval."""
    rows = []
    for name, records in measured.items():
        for vectorizer, found in records.items():
            sizes = [
                np.mean([record[size] for record in found])
                for size in ("n_test_queries", "n_candidates")
            ]
            ends = _spreads([found])
            rows.append([name, vectorizer, len(found), *sizes, *ends])
    for vectorizer in VECTORIZERS:
        found = [records[vectorizer] for records in measured.values()]
        ends = _spreads(found)
        rows.append([MEAN, vectorizer, len(SEEDS), "", "", *ends])
    return rows


def _spreads(found: list[list[dict[str, Any]]]) -> list[float]:
    """Return all metrics of one vectorizer on one or more sets."""
    return [number for metric in METRICS for number in _spread(found, metric)]


def _spread(found: list[list[dict[str, Any]]], metric: str) -> list[float]:
    """Return the mean over sets of the mean over seeds, and its interval."""
    value = np.mean([[r["figures"][metric] for r in some] for some in found])
    return [float(value), *interval(_draws(found, metric))]


def _draws(found: list[list[dict[str, Any]]], metric: str) -> Any:
    """Return the resamples of a mean over sets; those of two sets are independent."""
    return np.mean(
        [np.mean([r["resampled"][metric] for r in some], axis=0) for some in found], 0
    )


def differences(measured: Mapping[str, Records]) -> list[list[Any]]:
    """Return a row a set, two vectorizers and metric: the paired difference."""
    rows: list[list[Any]] = []
    for one, other in COMPARED:
        for metric in METRICS:
            for name, records in measured.items():
                gain = comparison(records[one], records[other], metric)
                rows.append([name, one, other, metric, *gain])
            sides = [
                [records[which] for records in measured.values()]
                for which in (one, other)
            ]
            values = [_spread(side, metric)[0] for side in sides]
            apart = _draws(sides[0], metric) - _draws(sides[1], metric)
            gain = (values[0] - values[1], *interval(apart))
            rows.append([MEAN, one, other, metric, *gain])
    return rows


def write(out: Path, measured: Mapping[str, Records]) -> None:
    """Write the tables, and the page that is made of them."""
    ends = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    columns = ["set", "vectorizer", "seeds", "queries", "candidates", *ends]
    write_table(out / "results.csv", columns, figures(measured))
    columns = ["set", "vectorizer", "other", "metric", "gain", "gain_low", "gain_high"]
    write_table(out / "differences.csv", columns, differences(measured))
    write_table(out / "speed.csv", ["what", "measured", "limit", "unit"], speed())
    versions = machine()["versions"]
    made = [[name, versions[name]] for name in ("numpy", "onnxruntime", "pillow")]
    write_table(out / "versions.csv", ["library", "version"], made)
    write_text(out / "README.md", page(out))


def write_table(file: Path, columns: list[str], rows: list[list[Any]]) -> None:
    """Write rows as CSV, numbers to six digits."""
    short = [
        [float(f"{one:.6g}") if isinstance(one, float) else one for one in row]
        for row in rows
    ]
    write_text(file, csv_text(columns, short))


def speed() -> list[list[Any]]:
    """Return what `bench_pocket.py` has recorded: images a second, and loading."""
    rows = []
    for name in ("pocket_vectorize", "pocket_load"):
        file = RESULTS / f"{name}.json"
        if file.is_file():
            record = json.loads(file.read_text(encoding="utf-8"))
            measured, most = record["wall"]["median"], record["at_most"]
            rows.append([record["what"], measured, most, record["unit"]])
    return rows


def main() -> None:
    """Measure all sets and write all files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="where vectors are kept")
    parser.add_argument("--out", type=Path, default=OUT)
    said = parser.parse_args()
    if not (SHARED / "data").is_dir():
        parser.exit(2, f"{SHARED / 'data'} {ABSENT}\n")
    with tempfile.TemporaryDirectory() as folder:
        store = said.store or default_store()
        measured = {name: measure(name, Path(folder, name), store) for name in SETS}
    write(said.out, measured)


if __name__ == "__main__":
    main()
