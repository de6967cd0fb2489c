"""report.html says what the run's files say, and shows its images and no others."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run as Command
from rich.console import Console

from tllboost.demo import make_scenes
from tllboost.errors import DataError, UsageError
from tllboost.grid.run import run_grid
from tllboost.grid.summary import headline
from tllboost.metrics import METRICS, match_ranks
from tllboost.pairs import PairTable, read_pairs
from tllboost.report import Run, curves, gallery, payload, read_run, write_report
from tllboost.report.compare import compare_runs
from tllboost.report.terminal import print_matrix
from tllboost.splits import PairSet, Protocol

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    scenes = make_scenes(folder / "images", n_scenes=60, n_views=3)
    result = run_grid(
        read_pairs(scenes, images=scenes.parent),
        ["pocket"],
        ["dot"],
        ["logistic", "bad_heads:Refuses"],
        out=folder / "out",
        store=folder / "store",
        seeds=[0, 1],
    )
    assert result.exit_code == 4
    return folder / "out"


@pytest.fixture(scope="module")
def run_of(finished: Path) -> Run:
    return read_run(finished)


@pytest.fixture(scope="module")
def shown(run_of: Run) -> dict[str, Any]:
    return payload(run_of, gallery_size=5)


def cell_of(shown: dict[str, Any], head: str) -> dict[str, Any]:
    (found,) = [cell for cell in shown["cells"] if cell["head"] == head]
    return found


def data_of(page: Path) -> str:
    """Return the JSON that a page holds."""
    (data,) = re.findall(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.S)
    return str(data)


def test_figures_are_those_of_the_results_table(
    finished: Path, shown: dict[str, Any]
) -> None:
    with (finished / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["head"] for row in rows] == [cell["head"] for cell in shown["cells"]]
    for row, cell in zip(rows, shown["cells"], strict=True):
        assert cell["status"] == row["status"]
        if row["status"] != "ok":
            continue
        for metric in METRICS:
            told = [row[metric], row[f"{metric}_low"], row[f"{metric}_high"]]
            assert cell["figures"][metric] == pytest.approx(
                [float(one) for one in told], abs=1e-5
            )
        gain = [row["gain"], row["gain_low"], row["gain_high"]]
        assert cell["gain"][row["metric"]] == pytest.approx(
            [float(one) for one in gain], abs=1e-5
        )
        assert cell["tied"][row["metric"]] == row["tied_with_best"]


def test_a_failed_cell_is_shown_with_its_reason_and_without_curves(
    shown: dict[str, Any],
) -> None:
    cell = cell_of(shown, "bad_heads:Refuses")
    assert cell["status"] == "failed"
    assert cell["error"]
    assert cell["curves"] is None
    assert any("bad_heads:Refuses" in failure["where"] for failure in shown["failures"])


def test_every_json_of_a_run_is_strict(
    finished: Path, run: Any, tmp_path: Path
) -> None:
    """NaN and Infinity are no JSON: no other program could read the file."""
    out, images = tmp_path / "out", finished.parent / "images"
    shutil.copytree(finished, out)
    write_report(out, gallery=0)
    texts = {str(file): file.read_bytes() for file in out.rglob("*.json")}
    assert len(texts) > 5
    for bundle in out.glob("*.tllb"):
        with zipfile.ZipFile(bundle) as members:
            texts[f"{bundle} manifest"] = members.read("manifest.json")
    texts["page"] = data_of(out / "report.html").encode()
    two = [images / f"scene_0001_{view}.jpg" for view in (0, 1)]
    best, store = out / "best.tllb", ("--store", finished.parent / "store")
    for command in (
        ("report", out, "--format", "json"),
        ("compare", out, finished, "--json"),
        ("bundle", "show", best, "--json"),
        ("score", best, *two, *store, "--json"),
        ("rank", best, two[0], "--among", images, *store, "--json"),
        (
            "explain",
            best,
            *two,
            "--grid",
            2,
            *store,
            "--json",
            "--out",
            tmp_path / "page",
        ),
        ("store", "info", *store, "--json"),
    ):
        done = run(*command)
        assert done.returncode == 0, done.stderr
        texts[str(command)] = done.stdout.encode()
    for name, text in texts.items():
        json.loads(text, parse_constant=lambda word, name=name: pytest.fail(name))
    assert b"null" in texts[str(out / "summary.json")]


def test_every_place_of_the_matrix_holds_its_own_cell(shown: dict[str, Any]) -> None:
    matrix = shown["matrix"]
    for key, places in zip(matrix["rows"], matrix["places"], strict=True):
        for head, place in zip(matrix["heads"], places, strict=True):
            cell = shown["cells"][place]
            assert cell["head"] == head
            assert cell["merge"] in ("none", key[2])


def test_the_chosen_cell_is_that_of_the_summary(
    finished: Path, shown: dict[str, Any]
) -> None:
    chosen = json.loads((finished / "summary.json").read_text())["chosen_on_validation"]
    assert shown["cells"][shown["chosen"]]["head"] == chosen["head"]


def test_what_choosing_gave_is_that_of_the_summary_and_missing_before(
    finished: Path, shown: dict[str, Any], tmp_path: Path
) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    gave = summary.pop("choosing_gave")
    assert shown["choosing_gave"] == gave
    assert gave["top2_low"] <= gave["top2"] <= gave["top2_high"]
    # A run of an earlier version says nothing of it.
    shutil.copytree(finished, tmp_path / "old")
    (tmp_path / "old" / "summary.json").write_text(json.dumps(summary))
    assert payload(read_run(tmp_path / "old"), gallery_size=0)["choosing_gave"] == {}


def test_gains_and_ties_follow_the_metric(run_of: Run, shown: dict[str, Any]) -> None:
    for metric in ("roc_auc", "brier"):
        for row, cell in zip(run_of.rows(metric), shown["cells"], strict=True):
            if cell["status"] == "ok":
                assert cell["gain"][metric][0] == pytest.approx(row["gain"], abs=1e-5)
                assert cell["tied"][metric] == row["tied_with_best"]


def test_what_leaks_is_counted_and_is_nothing(shown: dict[str, Any]) -> None:
    told = dict(shown["leaks"])
    assert told["test images that are in training or validation"].startswith("0 of ")
    assert told["test components shared with training or validation"].startswith(
        "0 of "
    )


def test_the_old_protocol_is_told_to_leak(tmp_path: Path, finished: Path) -> None:
    images = finished.parent / "images"
    run_grid(
        read_pairs(images / "pairs.csv", images=images),
        ["pocket"],
        heads=["cosine"],
        protocol=Protocol("holidays2017"),
        out=tmp_path / "out",
        store=finished.parent / "store",
    )
    told = dict(payload(read_run(tmp_path / "out"))["leaks"])
    n_shared = told["test images that are in training or validation"].split()[0]
    assert int(n_shared) > 0


def test_curves_agree_with_the_figures_of_one_seed(run_of: Run) -> None:
    for cell, records in run_of.records.items():
        record = records[0]
        if record["status"] != "ok":
            continue
        found = curves([one for one in run_of.tested(cell) if one[0] == 0])
        assert found is not None
        figures = record["figures"]
        alarms, hits = found["roc"]
        assert np.trapezoid(hits, alarms) == pytest.approx(figures["roc_auc"], abs=0.01)
        assert [found["topk"][k] for k in (0, 1, 4)] == pytest.approx(
            [figures[name] for name in ("top1", "top2", "top5")], abs=1e-4
        )
        assert found["topk"] == sorted(found["topk"])
        assert found["topk"][-1] == 1.0
        for side in ("match", "other"):
            assert sum(found["histogram"][side]) == pytest.approx(1, abs=0.01)


def test_points_of_curves_are_those_of_scikit_learn_by_weight_and_with_ties() -> None:
    from sklearn.metrics import precision_recall_curve, roc_curve

    rng = np.random.default_rng(0)
    score = rng.integers(0, 12, 50).astype(float)
    label = (rng.random(50) < 0.4).astype(np.int8)
    weight = rng.choice([0.2, 1.0], 50)
    pairs = PairSet(np.arange(50), np.arange(50), label, label, weight, label)
    found = curves([(0, pairs, score)])
    assert found is not None
    how: dict[str, Any] = {"sample_weight": weight}
    precision, recall, _ = precision_recall_curve(label, score, **how)
    alarms, hits, _ = roc_curve(label, score, drop_intermediate=False, **how)
    for name, x, y in (("roc", alarms, hits), ("pr", recall, precision)):
        points = {*zip(*np.round([x, y], 4).tolist(), strict=True)}
        shown = [*zip(*found[name], strict=True)]
        assert set(shown) <= points
        assert len(shown) > 8


def test_a_reliability_curve_tells_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    n_pairs = 4000
    log_odds = rng.normal(size=n_pairs)
    label = (rng.random(n_pairs) < 1 / (1 + np.exp(-log_odds))).astype(np.int8)
    numbers = np.arange(n_pairs)
    pairs = PairSet(numbers, numbers, label, numbers // 20, np.ones(n_pairs), numbers)
    found = curves([(0, pairs, log_odds)])
    assert found is not None
    reliability = found["reliability"]
    assert np.allclose(reliability["said"], reliability["seen"], atol=0.08)
    assert sum(reliability["n"]) == n_pairs
    # Twice as sure as it may be: what it says lies further out than what is seen.
    sure = curves([(0, pairs, 3 * log_odds)])
    assert sure is not None
    gaps = np.abs(np.subtract(sure["reliability"]["said"], sure["reliability"]["seen"]))
    assert gaps.max() > 0.1


def test_one_class_alone_has_no_roc_and_keeps_the_rest() -> None:
    four = np.arange(4)
    pairs = PairSet(four, four, np.ones(4, np.int8), four * 0 - 1, np.ones(4), four)
    found = curves([(0, pairs, np.zeros(4))])
    assert found == {"topk": []}


def test_the_gallery_ranks_as_the_metrics_do(
    run_of: Run, shown: dict[str, Any]
) -> None:
    of_cells = shown["gallery"]["cells"]
    measured = [i for i, one in enumerate(shown["cells"]) if one["status"] == "ok"]
    assert sorted(of_cells) == measured
    for index, of_cell in of_cells.items():
        expected: dict[tuple[int, int], set[int]] = {}
        for seed, pairs, scores in run_of.tested(run_of.cells[index]):
            codes, ranks, _ = match_ranks(scores, pairs.label, pairs.query)
            for code, rank in zip(codes, ranks, strict=True):
                image = int(pairs.left[pairs.query == code][0])
                expected.setdefault((seed, image), set()).add(int(rank))
        queries = of_cell["queries"]
        assert len(queries) == 10
        for query in queries:
            assert query["rank"] in expected[query["seed"], query["query"]]
            chances = [one["p"] for one in query["candidates"]]
            assert chances == sorted(chances, reverse=True)
            (match,) = [one for one in query["candidates"] if one["match"]]
            assert (match["image"], match["rank"]) == (query["match"], query["rank"])
        images = [query["query"] for query in queries]
        assert len(set(images)) == len(images)
        assert [query["end"] for query in queries] == ["best"] * 5 + ["worst"] * 5


def test_images_of_other_cells_are_fewer_and_left_out_where_a_page_has_many(
    run_of: Run, shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gallery.__globals__, "_FEW_QUERIES", 2)
    few = gallery(run_of, 5)
    assert few is not None
    counts = {index: len(one["queries"]) for index, one in few["cells"].items()}
    assert counts.pop(shown["chosen"]) == 10
    assert set(counts.values()) == {4}
    monkeypatch.setitem(gallery.__globals__, "_MOST_IMAGES", 1)
    least = gallery(run_of, 1)
    assert least is not None
    assert [*least["cells"]] == [shown["chosen"]]


def test_a_colour_tells_the_gain_that_the_headline_tells(
    run_of: Run, shown: dict[str, Any]
) -> None:
    records = [one for found in run_of.records.values() for one in found.values()]
    for metric in ("top2", "brier"):
        rows = run_of.rows(metric)
        (row,) = [one for one in rows if one["head"] == "logistic"]
        gave = row | {"n_choices": 1, "cells": {}}
        *_, told = headline(rows, records, row, gave, metric)
        gain, low, high = cell_of(shown, "logistic")["over"][metric]
        assert f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]" in told
        assert cell_of(shown, "cosine")["over"][metric] == [0, 0, 0]


def test_every_image_of_the_gallery_is_there_once_and_small(
    shown: dict[str, Any],
) -> None:
    found = shown["gallery"]
    queries = [query for one in found["cells"].values() for query in one["queries"]]
    used = {one["image"] for query in queries for one in query["candidates"]}
    assert used <= set(found["images"])
    for image in found["images"].values():
        assert image["src"].startswith("data:image/jpeg;base64,")
        assert 0 < max(image["width"], image["height"]) <= 224


def test_the_surest_mistakes_are_real_mistakes(
    run_of: Run, shown: dict[str, Any]
) -> None:
    assert run_of.chosen is not None
    matches = {
        frozenset((int(left), int(right)))
        for tested in run_of.splits.values()
        for pairs in tested
        for left, right, label in zip(pairs.left, pairs.right, pairs.label, strict=True)
        if label == 1
    }
    own = shown["gallery"]["cells"][shown["chosen"]]
    for name, sign in (("false_matches", -1), ("missed", 1)):
        pairs = own[name]
        assert len(pairs) == 5
        chances = [sign * pair["p"] for pair in pairs]
        assert chances == sorted(chances)
        for pair in pairs:
            is_match = frozenset((pair["left"], pair["right"])) in matches
            assert is_match == (name == "missed")


def test_a_tie_counts_against_the_match(run_of: Run) -> None:
    tied = read_run(run_of.out)
    assert tied.chosen is not None
    tied.tested = lambda cell: (  # type: ignore[method-assign]
        (seed, pairs, np.zeros(len(pairs)))
        for seed, tested in tied.splits.items()
        for pairs in tested
    )
    shown = gallery(tied, 3)
    assert shown is not None
    for of_cell in shown["cells"].values():
        for query in of_cell["queries"]:
            assert query["rank"] == query["among"]


def test_no_images_are_shown_where_none_are_wanted_or_left(
    run_of: Run, finished: Path, tmp_path: Path
) -> None:
    assert gallery(run_of, 0) is None
    moved = tmp_path / "away"
    shutil.copytree(finished, moved)
    (moved / "images.json").write_text("no JSON")
    assert gallery(read_run(moved), 5) is None


def test_a_report_whose_images_are_gone_stays_as_it_was_and_says_so(
    run: Command, finished: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "away"
    shutil.copytree(finished, moved)
    (moved / "report.html").write_text("a good page")
    done = run("report", moved, "--quiet")
    assert done.returncode == 3
    assert "pocket" in done.stdout  # the matrix is shown all the same
    assert "of the page's images), so the page is not written: " in done.stderr
    assert "put the images back, or give --gallery 0" in done.stderr
    assert (moved / "report.html").read_text() == "a good page"
    assert run("report", moved, "--quiet", "--gallery", 0).returncode == 0
    assert "<!doctype html>" in (moved / "report.html").read_text("utf-8")


def test_a_run_that_moves_with_its_images_keeps_its_gallery(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished.parent / "images", tmp_path / "images")
    shutil.copytree(finished, tmp_path / "out")
    found = gallery(read_run(tmp_path / "out"), 5)
    assert found is not None
    assert found["images"]


@pytest.mark.parametrize("broken", ["splits/seed-0.npz", "splits/seed-1.npz"])
def test_a_run_without_its_splits_still_has_its_matrix(
    finished: Path, tmp_path: Path, broken: str
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    for path in (tmp_path / "out" / "splits").iterdir():
        path.unlink()
    (tmp_path / "out" / broken).write_bytes(b"no archive")
    found = payload(read_run(tmp_path / "out"))
    assert found["gallery"] is None
    assert cell_of(found, "logistic")["figures"]["top2"]


@pytest.mark.parametrize("lost", ["summary.json", "cells", "a record"])
def test_a_folder_without_its_cells_is_refused_in_one_line(
    finished: Path, tmp_path: Path, lost: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    if lost == "a record":
        next((out / "cells").iterdir()).write_text("no JSON")
    else:
        shutil.rmtree(out / lost) if lost == "cells" else (out / lost).unlink()
    with pytest.raises(DataError, match=r"out: .* lie here, .*--resume") as refused:
        write_report(out)
    assert "\n" not in str(refused.value)


def test_a_folder_that_holds_no_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished run is here") as refused:
        write_report(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("lost", ["run.toml", "environment.json", "results.csv"])
def test_what_is_lost_of_a_run_shows_as_missing(
    finished: Path, tmp_path: Path, shown: dict[str, Any], lost: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / lost).unlink()
    found = payload(read_run(out), gallery_size=0)
    assert [one["figures"] for one in found["cells"]] == [
        one["figures"] for one in shown["cells"]
    ]


def test_a_run_of_a_version_with_fewer_metrics_shows_what_it_has(
    finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    for path in (out / "cells").iterdir():
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["status"] != "ok":
            continue
        for table in ("figures", "validation", "resampled"):
            del record[table]["ece"]
        record["resampled"] = {k: v[:200] for k, v in record["resampled"].items()}
        path.write_text(json.dumps(record), encoding="utf-8")
    write_report(out, gallery=0)
    found = cell_of(payload(read_run(out), gallery_size=0), "logistic")
    told = cell_of(payload(read_run(finished), gallery_size=0), "logistic")
    assert found["figures"]["top2"][0] == told["figures"]["top2"][0]
    assert np.isfinite(found["gain"]["top2"]).all()
    assert np.isnan([*found["figures"]["ece"], *found["gain"]["ece"]]).all()
    console = Console(file=io.StringIO(), width=80)
    print_matrix(read_run(out).rows("ece"), "ece", console=console)
    assert "–" in console.file.getvalue()  # type: ignore[attr-defined]
    changes = compare_runs(finished, out).changes
    assert {one.verdict for one in changes} == {"same", "failed"}
    changes = compare_runs(finished, out, "ece").changes
    assert {one.verdict for one in changes} == {"no figure", "failed"}


def test_an_unknown_metric_is_refused_with_the_known_ones(run_of: Run) -> None:
    with pytest.raises(UsageError, match=r"unknown metric 'f1': known: top1, "):
        run_of.rows("f1")


def test_the_command_of_a_run_from_a_file_repeats_it(run_of: Run) -> None:
    assert payload(run_of)["run"]["command"] is None
    run_of.settings["pairs"] = "pairs.csv"
    command = payload(run_of)["run"]["command"]
    del run_of.settings["pairs"]
    assert command == f"tllboost grid --config {run_of.out / 'run.toml'} --resume"


@pytest.mark.shared
def test_a_page_of_400_queries_stays_under_15_megabytes(
    tll: Path, tmp_path: Path
) -> None:
    table = read_pairs(tll / "pairs.csv", left=tll / "left", right=tll / "right")
    few = PairTable(
        **{**vars(table), "split": None, "query": None},
    ).take(slice(0, 420))
    out = tmp_path / "out"
    run_grid(
        few,
        ["pixels?size=8"],
        heads=["cosine"],
        protocol=Protocol("kfold"),
        out=out,
        store=tmp_path / "store",
    )
    page = write_report(out, gallery=200)
    assert page.stat().st_size < 15 * MEGABYTE
    (found,) = json.loads(data_of(page))["gallery"]["cells"].values()
    assert len(found["queries"]) == 400
    assert len({query["query"] for query in found["queries"]}) == 400
