"""A finished run in MLflow: a run for the grid, and below it one for each cell."""

from __future__ import annotations

import logging
import math
import os
import re
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tllboost.errors import UsageError, need, printable
from tllboost.report.run import Run, part, read_run, texts_of

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_EXPERIMENT = "tllboost"
_ARTIFACTS = (
    *("matrix.csv", "matrix.md", "results.csv", "failures.csv"),
    *("run.toml", "environment.json", "summary.json", "report.html"),
)
_NO_SETTINGS = {"run", "cell", "alias"}
# What every server of MLflow takes; newer ones take more.
_LONGEST_PARAM, _LONGEST_TAG = 500, 5000
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:|databricks$|uc$", re.IGNORECASE)


def log_run(out: str | os.PathLike[str], uri: str) -> str:
    """Log a finished run to MLflow.

    The run of the grid holds its settings, its tables and its report. Each cell is a
    run below it, with its parts as parameters and with all metrics, the ends of their
    95 % intervals (``top2_low``, ``top2_high``), gains and costs; a cell that failed is
    a failed run.

    Parameters
    ----------
    out : path-like
        Folder of the run.
    uri : str
        Tracking URI of MLflow, as ``http://localhost:5000`` or ``sqlite:///runs.db``,
        or a folder, which gets a database and the files. The environment variable
        ``MLFLOW_EXPERIMENT_NAME`` names the experiment, else it is "tllboost".

    Returns
    -------
    str
        What MLflow calls the run of the grid.

    Raises
    ------
    MissingLibraryError
        If MLflow is not installed.
    DataError
        If `out` holds no finished run.
    UsageError
        If nothing can be logged to `uri`.
    """
    run = read_run(Path(out))
    need("mlflow", "--mlflow")
    # MLflow reports its use to its makers unless told not to, and asks a server that
    # does not answer seven times, ever more slowly.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    quiet = logging.root.manager.disable
    try:
        # Of libraries behind MLflow, on what their users can't change.
        with warnings.catch_warnings(action="ignore"):
            logging.disable(logging.WARNING)
            from mlflow.tracking import MlflowClient

            tracking, artifacts = _destination(uri)
            client = MlflowClient(tracking_uri=tracking)
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _EXPERIMENT
            found = client.get_experiment_by_name(name)
            experiment = (
                client.create_experiment(name, artifact_location=artifacts)
                if found is None
                else found.experiment_id
            )
            return _log(client, str(experiment), run)
    # Servers, databases and cloud storages fail in as many ways as there are.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        msg = (
            f"--mlflow {uri!r}: nothing can be logged there "
            f"({printable(_cut(reason, 300))}); the results in {out} are complete: log "
            f"them with tllboost report {out} --mlflow URI"
        )
        raise UsageError(msg) from error
    finally:
        logging.disable(quiet)


def _destination(uri: str) -> tuple[str, str | None]:
    """Return the tracking URI, and where files go if it keeps none itself."""
    if uri.startswith("sqlite:///"):
        folder = Path(uri.removeprefix("sqlite:///")).absolute().parent
        return uri, (folder / "artifacts").as_uri()
    if _SCHEME.match(uri):
        return uri, None
    folder = Path(uri).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder}/mlflow.db", (folder / "artifacts").as_uri()


def _log(client: MlflowClient, experiment: str, run: Run) -> str:
    """Log the grid, and a run below it for each cell; return what MLflow calls it."""
    from mlflow.entities import Metric, Param

    def begin(
        name: str, tags: dict[str, str], params: dict[str, Any], **metrics: float
    ) -> str:
        """Begin a run with what is not empty and, of numbers, what is finite."""
        kept = {key: _cut(one, _LONGEST_TAG) for key, one in tags.items() if one}
        made = client.create_run(experiment, run_name=printable(name), tags=kept).info
        found = {key: one for key, one in metrics.items() if math.isfinite(one)}
        client.log_batch(
            made.run_id,
            [Metric(key, one, made.start_time, 0) for key, one in found.items()],
            [
                Param(key, _cut(one, _LONGEST_PARAM))
                for key, one in texts_of(params)
                if one
            ],
        )
        return str(made.run_id)

    tags = {f"version.{name}": text for name, text in run.versions.items()}
    tags["mlflow.note.content"] = "\n".join(map(str, part(run.summary, "lines", list)))
    settings = {k: v for k, v in run.settings.items() if k not in _NO_SETTINGS}
    settings |= {"data": run.data or "", "n_cells": len(run.cells)}
    settings |= {f"protocol.{key}": value for key, value in run.protocol.items()}
    parent, status = begin(run.out.absolute().name, tags, settings), "FAILED"
    try:
        for cell, row in zip(run.cells, run.rows(), strict=True):
            parts = asdict(cell)
            shown = " × ".join(part for part in parts.values() if part != "none")
            params = parts | {"name": row["name"], "protocol": row["protocol"]}
            tags = {key: row.get(key, "") for key in ("error", "tied_with_best")}
            tags["mlflow.parentRunId"] = parent
            metrics = {k: one for k, one in row.items() if isinstance(one, int | float)}
            child = begin(row["name"] or shown, tags, params, **metrics)
            ended = "FINISHED" if row["status"] == "ok" else "FAILED"
            client.set_terminated(child, ended)
        for file in _ARTIFACTS:
            if (run.out / file).is_file():
                client.log_artifact(parent, str(run.out / file))
        status = "FINISHED"
    finally:
        client.set_terminated(parent, status)
    return parent


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
