"""The learned axis of the grid: projections, fine-tuning, named cells, ensembles."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tuning import ARCH, SIZE, pairs_of_images, random_network

from tllboost.bundle import load_bundle
from tllboost.errors import UsageError
from tllboost.grid import GridResult, run_grid
from tllboost.grid.best import members_of
from tllboost.grid.cells import Cell, plan_cells, suits
from tllboost.grid.learn import spaces_of
from tllboost.grid.records import read_record, read_scores
from tllboost.metrics import METRICS
from tllboost.pairs import PairTable, read_pairs
from tllboost.processes import Processes
from tllboost.splits import Protocol, make_splits, match_components
from tllboost.vectorizers import make_vectorizer

N_PAIRS, N_DIMS = 100, 20
QUICK = "components=6&epochs=4"
INFONCE = "infonce?epochs=30&components=20&rate=0.01"
TRIPLET, CONTRASTIVE = f"triplet?{QUICK}", f"contrastive?{QUICK}"
TUNING = "finetune?stages=1&epochs=1&views=1&batch=8"
COSTS = {"vectorize_s", "project_s", "fit_s", "score_s", "peak_memory_mb"}
SMALL = Protocol(n_distractors=7)


def write_planted(folder: Path) -> Path:
    """Write pairs that agree in their first dimensions only, and their vectors."""
    rng = np.random.default_rng(0)
    left = rng.normal(size=(N_PAIRS, N_DIMS))
    right = rng.normal(size=(N_PAIRS, N_DIMS))
    right[:, :5] = left[:, :5] + 0.5 * right[:, :5]
    ids = [f"{side}{i:03d}" for side in "ab" for i in range(N_PAIRS)]
    vectors = np.vstack([left, right]).astype(np.float32)
    np.savez(folder / "planted.npz", ids=np.array(ids), vectors=vectors)
    np.savez(folder / "other.npz", ids=np.array(ids), vectors=vectors[:, ::-1] * 2)
    rows = [f"{a},{b}" for a, b in zip(ids[:N_PAIRS], ids[N_PAIRS:], strict=True)]
    (folder / "pairs.csv").write_text("\n".join(["left,right", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def table(folder: Path) -> PairTable:
    return read_pairs(folder / "pairs.csv")


@pytest.fixture(scope="module")
def planted(folder: Path) -> str:
    return f"vectors:{folder / 'planted.npz'}"


def grid(table: PairTable, out: Path, **given: Any) -> GridResult:
    """Run a small grid, or go on with it."""
    small = {
        "merges": ["dot"],
        "heads": ["cosine"],
        "protocol": SMALL,
        "backend": Processes(1),
    }
    store = out.parent / "store"
    return run_grid(table, out=out, store=store, resume=True, **small | given)


def row_of(result: GridResult, **wanted: str) -> dict[str, Any]:
    (row,) = (
        row
        for row in result.rows
        if all(row[name] == value for name, value in wanted.items())
    )
    return row


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def without_costs(path: Path) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if name not in COSTS}
        for row in read_csv(path)
    ]


def stamps(out: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob(pattern)}


LEARNED = {
    "projections": ["none", INFONCE, TRIPLET, CONTRASTIVE],
    "heads": ["cosine", "joined", "logistic", "xgboost"],
    "seeds": [0, 1],
}


@pytest.fixture(scope="module")
def finished(
    table: PairTable, planted: str, tmp_path_factory: pytest.TempPathFactory
) -> GridResult:
    out = tmp_path_factory.mktemp("grid") / "out"
    return grid(table, out, vectorizers=[planted], ensemble=3, **LEARNED)


# --- rows and files


def test_every_projection_has_rows_and_its_own_cosine(finished: GridResult) -> None:
    rows = read_csv(finished.out / "results.csv")
    cells = {(row["projection"], row["merge"], row["head"]) for row in rows}
    plain = {("none", "cosine"), ("dot", "logistic"), ("dot", "xgboost")}
    wanted = {
        (projection, merge, head)
        for projection in LEARNED["projections"]
        for merge, head in plain
    }
    ensemble = ("none", "none", "best-3")
    assert cells == wanted | {(CONTRASTIVE, "none", "joined"), ensemble}
    assert {row["status"] for row in rows} == {"ok"}
    assert finished.exit_code == 0


def test_a_projection_beats_the_frozen_cosine_where_there_is_something_to_learn(
    finished: GridResult,
) -> None:
    row = row_of(finished, projection=INFONCE, head="cosine")
    assert row["gain_low"] > 0
    assert row["project_s"] > 0
    frozen = row_of(finished, projection="none", head="cosine")
    assert np.isnan(frozen["project_s"])
    assert frozen["gain"] == 0


def test_a_projection_is_fitted_once_a_seed_for_all_its_cells(
    finished: GridResult,
) -> None:
    files = list(finished.out.glob("projections/*.safetensors"))
    assert len(files) == 3 * len(LEARNED["seeds"])


def test_a_second_run_fits_no_projection_and_no_cell(
    finished: GridResult, table: PairTable, planted: str
) -> None:
    before = stamps(finished.out, "projections/*") | stamps(finished.out, "cells/*")
    cells = read_csv(finished.out / "results.csv")
    lines: list[str] = []
    again = grid(
        table,
        finished.out,
        vectorizers=[planted],
        ensemble=3,
        message=lines.append,
        **LEARNED,
    )
    after = stamps(finished.out, "projections/*") | stamps(finished.out, "cells/*")
    ensembles = {
        path
        for path in before
        if "best-3" in path.read_text(errors="ignore") and path.suffix == ".json"
    }
    assert len(ensembles) == 2
    assert all(after[path] == before[path] for path in before if path not in ensembles)
    assert again.n_run == 0
    assert "26 of 26 cells are finished already" in lines
    assert read_csv(finished.out / "results.csv") == cells


def test_what_is_missing_is_done_again_and_nothing_else(
    finished: GridResult, table: PairTable, planted: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished.out, out)
    cells = [json.loads(path.read_text()) for path in out.glob("cells/*.json")]
    is_lost = {"projection": TRIPLET, "head": "logistic", "merge": "dot"}.items()
    lost, cut = (
        next(c for c in cells if c["cell"].items() >= is_lost and c["seed"] == seed)
        for seed in (0, 1)
    )
    (out / "cells" / f"{lost['id']}.json").unlink()
    scores = out / "scores" / f"{cut['id']}.npz"
    scores.write_bytes(scores.read_bytes()[:100])
    gone = sorted(out.glob("projections/*.safetensors"))[0]
    learned = gone.read_bytes()
    gone.unlink()
    before = stamps(out, "projections/*") | stamps(out, "cells/*")
    again = grid(table, out, vectorizers=[planted], ensemble=3, **LEARNED)
    assert again.n_run == 2
    assert gone.read_bytes() == learned
    changed = {
        path
        for path, when in before.items()
        if path.exists() and path.stat().st_mtime_ns != when
    }
    redone = {gone.name.replace("-0.safetensors", ".json"), f"{cut['id']}.json"}
    ensembles = {f"{c['id']}.json" for c in cells if c["cell"]["head"] == "best-3"}
    assert {path.name for path in changed} == redone | ensembles
    assert without_costs(out / "results.csv") == without_costs(
        finished.out / "results.csv"
    )


def test_figures_do_not_hang_on_the_number_of_workers(
    finished: GridResult, table: PairTable, planted: str, tmp_path: Path
) -> None:
    two = grid(
        table,
        tmp_path / "two",
        vectorizers=[planted],
        projections=[INFONCE],
        heads=["cosine", "logistic"],
        seeds=LEARNED["seeds"],
        backend=Processes(2),
    )
    for row in two.rows:
        names = ("projection", "merge", "head")
        same = row_of(finished, **{name: row[name] for name in names})
        for name in (*METRICS, "top2_low", "top2_high", "gain", "validation"):
            assert row[name] == same[name]


def test_folds_have_a_projection_each(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    result = grid(
        table,
        tmp_path / "out",
        vectorizers=[planted],
        projections=[INFONCE],
        protocol=Protocol("kfold", n_folds=3, n_distractors=7),
        ensemble=2,
    )
    assert {row["status"] for row in result.rows} == {"ok"}
    assert len(list(result.out.glob("projections/*.safetensors"))) == 3
    row = row_of(result, projection=INFONCE)
    assert row["n_test_queries"] == N_PAIRS
    assert row["gain_low"] > 0
    assert (result.out / "ensemble.tllb").is_file()


# --- what fails, and what is refused


def test_a_projection_that_fails_is_failed_rows_with_the_reason(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    easy = f"triplet?{QUICK}&margin=1e-06&negatives=semi-hard"
    result = grid(
        table,
        tmp_path / "out",
        vectorizers=[planted],
        projections=[easy, INFONCE],
        heads=["cosine", "logistic"],
    )
    failed = [row for row in result.rows if row["status"] == "failed"]
    assert [row["projection"] for row in failed] == [easy, easy]
    assert all("no triplet" in row["error"] for row in failed)
    assert result.exit_code == 4
    assert row_of(result, projection=INFONCE, head="logistic")["status"] == "ok"
    assert result.chosen is not None
    failures = read_csv(result.out / "failures.csv")
    assert [easy in one["where"] for one in failures] == [True, True]


def test_fine_tuning_that_suits_no_vectorizer_is_refused_before_anything_is_written(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="'finetune' goes with none of the vectorize"):
        grid(table, tmp_path / "o", vectorizers=[planted], projections=["finetune"])
    named = [
        {
            "name": "B6",
            "vectorizer": planted,
            "projection": "finetune",
            "head": "cosine",
        }
    ]
    with pytest.raises(UsageError, match="does not go with that vectorizer"):
        grid(table, tmp_path / "o", vectorizers=[], named=named)
    assert not (tmp_path / "o").exists()


def test_a_projection_may_suit_one_vectorizer_and_not_another() -> None:
    cells = plan_cells(
        ["pixels", "classic"],
        [],
        ["cosine"],
        ["none", "siamese-cnn"],
        suits=lambda vectorizer, projection: vectorizer == "pixels",
    )
    assert [(cell.vectorizer, cell.projection) for cell in cells] == [
        ("pixels", "none"),
        ("pixels", "siamese-cnn"),
        ("classic", "none"),
    ]


@pytest.mark.parametrize(
    ("vectorizer", "projection", "is_so"),
    [
        ("classic", "triplet/contrastive", True),
        ("classic", "siamese-cnn", False),
        ("classic", "siamese-cnn/infonce", False),
        ("pixels", "siamese-cnn/infonce", True),
        ("pixels", "infonce/siamese-cnn", False),
        ("pixels", "finetune", False),
        ("pixels+classic", "siamese-cnn", False),
        ("timm:resnet50", "finetune/infonce", True),
        ("timm:resnet50", "finetune/siamese-cnn", False),
        ("timm:resnet50+classic", "finetune", False),
        ("timm:resnet50+classic", "infonce", True),
        ("clip:RN50:openai", "finetune?stages=1", True),
        ("onnx:net.onnx", "finetune", False),
    ],
)
def test_fine_tuning_wants_a_network_and_a_new_network_wants_pixels(
    vectorizer: str, projection: str, is_so: bool
) -> None:
    assert suits(make_vectorizer(vectorizer), projection) is is_so


@pytest.mark.parametrize(
    "projection", ["none", "infonce", "contrastive?joined=false", "contrastive/triplet"]
)
def test_the_joined_network_needs_a_contrastive_projection(projection: str) -> None:
    with pytest.raises(UsageError, match="contrastive"):
        plan_cells(["classic"], ["dot"], ["joined"], [projection])
    with pytest.raises(UsageError, match="contrastive"):
        plan_cells([], [], [], named=[Cell("classic", projection, "none", "joined")])


@pytest.mark.parametrize(
    ("projection", "said"),
    [
        ("infonec", "did you mean 'infonce'"),
        ("infonce?depht=1", "unknown option 'depht'"),
        ("infonce?depth=7", "0, 1 or 2"),
        ("finetune?epochs=0", "epochs"),
        ("finetune?colour=1", "unknown option 'colour'"),
        ("finetune/infonec", "did you mean 'infonce'"),
    ],
)
def test_a_wrong_projection_is_refused_before_anything_is_written(
    projection: str, said: str, table: PairTable, planted: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        grid(table, tmp_path / "o", vectorizers=[planted], projections=[projection])
    assert not (tmp_path / "o").exists()


# --- named cells and aliases


def test_named_cells_stand_beside_the_product_under_their_names(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    named = [
        {"name": "A1", "vectorizer": "mine", "projection": TRIPLET, "head": "cosine"},
        {"name": "A4", "vectorizer": "mine", "merge": "l1", "head": "logistic"},
    ]
    result = grid(
        table,
        tmp_path / "out",
        vectorizers=["mine"],
        named=named,
        aliases={"mine": planted},
    )
    found = {row["name"]: row for row in read_csv(result.out / "results.csv")}
    assert set(found) == {"", "A1", "A4"}
    assert {row["vectorizer"] for row in found.values()} == {"mine"}
    assert found["A1"]["projection"] == TRIPLET
    assert (found["A4"]["merge"], found["A4"]["head"]) == ("l1", "logistic")
    assert (found[""]["projection"], found[""]["head"]) == ("none", "cosine")


def test_named_cells_alone_bring_the_frozen_cosine_along(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    named = [
        {"name": "A1", "vectorizer": planted, "projection": TRIPLET, "head": "cosine"}
    ]
    result = grid(table, tmp_path / "out", vectorizers=[], named=named)
    assert [row["name"] for row in result.rows] == ["", "A1"]
    assert result.rows[1]["gain"] == pytest.approx(
        result.rows[1]["top2"] - result.rows[0]["top2"]
    )


def test_one_cell_of_two_names_is_refused(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    one = {"vectorizer": planted, "head": "cosine"}
    named = [{"name": "A1", **one}, {"name": "A9", **one}]
    with pytest.raises(UsageError, match="'A1' and 'A9' are one"):
        grid(table, tmp_path / "o", vectorizers=[], named=named)


def test_two_names_of_one_vectorizer_learn_once(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    result = grid(
        table,
        tmp_path / "out",
        vectorizers=["one", "two"],
        aliases={"one": planted, "two": planted},
        projections=[INFONCE],
    )
    assert len(list(result.out.glob("projections/*.safetensors"))) == 1
    one, two = (
        row_of(result, vectorizer=name, projection=INFONCE) for name in ("one", "two")
    )
    assert one["top2"] == two["top2"]


# --- hard negatives


def test_hard_negatives_change_what_is_learned_and_are_at_most_all(
    finished: GridResult, table: PairTable, planted: str, tmp_path: Path
) -> None:
    hard = grid(
        table,
        tmp_path / "out",
        vectorizers=[planted],
        heads=["cosine", "logistic"],
        protocol=Protocol(n_distractors=7, n_negatives=5, n_hard=3),
    )
    drawn = row_of(finished, projection="none", head="logistic")
    other = row_of(hard, projection="none", head="logistic")
    assert other["status"] == "ok"
    assert other["roc_auc"] != drawn["roc_auc"]
    with pytest.raises(UsageError, match="n_hard"):
        Protocol(n_negatives=2, n_hard=3)


# --- ensembles


def records_of(out: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in out.glob("cells/*.json")]
    return sorted(found, key=lambda record: record["id"])


def test_each_seed_takes_the_best_of_its_own_validation_set(
    finished: GridResult,
) -> None:
    records = records_of(finished.out)
    for seed in LEARNED["seeds"]:
        own = [record for record in records if record["seed"] == seed]
        (ensemble,) = (r for r in own if r["cell"]["head"] == "best-3")
        others = [r for r in own if r is not ensemble]
        figures = {r["id"]: r["validation"]["top2"] for r in others}
        chosen = [figures.pop(one) for one in ensemble["members"]]
        assert len(chosen) == 3
        assert min(chosen) >= max(figures.values())


def test_figures_of_the_test_set_have_no_say_in_the_ensemble(
    finished: GridResult, table: PairTable, planted: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished.out, out)
    before = {
        record["seed"]: record["members"]
        for record in records_of(out)
        if "members" in record
    }
    for number, record in enumerate(records_of(out)):
        made_up = dict.fromkeys(METRICS, (number * 7 % 26) / 26)
        record |= {"figures": made_up}
        path = out / "cells" / f"{record['id']}.json"
        path.write_text(json.dumps(record))
    grid(table, out, vectorizers=[planted], ensemble=3, **LEARNED)
    for seed, members in before.items():
        again = [r for r in records_of(out) if r["seed"] == seed and "members" in r]
        assert [record["members"] for record in again] == [members]


def test_the_score_of_an_ensemble_is_the_mean_of_its_members(
    finished: GridResult,
) -> None:
    ensemble = next(
        r for r in records_of(finished.out) if "members" in r and r["seed"] == 0
    )
    members = [read_scores(finished.out, one) for one in ensemble["members"]]
    slope, intercept = ensemble["calibration"][0]
    mean = np.mean([one["test"][0] for one in members], axis=0)
    own = read_scores(finished.out, ensemble["id"])["test"][0]
    np.testing.assert_allclose(own, slope * mean + intercept, rtol=1e-4, atol=1e-4)


def test_the_baseline_of_an_ensemble_is_the_best_frozen_cosine(
    finished: GridResult,
) -> None:
    row = row_of(finished, head="best-3")
    frozen = row_of(finished, projection="none", head="cosine")
    assert row["vectorizer"] == "ensemble"
    assert row["gain"] == pytest.approx(row["top2"] - frozen["top2"])


@pytest.mark.parametrize("n_members", [-1, 4])
def test_more_members_than_cells_are_refused_before_anything_is_written(
    n_members: int, table: PairTable, planted: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="from 0 to 3, the number of cells"):
        grid(
            table,
            tmp_path / "out",
            vectorizers=[planted],
            projections=["none", INFONCE, TRIPLET],
            ensemble=n_members,
        )
    assert not (tmp_path / "out").exists()


def test_an_ensemble_of_too_few_that_succeeded_is_a_failed_row(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    bad = "sklearn.preprocessing:StandardScaler"
    result = grid(
        table,
        tmp_path / "out",
        vectorizers=[planted],
        heads=["cosine", bad],
        ensemble=2,
    )
    row = row_of(result, vectorizer="ensemble")
    assert row["status"] == "failed"
    assert "needs as many cells that succeeded; there are 1" in row["error"]
    assert row_of(result, head="cosine")["status"] == "ok"
    assert not (result.out / "ensemble.tllb").exists()
    assert (result.out / "best.tllb").exists()


def test_cells_without_the_figure_are_no_members() -> None:
    def made(name: str, value: float | None) -> dict[str, Any]:
        validation = {"top2": value, "brier": 0.1}
        return {"id": name, "status": "ok", "validation": validation}

    records = [made("a", 0.5), made("b", None), made("c", 0.7)]
    assert [one["id"] for one in members_of(records, 2, "top2")] == ["c", "a"]
    with pytest.raises(UsageError, match="there are 2"):
        members_of(records, 3, "top2")


# --- bundles score as the grid did


def scores_of_bundle(
    path: Path, table: PairTable, seed: int = 0, **given: Any
) -> np.ndarray:
    """Return the log-odds that a bundle gives the test pairs of a run."""
    order = np.lexsort((table.label, table.right, table.left))
    ordered = table.take(order)
    (split,) = make_splits(
        ordered.left,
        ordered.right,
        ordered.label,
        match_components(ordered.n_images, ordered.left, ordered.right),
        protocol=SMALL,
        seed=seed,
    )
    classifier = load_bundle(path, **given)
    test = split.test
    scored = classifier.score_table(table, test.left, test.right)
    return classifier.calibration_.log_odds(scored.score)


def scores_of_row(result: GridResult, row: dict[str, Any], seed: int = 0) -> np.ndarray:
    names = ("vectorizer", "projection", "merge", "head")
    (record,) = (
        r
        for r in records_of(result.out)
        if r["seed"] == seed and all(r["cell"][name] == row[name] for name in names)
    )
    scores = read_scores(result.out, record["id"])
    assert scores is not None
    return scores["test"][0]


@pytest.mark.parametrize(
    ("projection", "head"),
    [
        (INFONCE, "cosine"),
        (TRIPLET, "xgboost"),
        (CONTRASTIVE, "joined"),
        (f"{TRIPLET}/{INFONCE}", "logistic"),
    ],
)
def test_the_bundle_of_a_projected_cell_scores_as_the_grid_did(
    projection: str,
    head: str,
    table: PairTable,
    planted: str,
    folder: Path,
    tmp_path: Path,
) -> None:
    merge = {} if head in ("cosine", "joined") else {"merge": "dot"}
    cell = {"vectorizer": planted, "projection": projection, "head": head, **merge}
    result = grid(
        table,
        tmp_path / "out",
        vectorizers=[],
        named=[{"name": "it", **cell}],
        ensemble=2,
    )
    assert {row["status"] for row in result.rows} == {"ok"}
    weights = {"weights": folder / "planted.npz"}
    assert result.chosen is not None
    for name, row in (
        ("best.tllb", result.chosen),
        ("ensemble.tllb", row_of(result, vectorizer="ensemble")),
    ):
        again = scores_of_bundle(result.out / name, table, **weights)
        np.testing.assert_allclose(
            again, scores_of_row(result, row), rtol=1e-4, atol=1e-4
        )


def test_the_bundle_of_a_large_run_scores_as_the_grid_did(
    finished: GridResult, table: PairTable, folder: Path
) -> None:
    chosen = finished.chosen
    assert chosen is not None
    again = scores_of_bundle(
        finished.out / "best.tllb", table, weights=folder / "planted.npz"
    )
    np.testing.assert_allclose(
        again, scores_of_row(finished, chosen), rtol=1e-4, atol=1e-4
    )


# --- fine-tuning, networks and pixels


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> PairTable:
    folder = tmp_path_factory.mktemp("images")
    left, right = pairs_of_images(folder)
    rows = [f"{a.stem},{b.stem}" for a, b in zip(left, right, strict=True)]
    (folder / "pairs.csv").write_text("\n".join(["left,right", *rows]) + "\n")
    random_network(folder / "net.safetensors")
    return read_pairs(folder / "pairs.csv", images=folder)


def test_projections_stand_on_a_fine_tuned_network(
    images: PairTable, tmp_path: Path
) -> None:
    network = Path(images.source).parent / "net.safetensors"
    short = f"{TUNING}/infonce?components=4&epochs=2"
    cells = [(TUNING, "none", "cosine"), (short, "none", "cosine")]
    cells.append((TUNING, "dot", "xgboost"))
    named = [
        {
            "name": f"{number}",
            "vectorizer": "net",
            "projection": projection,
            "merge": merge,
            "head": head,
        }
        for number, (projection, merge, head) in enumerate(cells)
    ]
    given = {
        "vectorizers": [],
        "named": named,
        "aliases": {"net": f"timm:{ARCH}@{network}?size={SIZE}"},
        "protocol": Protocol(n_distractors=3, validation_fraction=0.25),
        "ensemble": 4,
        "device": "cpu",
    }
    result = grid(images, tmp_path / "out", **given)
    assert {row["status"] for row in result.rows} == {"ok"}, result.rows
    files = list(result.out.glob("projections/*.safetensors"))
    assert len(files) == 2  # the network, and the map on top of it
    assert row_of(result, name="1")["project_s"] > row_of(result, name="0")["project_s"]

    before = stamps(result.out, "projections/*")
    lines: list[str] = []
    grid(images, result.out, **given, message=lines.append)
    assert stamps(result.out, "projections/*") == before
    assert "4 of 4 cells are finished already" in lines

    ensemble = load_bundle(result.out / "ensemble.tllb", device="cpu")
    assert len(ensemble.cells_) == 4
    record = next(r for r in records_of(result.out) if "members" in r)
    protocol = given["protocol"]
    test = _test_set(images, protocol)
    scored = ensemble.score_table(images, test.left, test.right)
    np.testing.assert_allclose(
        ensemble.calibration_.log_odds(scored.score),
        read_scores(result.out, record["id"])["test"][0],
        rtol=1e-3,
        atol=1e-3,
    )


def _test_set(table: PairTable, protocol: Protocol) -> Any:
    order = np.lexsort((table.label, table.right, table.left))
    left, right = table.left[order], table.right[order]
    (split,) = make_splits(
        left,
        right,
        table.label[order],
        match_components(table.n_images, left, right),
        protocol=protocol,
        seed=0,
    )
    return split.test


def test_heads_see_no_vectors_that_a_bundle_has_not() -> None:
    base = np.eye(3, dtype=np.float32)
    (space,) = spaces_of([base])
    assert space.vectors is base
    assert space.frozen is None


def test_a_network_from_scratch_learns_on_pixels_and_fails_on_too_few(
    images: PairTable, tmp_path: Path
) -> None:
    result = grid(
        images,
        tmp_path / "out",
        vectorizers=["pixels?size=16", "pixels?size=8", "classic"],
        projections=["none", "siamese-cnn?epochs=1&components=8"],
        protocol=Protocol(n_distractors=3),
    )
    status = {
        (row["vectorizer"], row["projection"].partition("?")[0]): row["status"]
        for row in result.rows
    }
    assert status == {
        ("pixels?size=16", "none"): "ok",
        ("pixels?size=16", "siamese-cnn"): "ok",
        ("pixels?size=8", "none"): "ok",
        ("pixels?size=8", "siamese-cnn"): "failed",
        ("classic", "none"): "ok",
    }
    failed = next(row for row in result.rows if row["status"] == "failed")
    assert "of size 16 to 512" in failed["error"]
    assert result.exit_code == 4


@pytest.mark.shared
def test_fine_tuning_real_weights_is_a_row_and_so_is_what_stands_on_it(
    shared: Path, tmp_path: Path
) -> None:
    from tllboost.pairs.groups import read_groups

    folder = tmp_path / "covers"
    for group in sorted((shared / "data" / "dvd-covers").iterdir())[:16]:
        (folder / group.name).mkdir(parents=True)
        for image in sorted(group.iterdir())[:2]:
            shutil.copy(image, folder / group.name)
    weights = shared / "weights" / "mobilenetv2_100.safetensors"
    network = f"timm:mobilenetv2_100@{weights}?size=64"
    result = grid(
        read_groups(folder, "folder"),
        tmp_path / "out",
        vectorizers=[network],
        projections=[TUNING, f"{TUNING}/infonce?components=4&epochs=2"],
        protocol=Protocol(n_distractors=2, validation_fraction=0.25),
    )
    assert [row["status"] for row in result.rows] == ["ok"] * 3, result.rows
    assert all(row["gain"] == 0 for row in result.rows[:1])
    assert result.exit_code == 0


def test_a_cell_of_a_record_that_is_none_counts_as_not_run(
    finished: GridResult, tmp_path: Path
) -> None:
    record = records_of(finished.out)[0]
    (tmp_path / "cells").mkdir()
    path = tmp_path / "cells" / f"{record['id']}.json"
    path.write_text('{"id": "another"}')
    assert read_record(tmp_path, record["id"]) is None
    (tmp_path / "scores").mkdir()
    for content in (b"", b"PK\x03\x04 cut off", b"no archive"):
        (tmp_path / "scores" / f"{record['id']}.npz").write_bytes(content)
        assert read_scores(tmp_path, record["id"]) is None
