"""A finished run in MLflow: a run for the grid, and below it one for each cell."""

from __future__ import annotations

import logging
import math
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tllboost.errors import MissingLibraryError, UsageError, printable
from tllboost.grid.cells import Cell
from tllboost.report.run import Recorded, read_recorded

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["log_run"]

_EXPERIMENT = "tllboost"
_ARTIFACTS = (
    *("matrix.csv", "matrix.md", "matrix.tex", "results.csv", "failures.csv"),
    *("run.toml", "environment.json", "summary.json", "report.html"),
)
# What every server of MLflow takes; newer ones take more.
_LONGEST_PARAM, _LONGEST_TAG = 500, 5000
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:|databricks$|uc$", re.IGNORECASE)


def log_run(
    out: str | os.PathLike[str],
    uri: str,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> str:
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
    progress : callable or None
        Called with (done, total, what).

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
    run = read_recorded(Path(out))
    with warnings.catch_warnings():
        # Of libraries behind MLflow, on what their users can't change.
        warnings.simplefilter("ignore")
        make_client = _client_class()
        try:
            with _quiet_loggers():
                tracking, artifacts = _destination(uri)
                client = make_client(tracking_uri=tracking)
                return _log(client, _experiment(client, artifacts), run, progress)
        # Servers, databases and cloud storages fail in as many ways as there are.
        except Exception as error:
            msg = (
                f"--mlflow {uri!r}: nothing can be logged there ({_reason(error)}); "
                f"the results in {out} are complete: log them with tllboost report "
                f"{out} --mlflow URI"
            )
            raise UsageError(msg) from error


def _client_class() -> type[MlflowClient]:
    # MLflow reports its use to its makers unless told not to, and asks a server that
    # does not answer seven times, ever more slowly.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        msg = "MLflow is not installed: pip install 'tllboost[mlflow]'"
        raise MissingLibraryError(msg) from error
    return MlflowClient


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


def _experiment(client: MlflowClient, artifacts: str | None) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(name, artifact_location=artifacts))


def _log(
    client: MlflowClient,
    experiment: str,
    run: Recorded,
    progress: Callable[[int, int, str], None] | None,
) -> str:
    lines = run.summary.get("lines", [])
    tags = {f"version.{name}": text for name, text in run.versions.items()}
    tags["mlflow.note.content"] = "\n".join(map(str, lines))
    name = run.out.absolute().name
    parent = client.create_run(experiment, run_name=printable(name)).info.run_id
    status = "FAILED"
    try:
        _batch(client, parent, params=_settings(run), tags=tags)
        for done, (cell, row) in enumerate(run.rows.items(), 1):
            _log_cell(client, experiment, parent, cell, row)
            if progress is not None:
                progress(done, len(run.rows), "cells logged")
        for file in _ARTIFACTS:
            if (run.out / file).is_file():
                client.log_artifact(parent, str(run.out / file))
        status = "FINISHED"
    finally:
        client.set_terminated(parent, status)
    return str(parent)


def _log_cell(
    client: MlflowClient, experiment: str, parent: str, cell: Cell, row: dict[str, Any]
) -> None:
    parts = asdict(cell)
    shown = " × ".join(part for part in parts.values() if part != "none")
    child = client.create_run(
        experiment,
        run_name=printable(row["name"] or shown),
        tags={"mlflow.parentRunId": parent},
    ).info.run_id
    _batch(
        client,
        child,
        params=parts | {name: row[name] for name in ("name", "protocol")},
        metrics={key: value for key, value in row.items() if isinstance(value, float)},
        tags={"error": row["error"], "tied_with_best": row["tied_with_best"]},
    )
    client.set_terminated(child, "FINISHED" if row["status"] == "ok" else "FAILED")


def _settings(run: Recorded) -> dict[str, str]:
    """Return ``run.toml`` as flat text: one parameter a setting."""
    settings = {k: v for k, v in run.run.items() if k not in ("run", "cell", "alias")}
    settings |= {"data": run.data or "", "n_cells": len(run.rows)}
    settings |= {f"protocol.{key}": value for key, value in run.protocol.items()}
    return {
        key: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, value in settings.items()
    }


def _batch(
    client: MlflowClient,
    run_id: str,
    *,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Log values at once, without those that are empty or not finite."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[
            Metric(key, value, now, 0)
            for key, value in (metrics or {}).items()
            if math.isfinite(value)
        ],
        params=[
            Param(key, _cut(text, _LONGEST_PARAM))
            for key, text in params.items()
            if text
        ],
        tags=[
            RunTag(key, _cut(text, _LONGEST_TAG)) for key, text in tags.items() if text
        ],
    )


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _reason(error: Exception) -> str:
    """Return what is wrong, in one line of a length to read."""
    text = " ".join(str(error).split()) or type(error).__name__
    return printable(_cut(text, 300))


@contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Keep what MLflow and its database tell of themselves from the terminal."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
