"""What ``tllboost grid`` does once its options are known.

``tllboost grid``: measure every (vectorizer, projection, merge, head).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tllboost.cli.completion import (
    complete_head,
    complete_merge,
    complete_metric,
    complete_projection,
    complete_protocol,
    complete_vectorizer,
)
from tllboost.cli.config import as_toml
from tllboost.cli.options import (
    MACHINE,
    Anywhere,
    Backend,
    Device,
    Groups,
    Images,
    Json,
    Large,
    Left,
    Offline,
    Quiet,
    Right,
    Scheduler,
    Seed,
    Store,
    Strict,
)
from tllboost.cli.progress import Message, message_to, progress_bar
from tllboost.cli.streams import json_text

if TYPE_CHECKING:
    from tllboost.grid import GridResult
    from tllboost.pairs.pair_table import PairTable
    from tllboost.splits import Protocol

__all__ = ["resolved"]

Options = dict[str, Any]


def resolved(options: Options) -> Options:
    """Return the options with the defaults in the place of what nobody gave.

    The protocol stays open: it depends on the table.

    Raises
    ------
    UsageError
        If a name is wrong.
    """
    from tllboost.cli.options import with_weights
    from tllboost.grid.cells import DEFAULT_HEADS, DEFAULT_MERGES, with_options
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
        "others": usual.n_distractors,
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
    from tllboost.cli.options import read_input
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
    from tllboost.cli.options import opened
    from tllboost.grid import run_grid

    names = ("backend", "scheduler", "jobs", "large", "cell_timeout", "cell_memory")
    backend = opened(*(options[name] for name in names))
    with backend as who, progress_bar(quiet=quiet) as progress:
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
            backend=who,
            device=options["device"],
            offline=options["offline"],
            resume=options["resume"],
            overwrite=options["overwrite"],
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
        n_distractors=options["others"],
        n_folds=options["folds"],
    )


def _tell(result: GridResult, say: Message) -> None:
    """Say what came out, and what did not."""
    from tllboost.errors import printable

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
    from tllboost.errors import printable
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
    images = [
        {"what": "image", "where": path, "why": why}
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
        "failures": [*images, *cells],
        "cells": result.rows,
        "exit_code": result.exit_code,
    }


_TRIED = "What is tried"
_MEASURED = "How it is measured"

_EXAMPLES = """
**Examples**

    tllboost grid pairs.csv --images photos --out results

    tllboost grid pairs.csv --left left --right right -v classic \\
        -v onnx:net.onnx -m dot -m l1 -c cosine -c xgboost --out results

    tllboost grid pairs.csv --images photos -p none -p infonce -p triplet \\
        --seeds 5 --ensemble 5 --out results

    tllboost grid photos --groups folder --protocol kfold --out results

    tllboost grid photos --groups '^(\\d{4})' --out results

    tllboost grid photos --groups folder --out out --print-config > grid.toml

    tllboost grid --config grid.toml --resume

A run that was stopped goes on when the same command is given again with --resume, and
more cells or seeds may be asked then. Exit code 4 says that some cells or images
failed: see failures.csv.
"""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("grid", epilog=_EXAMPLES)(grid)


def grid(
    context: typer.Context,
    pairs: Annotated[
        Path | None,
        typer.Argument(
            help="Pair table (CSV: left,right[,label][,query][,split]), or a "
            "folder of images with --groups."
        ),
    ] = None,
    images: Images = None,
    left: Left = None,
    right: Right = None,
    groups: Groups = None,
    anywhere: Anywhere = False,
    vectorizer: Annotated[
        list[str] | None,
        typer.Option(
            "--vectorizer",
            "-v",
            autocompletion=complete_vectorizer,
            help="Vectorizer, repeatable [classic pocket].",
            rich_help_panel=_TRIED,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            help="Local weights of the clip: or timm: network.",
            rich_help_panel=_TRIED,
        ),
    ] = None,
    projection: Annotated[
        list[str] | None,
        typer.Option(
            "--projection",
            "-p",
            autocompletion=complete_projection,
            help="Learned map of the vectors, repeatable: none, infonce, triplet, "
            "contrastive, finetune, siamese-cnn [none].",
            rich_help_panel=_TRIED,
        ),
    ] = None,
    components: Annotated[
        int | None,
        typer.Option(
            "--components",
            min=1,
            help="Width of projections [half of the vectors].",
            rich_help_panel=_TRIED,
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth",
            min=0,
            max=2,
            help="Layers of projections [1].",
            rich_help_panel=_TRIED,
        ),
    ] = None,
    merge: Annotated[
        list[str] | None,
        typer.Option(
            "--merge",
            "-m",
            autocompletion=complete_merge,
            help="Merge, repeatable [dot cosdot l1 l2].",
            rich_help_panel=_TRIED,
        ),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            "--head",
            "-c",
            autocompletion=complete_head,
            help="Head, repeatable [all].",
            rich_help_panel=_TRIED,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the results.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            autocompletion=complete_protocol,
            help="holdout, kfold, given or holidays2017; by default holdout, or given "
            "where the table has a split column.",
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            autocompletion=complete_metric,
            help="What the matrix shows [top2].",
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    seed: Seed = 0,
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds",
            min=1,
            help="How many seeds, from --seed on.",
            rich_help_panel=_MEASURED,
        ),
    ] = 1,
    negatives: Annotated[
        int | None,
        typer.Option(
            "--negatives",
            help="Non-matches drawn a training match [5].",
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    hard_negatives: Annotated[
        int | None,
        typer.Option(
            "--hard-negatives",
            help="How many of --negatives are the nearest wrong images [0].",
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    ensemble: Annotated[
        int,
        typer.Option(
            "--ensemble",
            min=0,
            help="Average that many cells, the best on validation, as one more row.",
            rich_help_panel=_TRIED,
        ),
    ] = 0,
    others: Annotated[
        int | None,
        typer.Option(
            "--distractors",
            help="Distractors a test query [19].",
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            help="Folds of --protocol kfold [5].",
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    store: Store = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            help="Worker processes on this machine [one a core].",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    backend: Backend = "local",
    scheduler: Scheduler = None,
    large: Large = None,
    device: Device = "auto",
    offline: Offline = False,
    strict: Strict = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --out, if there is one."),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the run in --out."),
    ] = False,
    cell_timeout: Annotated[
        float | None,
        typer.Option(
            "--cell-timeout",
            metavar="SECONDS",
            help="A cell that takes longer fails, and the rest goes on [no limit].",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    cell_memory: Annotated[
        float | None,
        typer.Option(
            "--cell-memory",
            metavar="MB",
            help="A cell whose process takes more memory fails, libraries included "
            "[no limit].",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="TOML file with any of these options; flags win."
        ),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config",
            help="Print what would be run as TOML for --config, and run nothing.",
        ),
    ] = False,
    report: Annotated[
        bool,
        typer.Option("--report/--no-report", help="Write report.html to --out."),
    ] = True,
    gallery: Annotated[
        int,
        typer.Option(
            "--gallery",
            min=0,
            help="Best and worst queries with their images in report.html; 0 leaves "
            "all images out.",
        ),
    ] = 20,
    mlflow: Annotated[
        str | None,
        typer.Option(
            "--mlflow",
            metavar="URI",
            help="Also log the run to this MLflow server or folder.",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure every (vectorizer, projection, merge, head): a results matrix."""
    from tllboost.cli.config import config_text, merge_config

    # As --help lists them: click has what was given first.
    names = [str(option.name) for option in context.command.params]
    given = {name: context.params[name] for name in names if name in context.params}
    given |= {"cell": None, "alias": None}
    options = merge_config(config, given, _explicit(context))
    if print_config:
        typer.echo(config_text(resolved(options)), nl=False)
        return
    try:
        run(options, quiet=quiet, as_json=as_json)
    except KeyboardInterrupt:
        if not quiet:
            line = "interrupted: the same command with --resume goes on where it was"
            typer.echo(line, err=True)
        raise typer.Exit(130) from None


def _explicit(context: typer.Context) -> set[str]:
    """Return the options that stand on the command line or in the environment."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = ("COMMANDLINE", "ENVIRONMENT")
    return {name for name, source in sources.items() if source and source.name in given}
