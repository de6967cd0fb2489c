"""What users of scikit-learn, pandas and notebooks expect of names and objects."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import PAIRS, write_npz
from conftest import Run, write_image
from makers import Witness
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

import tllboost
from tllboost.classifier import PairClassifier
from tllboost.conventions import n_threads_of, seed_of, usable_cores
from tllboost.errors import DataError, MissingLibraryError, TableError, UsageError
from tllboost.grid.run import GridResult, run_grid
from tllboost.heads import HEADS, make_head
from tllboost.heads.boosting import XGBoostHead
from tllboost.heads.linear import LogisticHead
from tllboost.heads.mlp import MLPHead
from tllboost.merges import MERGES, l1
from tllboost.pairs import read_pairs
from tllboost.processes import Processes
from tllboost.projections import make_projection

pandas = pytest.importorskip("pandas")

MATCHES = [[f"left{i:03d}", f"right{i:03d}"] for i in range(60)]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"vectors:{write_npz(tmp_path_factory.mktemp('vectors') / 'v.npz')}"


def labelled() -> tuple[list[list[str]], list[int]]:
    others = [[left, MATCHES[i - 7][1]] for i, (left, _) in enumerate(MATCHES)]
    return MATCHES + others, [1] * 60 + [0] * 60


# Seeds, threads, labels, weights


@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**32 - 1])
def test_a_seed_below_two_to_the_32_stays_what_it_is(seed: int) -> None:
    assert seed_of(seed) == seed_of(np.uint64(seed)) == seed


@pytest.mark.parametrize("seed", [2**32, 2**32 + 1, 2**64, 10**40])
def test_a_larger_seed_is_folded_to_one_of_its_own(seed: int) -> None:
    folded = seed_of(seed)
    assert folded == seed_of(seed) < 2**32
    assert folded not in (seed % 2**32, seed_of(seed + 1))


def test_a_generator_is_drawn_from_and_none_is_numpys_global_one() -> None:
    for kind in (np.random.RandomState, np.random.default_rng):
        one, two = kind(3), kind(3)
        drawn = [seed_of(one), seed_of(one)]
        assert drawn == [seed_of(two), seed_of(two)]
        assert drawn[0] != drawn[1]
    np.random.seed(3)  # noqa: NPY002
    drawn = [seed_of(None)]
    np.random.seed(3)  # noqa: NPY002
    assert drawn == [seed_of(None)] != [seed_of(None)]


@pytest.mark.parametrize("wrong", [-1, 1.5, "0", [1]])
def test_what_is_no_random_state_is_refused(wrong: Any, vectors: str) -> None:
    model = PairClassifier(vectors, random_state=wrong)
    with pytest.raises(UsageError, match=r"random_state=.* must be an int of 0 or"):
        model.fit(MATCHES)


def test_threads_are_counted_from_all_cores() -> None:
    n_cores = usable_cores()
    assert [n_threads_of(n) for n in (None, 1, 3, -1)] == [None, 1, 3, n_cores]
    assert n_threads_of(-2) == max(1, n_cores - 1)
    assert n_threads_of(-999) == 1
    assert Processes(-1).n_jobs == Processes().n_jobs


@pytest.mark.parametrize("wrong", [0, 1.5, "all"])
def test_what_is_no_number_of_threads_is_refused(wrong: Any, vectors: str) -> None:
    with pytest.raises(UsageError, match="or -1 for all cores"):
        PairClassifier(vectors, n_jobs=wrong).fit(MATCHES)


def test_labels_may_be_booleans_and_none_is_no_label(vectors: str) -> None:
    X, y = labelled()
    model = PairClassifier(vectors, head="cosine")
    wanted = model.fit(X, y).predict_proba(PAIRS)
    for same in ([bool(one) for one in y], np.array(y, float), pandas.Series(y)):
        np.testing.assert_array_equal(model.fit(X, same).predict_proba(PAIRS), wanted)
    frame = pandas.DataFrame(X, columns=["left", "right"])
    np.testing.assert_array_equal(model.fit(frame, y).predict_proba(PAIRS), wanted)
    for wrong, told in ((None, "None"), (pandas.NA, "<NA>"), (np.nan, "nan")):
        with pytest.raises(UsageError, match=f"y holds {told}; a label is 1"):
            model.fit(X, [*y[:-1], wrong])
    with pytest.raises(UsageError, match="y holds '0'; a label is 1"):
        model.fit(X, [str(one) for one in y])
    with pytest.raises(UsageError, match="y holds 'no'"):
        LogisticHead().fit(np.eye(4), ["no", "yes", "no", "yes"])


def test_weights_count_beside_each_other_and_equal_ones_change_nothing(
    vectors: str,
) -> None:
    X, y = labelled()
    rng = np.random.default_rng(0)
    wrong = rng.random(len(y)) < 0.3
    spoiled = np.where(wrong, 1 - np.array(y), y)
    for head in ("logistic", LogisticRegression()):
        model = PairClassifier(vectors, head=head)
        score = model.fit(X, y).decision_function(PAIRS)
        alike = model.fit(X, y, np.full(len(y), 8)).decision_function(PAIRS)
        np.testing.assert_array_equal(alike, score)
        known = model.fit(X, spoiled, ~wrong + 0.0).predict_proba(X)
        unknown = model.fit(X, spoiled).predict_proba(X)
        assert log_loss(y, known) < log_loss(y, unknown) - 0.05


def test_drawn_non_matches_weigh_as_their_match_together(vectors: str) -> None:
    weight = np.arange(1.0, 61.0)
    model = PairClassifier(vectors, head=Witness()).fit(MATCHES, sample_weight=weight)
    seen = model.cells_[0].scorer.head_
    given, pairs = seen.given_, seen.X_
    of_match = {f"left{i:03d}": one for i, one in enumerate(weight / weight.mean())}
    names = sorted({name for pair in MATCHES for name in pair})
    wanted = np.array([of_match[names[row]] for row in pairs.left])
    wanted[seen.y_ == 0] /= 5
    np.testing.assert_allclose(given["sample_weight"], wanted)


@pytest.mark.parametrize(
    "wrong", [[1.0], [-1.0] + [1.0] * 59, [np.nan] * 60, [0.0] * 60, [np.inf] * 60]
)
def test_what_are_no_weights_is_refused(wrong: list[float], vectors: str) -> None:
    with pytest.raises(UsageError, match="sample_weight must be 60 numbers of 0"):
        PairClassifier(vectors).fit(MATCHES, sample_weight=wrong)


def test_a_head_that_takes_no_weights_says_so_itself(vectors: str) -> None:
    model = PairClassifier(vectors, head=KNeighborsClassifier())
    with pytest.raises(TypeError, match="unexpected keyword argument 'sample_weight'"):
        model.fit(MATCHES, sample_weight=np.ones(60))


@pytest.mark.parametrize("command", ["grid", "finetune"])
def test_a_seed_below_zero_is_one_line_of_usage(run: Run, command: str) -> None:
    done = run(command, "pairs.csv", "--seed", "-1", "--out", "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tllboost: invalid value for '--seed': must be at")
    assert len(done.stderr.splitlines()) == 1


# Names, objects and frames


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (LogisticHead(), "logistic"),
        (GaussianNB(), "sklearn.naive_bayes:GaussianNB"),
        (SVC(random_state=3), "sklearn.svm._classes:SVC"),
        (KNeighborsClassifier(n_jobs=2), "sklearn.neighbors._classification:KNeigh"),
        (SVC(C=3, gamma="auto"), "sklearn.svm._classes:SVC?C=3&gamma=auto"),
        (SVC(probability=True), "sklearn.svm._classes:SVC?probability=true"),
        (XGBoostHead(max_depth=4, n_jobs=2), "xgboost?max_depth=4"),
        (MLPHead(hidden=(8, 4)), "mlp?hidden=8,4"),
    ],
)
def test_a_head_has_the_name_that_makes_it_again(head: Any, name: str) -> None:
    told = HEADS.name_of(head)
    assert told.startswith(name)
    assert HEADS.name_of(make_head(told)) == told
    assert type(make_head(told)) is type(head)


@pytest.mark.parametrize(
    "head",
    [SVC(class_weight={0: 3}), make_pipeline(PCA(), SVC()), object(), lambda: None],
    ids=["arguments", "pipeline", "object", "lambda"],
)
def test_a_head_that_no_name_makes_is_refused_with_what_to_do(
    head: Any, tmp_path: Path
) -> None:
    table = read_pairs(pandas.DataFrame(MATCHES, columns=["left", "right"]))
    with pytest.raises(UsageError, match=r"into a module, and give package\.modul"):
        run_grid(table, heads=[head], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_class_whose_defaults_are_the_arguments_is_what_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stiff_heads.py").write_text(
        "from sklearn.svm import SVC\n\n\nclass Stiff(SVC):\n"
        "    def __init__(self, C=3, random_state=None):\n"
        "        super().__init__(C=C, random_state=random_state)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    stiff = HEADS.resolve("stiff_heads:Stiff")
    assert HEADS.name_of(stiff()) == "stiff_heads:Stiff"
    monkeypatch.delitem(sys.modules, "stiff_heads")


def test_merges_and_projections_have_names_too() -> None:
    assert MERGES.name_of(l1) == "l1"
    with pytest.raises(UsageError, match=r"merge '.*<lambda>' has no name that run"):
        MERGES.name_of(lambda left, right: left + right)
    spec = "infonce?components=4/triplet"
    assert make_projection(make_projection(spec)).spec == spec  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Forty pairs of images as paths, in a frame."""
    folder = tmp_path_factory.mktemp("images")
    rows = []
    for seed in range(40):
        left = write_image(folder / f"{seed:02d}a.png", seed=seed, size=(24, 20))
        right = write_image(folder / f"{seed:02d}b.png", seed=seed, size=(20, 16))
        rows.append([left, str(right)])
    return pandas.DataFrame(rows, columns=["left", "right"])


@pytest.fixture(scope="module")
def result(frame: Any, tmp_path_factory: pytest.TempPathFactory) -> GridResult:
    """A grid of objects and names on a frame, with a seed beyond all libraries'."""
    folder = tmp_path_factory.mktemp("grid")
    return run_grid(
        frame,
        ["pixels?size=8"],
        [l1],
        [GaussianNB(), LogisticHead()],
        out=folder / "out",
        store=folder / "store",
        protocol="kfold",
        seeds=np.array([2**40]),
        backend=Processes(1),
    )


def test_a_grid_of_objects_is_written_as_names_that_run_again(
    result: GridResult,
) -> None:
    assert result.exit_code == 0
    told = tomllib.loads((result.out / "run.toml").read_text("utf-8"))
    names = ["sklearn.naive_bayes:GaussianNB", "logistic"]
    assert told["head"] == names
    assert (told["merge"], told["projection"]) == (["l1"], ["none"])
    assert told["run"]["protocol"]["name"] == "kfold"
    assert [row["head"] for row in result.rows] == ["cosine", *names]
    assert {row["protocol"] for row in result.rows} == {"kfold"}


def test_a_result_is_short_in_a_shell_and_a_table_in_a_notebook(
    result: GridResult,
) -> None:
    assert repr(result).startswith(f"GridResult({str(result.out)!r}, 3 cells, chosen: ")
    assert "pixels" in repr(result)
    assert len(repr(result).splitlines()) == 1
    page = result._repr_html_()
    assert page.count("<tr>") == page.count("</tr>") == 2
    assert "<td>sklearn.naive_bayes:GaussianNB</td>" in page
    assert f"{result.rows[0]['top2']:.3f}" in page
    assert f"gave top2 {result.choosing_gave['top2']:.3f} [" in page
    table = result.to_frame()
    assert list(table["head"]) == [row["head"] for row in result.rows]
    assert list(table.columns)[:4] == ["vectorizer", "projection", "merge", "head"]
    assert table["top2"].tolist() == [row["top2"] for row in result.rows]


@pytest.mark.parametrize(
    ("method", "library", "package"),
    [("to_frame", "pandas", "pandas"), ("plot", "matplotlib", r"'tllboost\[plot\]'")],
)
def test_a_table_or_figure_without_its_library_says_what_to_install(
    result: GridResult,
    method: str,
    library: str,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    told = rf"{method}\(\) needs '{library}', not installed: pip install {package}$"
    with pytest.raises(MissingLibraryError, match=told):
        getattr(result, method)()


def test_a_result_is_a_figure_where_matplotlib_is_installed(result: GridResult) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra tllboost[plot]")
    above, below = result.plot().axes
    assert above.get_title().startswith(result.metric)
    assert len(below.collections[0].get_segments()) == len(result.rows)


@pytest.mark.parametrize("seeds", [[], [-1], [0, -3]])
def test_seeds_that_are_none_are_refused_before_anything_is_done(
    frame: Any, tmp_path: Path, seeds: list[int]
) -> None:
    with pytest.raises(UsageError, match="must be one or more whole numbers of 0 or"):
        run_grid(frame, seeds=seeds, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_frame_is_read_as_the_table_that_it_would_be(tmp_path: Path) -> None:
    frame = pandas.DataFrame(
        {"left": ["a", "b", "c"], "right": ["x", " y", "z.jpg"], "label": [1, 0, True]}
    )
    frame.to_csv(tmp_path / "pairs.csv", index=False)
    table, wanted = read_pairs(frame), read_pairs(tmp_path / "pairs.csv")
    assert table.source == "DataFrame"
    for name in ("ids", "paths", "notes"):
        assert getattr(table, name) == getattr(wanted, name)
    for name in ("left", "right", "label", "lines"):
        np.testing.assert_array_equal(getattr(table, name), getattr(wanted, name))
    with pytest.raises(TableError, match="DataFrame:3: label '' is not legal"):
        read_pairs(frame.assign(label=[1, None, 0]))
    with pytest.raises(TableError, match="no column 'right'"):
        read_pairs(frame[["left"]])


def test_paths_of_a_frame_that_are_not_there_are_named(tmp_path: Path) -> None:
    frame = pandas.DataFrame([[tmp_path / "a.jpg", "b.jpg"]], columns=["left", "right"])
    with pytest.raises(DataError, match=r"DataFrame:2: left: no image .*a\.jpg'"):
        run_grid(frame, out=tmp_path / "out")


def test_vectorize_takes_the_names_of_the_command_line(frame: Any) -> None:
    by_name = tllboost.vectorize("pixels?size=8", frame["left"][:3]).vectors
    made = tllboost.make_vectorizer("pixels?size=8")
    np.testing.assert_array_equal(by_name, made.transform(list(frame["left"][:3])))
    with pytest.raises(UsageError, match="did you mean 'pixels'"):
        tllboost.vectorize("pixel", [])


# Saved, loaded, listed


def test_a_classifier_is_saved_and_loaded_with_nothing_but_a_path(
    vectors: str, tmp_path: Path
) -> None:
    classifier = PairClassifier(vectors)
    classifier.fit(MATCHES).save(tmp_path / "mine.tllb")
    loaded = tllboost.load(tmp_path / "mine.tllb")
    wanted = classifier.predict_proba(PAIRS)
    np.testing.assert_allclose(loaded.predict_proba(PAIRS), wanted, atol=1e-6)
    loaded.save(tmp_path / "again.tllb")
    again = tllboost.load(tmp_path / "again.tllb")
    np.testing.assert_allclose(again.predict_proba(PAIRS), wanted, atol=1e-6)


def test_dir_shows_the_api_alone() -> None:
    assert dir(tllboost) == tllboost.__all__
    assert "Any" not in dir(tllboost)
