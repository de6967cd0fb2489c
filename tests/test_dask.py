"""A grid and vectorizing on a Dask cluster of real processes, one of them killed."""

from __future__ import annotations

import csv
import importlib.util
import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import make_classifier
from conftest import Run
from killed_work import (
    Here,
    Squares,
    grid_of,
    images,
    make_image_pairs,
    make_pairs,
)

from tllboost.cluster import Cluster, _refuse_other, perform, versions
from tllboost.errors import ClusterError, MissingLibraryError, UsageError
from tllboost.grid.run import run_grid
from tllboost.pairs import read_pairs
from tllboost.processes import Job
from tllboost.similar.tiles import Sought, by_cells, by_products, compare, floor_of
from tllboost.splits import Protocol
from tllboost.store import VectorStore
from tllboost.vectorizers.weights import sha256_of
from tllboost.vectorizing import space_of, vectorize

HAS_DASK = importlib.util.find_spec("distributed") is not None
needs_dask = pytest.mark.skipif(
    not (HAS_DASK and hasattr(signal, "SIGKILL")),
    reason="needs Dask, not there: pip install 'tllboost[dask]'; and SIGKILL",
)
COSTS = {"vectorize_s", "project_s", "fit_s", "score_s", "peak_memory_mb"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two worker processes; one that is killed comes again."""
    import dask

    # Two lost workers are enough to blame a job.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        Cluster(n_workers=2) as opened,
    ):
        yield opened


class KillsAWorker:
    """A progress bar that kills a worker once, in the midst of something."""

    def __init__(self, cluster: Cluster, what: str) -> None:
        self.cluster, self.what, self.n_killed = cluster, what, 0

    def __call__(self, done: int, total: int, what: str) -> None:
        if what == self.what and 0 < done < total and not self.n_killed:
            self.n_killed += 1
            busy = self.cluster.client.processing()
            workers = self.cluster.client.run(os.getpid)
            address = max(workers, key=lambda one: len(busy.get(one, ())))
            os.kill(workers[address], signal.SIGKILL)


def results_of(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in COSTS} for row in rows]


@needs_dask
def test_a_grid_that_loses_a_worker_gives_the_tables_of_the_local_one(
    cluster: Cluster, tmp_path: Path
) -> None:
    pairs = make_image_pairs(tmp_path)
    table = read_pairs(pairs, images=pairs.parent)
    asked: dict[str, Any] = {
        "vectorizers": ["killed_work:Squares"],
        "merges": ["l1"],
        "heads": ["naive-bayes", "bad_heads:Slow"],
        "projections": ["none", "killed_work:Every2nd"],
        "protocol": Protocol("holdout", n_distractors=4),
    }
    kills = KillsAWorker(cluster, "cells")
    local, far = tmp_path / "local", tmp_path / "far"
    run_grid(table, **asked, out=local, store=tmp_path / "here", backend=Here(1))
    there = run_grid(
        table,
        **asked,
        out=far,
        store=tmp_path / "there",
        backend=cluster,
        progress=kills,
    )
    assert kills.n_killed == 1
    assert not any(row["error"] for row in there.rows)
    for name in ("matrix.csv", "matrix.md", "splits.csv", "failures.csv"):
        assert (far / name).read_bytes() == (local / name).read_bytes(), name
    assert results_of(far) == results_of(local)
    # What was begun on a cluster goes on without one.
    again = run_grid(table, **asked, out=far, store=tmp_path / "there", resume=True)
    assert (again.n_run, again.n_reused) == (0, there.n_run)


@needs_dask
def test_vectorizing_that_loses_a_worker_stores_what_the_local_one_stores(
    cluster: Cluster, tmp_path: Path
) -> None:
    paths: list[Path | None] = [*images(tmp_path), tmp_path / "none.png"]
    kills = KillsAWorker(cluster, "squares")
    with VectorStore(tmp_path / "there") as store:
        there = vectorize(
            Squares(),
            paths,
            store=store,
            batch_size=2,
            backend=cluster,
            progress=kills,
        )
        keys = [sha256_of(path) for path in paths[:-1] if path]
        stored, found = store.get(space_of(Squares()), keys)
    here = vectorize(Squares(), paths)
    assert kills.n_killed == 1
    assert np.array_equal(there.vectors, here.vectors)
    assert there.failures == here.failures
    assert (there.n_computed, found.all()) == (len(keys), True)
    assert np.array_equal(stored, here.vectors[:-1])


@needs_dask
@pytest.mark.parametrize("is_bundle", [False, True])
def test_workers_find_the_pairs_that_this_process_finds(
    cluster: Cluster, tmp_path: Path, is_bundle: bool
) -> None:
    """Of whole folders, a strip of images after the other."""
    n = 1200 if is_bundle else 5000
    vectors = np.random.default_rng(0).normal(size=(n, 12)).astype(np.float32)
    sought = Sought(3, -np.inf, is_one_folder=True)
    what: Any = by_products, [vectors, vectors, floor_of(vectors, vectors, sought)]
    if is_bundle:
        model = make_classifier("pixels?size=2", "random-forest", "l1")
        cells = [replace(cell, vectorizer=None) for cell in model.cells_]
        what = partial(by_cells, cells=cells, shortlist=20), [[vectors], [vectors]]
    how: Any = {"shortest": n // 5}
    told: list[Any] = []
    alone = compare(*what, n, sought, tmp_path / "alone", **how)
    how |= {"backend": cluster, "progress": lambda *step: told.append(step)}
    found = compare(*what, n, sought, tmp_path / "cluster", **how)
    assert found.dtype.names == ("left", "right", "score")
    for one in ("left", "right"):
        np.testing.assert_array_equal(found[one], alone[one])
    # Two processes round products alike on some processors only.
    np.testing.assert_array_max_ulp(found["score"], alone["score"], maxulp=1)
    assert told[-1] == (5, 5, "comparing")
    assert not list(tmp_path.iterdir())


def test_what_kills_its_workers_fails_alone(cluster: Cluster, tmp_path: Path) -> None:
    heads = ["bad_heads:Dies"]
    pairs = make_pairs(tmp_path)
    result = grid_of(pairs, tmp_path / "out", heads=heads, backend=cluster)
    errors = {row["head"]: row["error"] for row in result.rows}
    assert "its process died (each worker that tried it died" in errors.pop(heads[0])
    assert set(errors.values()) == {""}
    assert result.exit_code == 4


@needs_dask
def test_the_commands_take_the_address_of_a_scheduler(
    cluster: Cluster, run: Run, tmp_path: Path
) -> None:
    pairs = make_image_pairs(tmp_path)
    address = cluster.client.scheduler.address
    where = ("--backend", "dask", "--scheduler", address)
    own = ("--store", tmp_path / "store", "-v", "killed_work:Squares")
    # The workers are there already, as those of other machines are: 8 by 8 pixels.
    done = run("vectorize", tmp_path / "l0.png", *own, *where, "--max-pixels", 63)
    assert (done.returncode, "at most 63 allowed" in done.stderr) == (3, True)
    done = run("vectorize", tmp_path, *own, *where)
    assert done.returncode == 0, done.stderr
    assert "80 computed, 0 reused" in done.stdout
    out = tmp_path / "out"
    tried = ("--images", tmp_path, "-m", "l1", "-c", "cosine", "--distractors", "4")
    done = run("grid", pairs, *own, *tried, "--out", out, "--no-report", *where)
    assert done.returncode == 0, done.stderr
    assert "80 reused" in done.stderr
    assert "dask" not in (out / "run.toml").read_text()


@needs_dask
def test_an_error_on_a_worker_is_the_error_here(cluster: Cluster) -> None:
    jobs = deque([Job(int, ("12",)), Job(int, ("twelve",))])
    with pytest.raises(ValueError, match="'twelve'"):
        dict(cluster.each(jobs))


@needs_dask
def test_a_cluster_without_workers_is_told_in_one_line() -> None:
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as empty,
        pytest.raises(ClusterError, match=r"no worker has joined 'tcp.*dask worker"),
        Cluster(empty.scheduler_address, patience=1),
    ):
        pass


@needs_dask
def test_a_scheduler_that_does_not_answer_is_told_in_one_line(
    run: Run, tmp_path: Path
) -> None:
    with (
        pytest.raises(UsageError, match=r"no Dask scheduler answers at 'tcp:.*:1'"),
        Cluster("tcp://127.0.0.1:1", patience=1),
    ):
        pass
    pairs = make_image_pairs(tmp_path, n_pairs=1)
    nowhere = ("--backend", "dask", "--scheduler", "nonsense")
    before = {*threading.enumerate()}
    for command in (
        ("vectorize", tmp_path / "l0.png"),
        ("grid", pairs, "--images", tmp_path, "--out", tmp_path / "out"),
    ):
        own = ("-v", "classic", "--store", tmp_path / "store")
        done = run(*command, *own, *nowhere)
        assert done.returncode == 2
        told = "tllboost: no Dask scheduler answers at 'nonsense'"
        assert done.stderr.startswith(told)
        assert done.stderr.count("\n") == 1
    # One that goes on looking holds the process at its end.
    left = {*threading.enumerate()} - before
    assert not [one.name for one in left if "IO loop" in one.name]


@needs_dask
def test_what_answers_and_is_no_scheduler_is_told_in_one_line() -> None:
    def answer(listening: socket.socket) -> None:
        with listening.accept()[0] as taken:
            taken.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, args=[listening], daemon=True).start()
        address = f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(UsageError, match="no Dask scheduler"), Cluster(address):
            pass


def test_workers_with_other_versions_are_refused() -> None:
    here = versions()
    assert perform(here, "", len, ["abc"]) == 3
    with pytest.raises(UsageError, match=r"has numpy .*, this machine has 0\.1"):
        perform({**here, "numpy": "0.1"}, "", len, ["abc"])
    with pytest.raises(UsageError, match=r"squares has the fingerprint 'squares\|1'"):
        _refuse_other(Squares(), "squares|2")


def test_a_job_runs_where_its_relative_paths_lead(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("found")
    before = Path.cwd()
    assert perform({}, str(tmp_path), Path.read_text, [Path("a.txt")]) == "found"
    assert Path.cwd() == before


def test_without_dask_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, run: Run, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'tllboost\[dask\]'"):
        Cluster().__enter__()
    make_image_pairs(tmp_path, n_pairs=1)
    done = run("vectorize", tmp_path, "-v", "classic", "--backend", "dask")
    assert done.returncode == 2
    assert "pip install 'tllboost[dask]'" in done.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--scheduler", "tcp://a:1"), "--scheduler needs --backend dask"),
        (("--backend", "desk"), "'desk' is not one of 'local', 'dask'"),
        (
            ("--backend", "dask", "--cell-timeout", "9"),
            "limit Dask workers themselves, as in dask worker --memory-limit",
        ),
    ],
)
def test_options_that_contradict_each_other_are_told(
    run: Run, tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    pairs = make_pairs(tmp_path)
    vectors = ("-v", f"vectors:{tmp_path / 'own.npz'}")
    done = run("grid", pairs, *vectors, "--out", tmp_path / "out", *flags)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "out").exists()
