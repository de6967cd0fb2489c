"""A run in MLflow: the real library and a real database, or one line without it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from conftest import Run
from makers import record
from recorded_runs import COSINE, DOT, L1, write_run

from tllboost.demo import make_scenes
from tllboost.errors import DataError, MissingLibraryError, UsageError
from tllboost.report.mlflow_log import log_run

MISSING = importlib.util.find_spec("mlflow") is None
needs_mlflow = pytest.mark.skipif(
    MISSING, reason="needs MLflow, not there: pip install 'tllboost[mlflow]'"
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A finished run of three cells, one of them failed."""
    lost = {"status": "failed", "error": "no memory"}
    records = [record(COSINE, 0.25), record(DOT, 0.5), record(L1, 0.1, **lost)]
    run = write_run(tmp_path / "mine", records, seed=3, head=["cosine", "logistic"])
    (run / "report.html").write_text("<!doctype html>")
    return run


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that tests share: to make its tables takes a second."""
    return tmp_path_factory.mktemp("ml")


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("where", ["folder", "sqlite"])
def test_a_grid_is_a_run_and_each_cell_one_below_it(
    where: str, out: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from mlflow.tracking import MlflowClient

    database = f"sqlite:///{tmp_path}/ml/mlflow.db"
    uri = str(tmp_path / "ml") if where == "folder" else database
    (tmp_path / "ml").mkdir()
    run_id = log_run(out, uri)
    assert capfd.readouterr() == ("", "")
    client = MlflowClient(tracking_uri=database)
    experiment = client.get_experiment_by_name("tllboost")
    found = client.search_runs([experiment.experiment_id])
    runs = {run.info.run_name: run for run in found}
    assert runs["mine"].info.run_id == run_id
    assert runs["mine"].info.status == "FINISHED"
    params = runs["mine"].data.params
    assert params["head"] == "cosine, logistic"
    assert params["protocol.n_distractors"] == "19"
    assert (params["seed"], params["data"], params["n_cells"]) == ("3", "d1", "3")
    assert runs["mine"].data.tags["version.numpy"] == "2.1"
    files = {item.path for item in client.list_artifacts(run_id)}
    assert {"results.csv", "run.toml", "summary.json", "report.html"} <= files
    dot = runs["classic × dot × logistic"]
    assert dot.data.tags["mlflow.parentRunId"] == run_id
    assert dot.data.params["merge"] == "dot"
    assert dot.data.metrics["top2"] == pytest.approx(0.5)
    assert dot.data.metrics["gain"] == pytest.approx(0.25)
    low, high = (dot.data.metrics[f"top2_{end}"] for end in ("low", "high"))
    assert low < 0.5 < high
    assert dot.data.tags["tied_with_best"] == "best"
    assert dot.info.status == "FINISHED"
    lost = runs["classic × l1 × logistic"]
    assert lost.info.status == "FAILED"
    assert lost.data.tags["error"] == "no memory"
    assert "top2" not in lost.data.metrics
    log_run(out, uri)
    assert len(client.search_runs([experiment.experiment_id])) == 2 * len(runs)


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("uri", ["nonsense://there", "http://127.0.0.1:9"])
def test_a_place_that_takes_nothing_is_one_line(
    uri: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UsageError, match=f"--mlflow '{uri}'.*are complete") as caught:
        log_run(out, uri)
    assert "\n" not in str(caught.value)


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_very_long_settings_are_cut_to_what_servers_take(
    tmp_path: Path, kept: Path
) -> None:
    from mlflow.tracking import MlflowClient

    run = write_run(tmp_path / "mine", [record(DOT, 0.5)], vectorizer=["x" * 9000])
    run_id = log_run(run, str(kept))
    client = MlflowClient(tracking_uri=f"sqlite:///{kept}/mlflow.db")
    assert len(client.get_run(run_id).data.params["vectorizer"]) == 500


def test_without_mlflow_the_extra_is_named(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'tllboost\[mlflow\]'"):
        log_run(out, "runs")


def test_a_folder_without_a_run_is_named_before_anything_is_asked(
    tmp_path: Path,
) -> None:
    with pytest.raises(DataError, match="no finished run is here"):
        log_run(tmp_path, "http://127.0.0.1:9")


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_the_commands_log_a_real_grid_with_its_report(
    run: Run, tmp_path: Path, kept: Path
) -> None:
    from mlflow.tracking import MlflowClient

    pairs = make_scenes(tmp_path / "images", n_scenes=16, n_views=2)
    data = (pairs, "--images", pairs.parent)
    asked = (*data, "-v", "pocket", "-c", "cosine", "--out", tmp_path / "out")
    done = run("grid", *asked, "--mlflow", kept)
    assert done.returncode == 0, done.stderr
    assert run("report", tmp_path / "out", "--mlflow", kept).returncode == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{kept}/mlflow.db")
    experiment = client.get_experiment_by_name("tllboost")
    found = client.search_runs([experiment.experiment_id])
    whole = [one for one in found if one.info.run_name == "out"]
    assert len(whole) == 2
    for one in whole:
        files = {item.path for item in client.list_artifacts(one.info.run_id)}
        assert {"report.html", "matrix.md", "results.csv"} <= files
