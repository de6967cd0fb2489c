"""Options behind the names of heads, sets of them, and short forms of long names."""

from __future__ import annotations

import csv
import io
import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from bundles import PAIRS, make_classifier, save, write_npz
from conftest import Run
from fitted_heads import planted
from killed_work import Here
from makers import features_of, fit, record
from planted_grid import grid, write_planted
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from tllboost.bundle import read_manifest
from tllboost.classifier import load_bundle
from tllboost.errors import UsageError
from tllboost.grid.cells import Cell
from tllboost.grid.matrix import caption, make_matrix, matrix_html, matrix_text
from tllboost.grid.run import GridResult
from tllboost.grid.summary import summarise
from tllboost.heads import make_head
from tllboost.pairs import read_pairs
from tllboost.registry import spread_sets
from tllboost.report.terminal import print_matrix

OWN = """
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

instance = LogisticRegression(C=7.0)
pipeline = make_pipeline(PCA(3), LogisticRegression(C=2.0))

def made():
    return LogisticRegression(C=5)

class Bare:
    def fit(self, X, y):
        return self
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A module of heads of somebody's own."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_heads.py").write_text(OWN)
    sys.path.insert(0, str(folder))
    yield "own_heads"
    sys.path.remove(str(folder))
    del sys.modules["own_heads"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("xgboost?max_depth=4&learning_rate=0.05", {"max_depth": 4, "n_jobs": 1}),
        ("xgboost?max_bin=16&start=none", {"max_bin": 16, "start": "none"}),
        ("xgboost?max_bin=none", {"max_bin": None, "random_state": 5}),
        ("mlp?hidden=64,32", {"hidden": (64, 32)}),
        ("random-forest?max_features=0.3", {"max_features": 0.3}),
        ("sklearn.svm:SVC?C=3&shrinking=false", {"C": 3.0, "shrinking": False}),
        ("sklearn.svm:SVC?class_weight=balanced", {"class_weight": "balanced"}),
    ],
)
def test_an_option_is_read_as_the_kind_of_its_default(
    name: str, wanted: dict[str, Any]
) -> None:
    made = make_head(name, seed=5, n_threads=1).get_params()
    assert {key: made[key] for key in wanted} == wanted
    assert all(type(made[key]) is type(value) for key, value in wanted.items())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("xgboost?depth=3", r"did you mean 'max_depth'\? known: .*max_depth \(a whole"),
        (
            "xgboost?max_depth=deep",
            "max_depth='deep' in .*: write a whole number above",
        ),
        ("xgboost?max_depth={2,4}", "write a whole number above zero"),
        ("xgboost?start=nowhere", "write one of auto, linear, cosine, frozen, none"),
        ("mlp?n_epochs=1.5", "n_epochs='1.5' in .*: write a whole number"),
        ("mlp?hidden=64,wide", "write a whole number, or several joined by commas"),
        ("xgboost?random_state=3", "unknown option 'random_state'"),
        ("sklearn.svm:SVC?C=much", "C='much'.*write a number"),
        ("sklearn.svm:SVC?C=nan", "C='nan'.*write a number"),
        ("cosine?scale=2", "unknown option 'scale' in 'cosine.scale=2': known: none"),
        ("cosine?", "write it as key=value"),
        ("own_heads:Bare?C=1", "unknown option 'C'.*known: none"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line_with_what_is_legal(
    name: str, message: str, own: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_head(name)
    assert "\n" not in str(caught.value)


def test_a_path_may_lead_to_an_object_a_pipeline_or_a_function(own: str) -> None:
    assert make_head(f"{own}:instance").C == 7
    assert make_head(f"{own}:instance?C=2.5").C == 2.5
    assert make_head(f"{own}:instance").C == 7  # the module's own is left alone
    assert make_head(f"{own}:made?fit_intercept=false").get_params()["C"] == 5
    found = make_head(
        f"{own}:pipeline?logisticregression__C=3&pca__whiten=true", seed=4
    )
    assert isinstance(found, Pipeline)
    (_, pca), (_, logistic) = found.steps
    assert (logistic.C, pca.whiten, pca.n_components) == (3, True, 3)
    assert (logistic.random_state, pca.random_state) == (4, 4)
    with pytest.raises(UsageError, match=r"known: .*logisticregression__C \(a number"):
        make_head(f"{own}:pipeline?C=3")


def test_a_set_in_braces_is_a_name_for_each_choice_out_of_it() -> None:
    several = "xgboost?max_depth={2,4}&learning_rate={0.05,0.1}"
    assert spread_sets(["cosine", several]) == [
        "cosine",
        *(
            f"xgboost?max_depth={depth}&learning_rate={rate}"
            for depth in (2, 4)
            for rate in (0.05, 0.1)
        ),
    ]
    fusion = "pixels?size={8,16}+classic?weight={1,2}"
    assert len(spread_sets([fusion])) == 4
    alone = ["onnx:{a,b}.onnx", "pixels?size={8", 42]
    assert spread_sets(alone) == alone


@pytest.fixture(scope="module")
def run_of_options(own: str, tmp_path_factory: pytest.TempPathFactory) -> GridResult:
    """A grid of heads with options, from sets and from an estimator."""
    folder = write_planted(tmp_path_factory.mktemp("options"))
    table = read_pairs(folder / "pairs.csv")
    return grid(
        table,
        folder / "out",
        vectorizers=[f"vectors:{folder / 'planted.npz'}"],
        heads=[
            "random-forest?n_estimators={2,3}",
            LogisticRegression(C=0.5),
            f"{own}:pipeline?pca__n_components=2",
        ],
        metric="top1",
        backend=Here(1),
    )


def test_a_grid_has_a_cell_for_each_choice_under_its_full_name(
    run_of_options: GridResult,
) -> None:
    rows = run_of_options.rows
    assert {row["status"] for row in rows} == {"ok"}
    heads = [
        "cosine",
        "random-forest?n_estimators=2",
        "random-forest?n_estimators=3",
        "sklearn.linear_model._logistic:LogisticRegression?C=0.5",
        "own_heads:pipeline?pca__n_components=2",
    ]
    assert [row["head"] for row in rows] == heads
    told = tomllib.loads((run_of_options.out / "run.toml").read_text("utf-8"))
    assert told["head"] == heads[1:]
    with (run_of_options.out / "matrix.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.reader(file))[3:] == heads


@pytest.mark.parametrize(
    "names",
    [
        {"vectorizers": ["pixels?size={8,8}"]},
        {"projections": ["infonce?components={4,4}"]},
        {"heads": ["xgboost?max_depth={2,2}"]},
    ],
)
def test_sets_of_every_kind_of_name_are_taken_apart_before_anything_is_done(
    names: dict[str, list[str]], run_of_options: GridResult, tmp_path: Path
) -> None:
    table = read_pairs(run_of_options.out.parent / "pairs.csv")
    ((kind, (several,)),) = names.items()
    one = spread_sets([several])[0]
    with pytest.raises(
        UsageError, match=re.escape(f"{kind[:-1]} {one} is given twice")
    ):
        grid(table, tmp_path / "out", **{"vectorizers": ["classic"], **names})


def test_the_report_of_a_grid_shows_short_names_and_what_they_are_short_for(
    run_of_options: GridResult,
) -> None:
    from tllboost.report import payload
    from tllboost.report.run import read_run

    shown = payload(read_run(run_of_options.out), gallery_size=0)
    legend = dict(shown["matrix"]["legend"])
    assert legend["LogisticRegression?C=0.5"].startswith("sklearn.linear_model._logis")
    shown_names = {*shown["matrix"]["heads"], *chain(*shown["matrix"]["rows"])}
    assert set(legend) <= shown_names
    assert set(legend.values()) & {cell["head"] for cell in shown["cells"]}


def test_runs_are_compared_cell_by_cell_of_the_same_options(
    run: Run, run_of_options: GridResult
) -> None:
    done = run("compare", run_of_options.out, run_of_options.out, "--all")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for head in ("random-forest?n_estimators=2", "random-forest?n_estimators=3"):
        start = f"vectors:planted × dot × {head} "
        assert sum(line.startswith(start) for line in lines) == 1
    assert "top1: 5 same" in done.stdout


@pytest.mark.parametrize(
    "head",
    ["random-forest?n_estimators=2", "sklearn.linear_model:RidgeClassifier?alpha=3"],
)
def test_a_bundle_keeps_the_full_name_of_its_head(head: str, tmp_path: Path) -> None:
    model = make_classifier(f"vectors:{write_npz(tmp_path / 'net.npz')}", head)
    bundle = save(tmp_path / "best.tllb", model)
    assert read_manifest(bundle)["cells"][0]["head"]["name"] == head
    loaded = load_bundle(bundle)
    assert str(loaded.get_params()["head"]).endswith(head.partition(":")[2] or head)
    scores = model.decision_function(PAIRS)
    assert loaded.decision_function(PAIRS).tolist() == scores.tolist()


def test_an_option_changes_what_is_learned() -> None:
    features = features_of(planted())
    names = (f"random-forest?n_estimators={n}" for n in (2, 9))
    few, more = (fit(planted(), name).score(features) for name in names)
    assert (few != more).any()


def test_list_tells_the_options_of_a_thing_with_kinds_and_defaults(run: Run) -> None:
    lines = run("list", "heads", "xgboost").stdout.splitlines()
    assert lines[4].split(maxsplit=1) == ["max_depth=2", "a whole number above zero"]
    rows = run("list", "projections", "infonce", "--json").json["options"]
    assert {"name": "depth", "default": "1", "description": "0, 1 or 2"} in rows
    rows = run("list", "vectorizers", "pixels", "--json").json["options"]
    assert [row["name"] for row in rows] == ["size", "trim", "flip", "views"]
    assert run("list", "heads", "sklearn.svm:SVC").stdout.startswith("C=1  ")
    assert run("list", "heads", "cosine").stdout == "no options\n"
    refused = run("list", "merges", "dot")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "tllboost: merges have no options\n"


LONG = [
    "xgboost?max_depth=4&learning_rate=0.05",
    "xgboost?max_depth=4&learning_rate=0.1",
    "my.heads:Classifier?first_option=1&second_option=2",
    "my.heads:AVeryLongNameOfAClassifierThatGoesOn?a=1",
    "my.heads:AVeryLongNameOfAClassifierThatGoesOn?a=2",
]
SHORT = [
    "xgboost?md=4&lr=0.05",
    "xgboost?md=4&lr=0.1",
    "Classifier?fo=1&so=2",
    "AVeryLongNameOfAClassifierTha...",
    "AVeryLongNameOfAClassifierTha~2",
]


def test_long_names_are_short_in_every_matrix_with_a_legend() -> None:
    cells = [Cell("classic", "none", "dot", head) for head in ("logistic", *LONG)]
    records = [record(cell, 0.5) for cell in cells]
    rows = summarise(cells, records, metric="top2", protocol="holdout")
    matrix = make_matrix(rows)
    assert matrix.heads == ["logistic", *SHORT]
    assert [matrix.legend[short] for short in SHORT] == LONG
    assert matrix_text(rows, "top2", "csv").splitlines()[0].endswith(",".join(LONG))
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    print_matrix(rows, "top2", console=console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    told = f"{SHORT[0]} = {LONG[0]}"
    assert told in printed
    escaped = told.replace("_", r"\_").replace("&", r"\&")
    assert escaped in matrix_text(rows, "top2", "md")
    assert told.replace("&", "&amp;") in matrix_html(rows, "top2")
    plain = summarise(cells[:1], records[:1], metric="top2", protocol="holdout")
    assert " = " not in caption(plain, "top2", str)
    assert make_matrix(plain).legend == {}
