"""What ``tllboost grid`` does once its options are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tllboost.cli.config import as_toml
from tllboost.cli.json_text import json_text
from tllboost.cli.progress import Message, message_to, progress_bar

if TYPE_CHECKING:
    from tllboost.grid import GridResult
    from tllboost.pair_table import PairTable
    from tllboost.splits import Protocol

__all__ = ["resolved", "run"]

Options = dict[str, Any]


def resolved(options: Options) -> Options:
    """Return the options with the defaults in the place of what nobody gave.

    The protocol stays open: it hangs on the table.

    Raises
    ------
    UsageError
        If a name is wrong.
    """
    from tllboost.cli.vectorizer_option import with_weights
    from tllboost.grid.plan import DEFAULT_HEADS, DEFAULT_MERGES
    from tllboost.grid.suits import with_options
    from tllboost.splits import Protocol
    from tllboost.vectorizers import DEFAULT_VECTORIZERS

    usual, sizes = Protocol(), {"components": options["components"]}
    sizes["depth"] = options["depth"]
    named = bool(options["cell"])
    vectorizers = options["vectorizer"] or ([] if named else DEFAULT_VECTORIZERS)
    if options["weights"] is not None:
        vectorizers = with_weights(vectorizers, options["weights"])
    is_2017 = options["protocol"] == "holidays2017"
    given = {name: value for name, value in options.items() if value is not None}
    return {
        **options,
        "metric": "accuracy" if is_2017 else "top2",
        "negatives": usual.n_negatives,
        "hard_negatives": usual.n_hard,
        "others": usual.n_others,
        "folds": usual.n_folds,
        **given,
        "vectorizer": list(vectorizers),
        "weights": None,
        "projection": [
            with_options(one, **sizes) for one in options["projection"] or ["none"]
        ],
        "merge": list(options["merge"] or DEFAULT_MERGES),
        "head": list(options["head"] or DEFAULT_HEADS),
    }


def run(options: Options, *, quiet: bool = False, as_json: bool = False) -> None:
    """Read the table, run the grid, print the matrix, write the report."""
    from tllboost.cli.pair_input import read_input
    from tllboost.errors import UsageError

    if options["pairs"] is None or options["out"] is None:
        msg = "grid needs a pair table and --out FOLDER: see tllboost grid --help"
        raise UsageError(msg)
    if options["mlflow"] is not None:
        _refuse_absent_mlflow()
    names = ("images", "left", "right", "groups", "anywhere")
    options = resolved(options)
    table = read_input(options["pairs"], **{name: options[name] for name in names})
    options["protocol"] = options["protocol"] or (
        "holdout" if table.split is None else "given"
    )
    say = message_to(quiet=quiet)
    for note in table.notes:
        say(note)
    result = _measure(table, options, quiet, say)
    if not as_json:
        from tllboost.report.terminal import print_matrix

        print_matrix(result.rows, result.metric)
    _tell(result, say)
    report = _write_report(result.out, options, quiet, say)
    _log(result.out, options, quiet, say)
    if as_json:
        typer.echo(json_text(_summary(result, report)))
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _measure(
    table: PairTable, options: Options, quiet: bool, say: Message
) -> GridResult:
    from tllboost.cli.backend import opened
    from tllboost.cluster import refuse_limits
    from tllboost.grid import run_grid

    names = ("backend", "scheduler", "jobs", "large")
    cluster = opened(*(options[name] for name in names))
    limits = options["cell_timeout"] or options["cell_memory"]
    if options["backend"] == "dask" and limits:
        refuse_limits()
    with cluster as workers, progress_bar(quiet=quiet) as progress:
        return run_grid(
            table,
            options["vectorizer"],
            options["merge"],
            options["head"],
            options["projection"],
            named=options["cell"] or [],
            aliases=options["alias"],
            ensemble=options["ensemble"],
            out=options["out"],
            protocol=_protocol(options),
            seeds=range(options["seed"], options["seed"] + options["seeds"]),
            metric=options["metric"],
            store=options["store"],
            n_jobs=options["jobs"],
            device=options["device"],
            offline=options["offline"],
            resume=options["resume"],
            overwrite=options["overwrite"],
            cell_timeout=options["cell_timeout"],
            cell_memory=options["cell_memory"],
            cluster=workers,
            strict=options["strict"],
            settings=as_toml(options),
            progress=progress,
            message=say,
        )


def _protocol(options: Options) -> Protocol:
    from tllboost.splits import Protocol

    return Protocol(
        options["protocol"],
        n_negatives=options["negatives"],
        n_hard=options["hard_negatives"],
        n_others=options["others"],
        n_folds=options["folds"],
    )


def _tell(result: GridResult, say: Message) -> None:
    """Say what came out, and what did not."""
    from tllboost.printable import printable

    for line in result.notes:
        say(line)
    for path, why in result.failures.items():
        say(f"left out: {printable(path)}: {why}")
    for row in result.rows:
        if row["status"] != "ok":
            say(f"failed: {printable(_cell(row))}: {row['error']}")
    say(f"results in {printable(result.out)}")


def _cell(row: dict[str, Any]) -> str:
    return " × ".join(
        row[part] for part in ("vectorizer", "projection", "merge", "head")
    )


def _write_report(
    out: Path, options: Options, quiet: bool, say: Message
) -> Path | None:
    """Write the page, unless nobody wants one."""
    if not options["report"]:
        return None
    from tllboost.printable import printable
    from tllboost.report import write_report

    with progress_bar(quiet=quiet) as progress:
        page = write_report(out, gallery=options["gallery"], progress=progress)
    say(f"report: {printable(page)}")
    return page


def _log(out: Path, options: Options, quiet: bool, say: Message) -> None:
    """Log the run to MLflow, if that was asked."""
    if options["mlflow"] is None:
        return
    from tllboost.mlflow_log import log_run

    with progress_bar(quiet=quiet) as progress:
        log_run(out, options["mlflow"], progress=progress)
    say(f"logged to MLflow: {options['mlflow']}")


def _refuse_absent_mlflow() -> None:
    """Tell before the work, not after it."""
    from importlib.util import find_spec

    if find_spec("mlflow") is None:
        from tllboost.errors import MissingLibraryError

        msg = "--mlflow: MLflow is not installed: pip install 'tllboost[mlflow]'"
        raise MissingLibraryError(msg)


def _summary(result: GridResult, report: Path | None) -> dict[str, Any]:
    """Return what a program wants to know of a run."""
    cells = [
        {"what": "cell", "where": _cell(row), "why": row["error"]}
        for row in result.rows
        if row["status"] != "ok"
    ]
    pictures = [
        {"what": "picture", "where": path, "why": why}
        for path, why in result.failures.items()
    ]
    return {
        "out": str(result.out),
        "report": None if report is None else str(report),
        "metric": result.metric,
        "protocol": result.rows[0]["protocol"],
        "data": result.data,
        "n_run": result.n_run,
        "n_reused": result.n_reused,
        "chosen": result.chosen,
        "notes": result.notes,
        "failures": [*pictures, *cells],
        "cells": result.rows,
        "exit_code": result.exit_code,
    }
