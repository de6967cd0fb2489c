"""``tllboost grid``: measure every (vectorizer, projection, merge, head)."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from tllboost.cli.completion import complete
from tllboost.cli.config import config_text, plain, read_config
from tllboost.cli.options import (
    Gallery,
    GroupFolders,
    Json,
    LocalWeights,
    Mlflow,
    Networks,
    Quiet,
    Seed,
    Store,
    Strict,
    VectorizerNames,
    Workers,
    refuse_if,
    with_weights,
)
from tllboost.cli.progress import message_to, progress_bar
from tllboost.cli.streams import write_json
from tllboost.errors import MissingLibraryError, printable

if TYPE_CHECKING:
    from tllboost.grid import GridResult
    from tllboost.pairs import PairTable

__all__ = ["COMMANDS"]


@dataclass(frozen=True, kw_only=True)
class Files:
    """What is read, and where the results go."""

    panel = ""
    pairs: Annotated[
        Path | None,
        Argument(
            help="Pair table (CSV: left,right[,label][,query][,split]), or a folder "
            "of images with --groups."
        ),
    ] = None
    out: Annotated[
        Path | None, Option("--out", "-o", help="Folder for the results.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Tried:
    """The names whose product is the grid."""

    panel = "What is tried"
    vectorizer: VectorizerNames = None
    weights: LocalWeights = None
    projection: Annotated[
        list[str] | None,
        Option(
            "--projection",
            "-p",
            autocompletion=complete("projections", joint="/"),
            help="Learned map of the vectors, repeatable: none, infonce, triplet, "
            "contrastive, finetune, siamese-cnn [none].",
        ),
    ] = None
    merge: Annotated[
        list[str] | None,
        Option(
            "--merge",
            "-m",
            autocompletion=complete("merges", joint="+"),
            help="Merge, repeatable [dot cosdot l1 l2].",
        ),
    ] = None
    head: Annotated[
        list[str] | None,
        Option(
            "--head",
            "-c",
            autocompletion=complete("heads"),
            help="Head, repeatable [all].",
        ),
    ] = None
    ensemble: Annotated[
        int,
        Option(
            min=0,
            help="Add a row that averages this many cells, the best on validation; 0 "
            "adds none.",
        ),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How each cell is measured."""

    panel = "How it is measured"
    protocol: Annotated[
        str | None,
        Option(
            autocompletion=complete("protocols"),
            help="holdout, kfold, given or holidays2017; by default holdout, or given "
            "where the table has a split column.",
        ),
    ] = None
    metric: Annotated[
        str | None,
        Option(
            autocompletion=complete("metrics"),
            help="Metric of the matrix, and of the choice on validation [top2].",
        ),
    ] = None
    seed: Seed = 0
    seeds: Annotated[
        int, Option(min=1, help="Number of seeds, counted up from --seed.")
    ] = 1
    negatives: Annotated[
        int, Option(min=0, help="Number of non-matches drawn for each training match.")
    ] = 5
    hard_negatives: Annotated[
        int,
        Option(
            min=0,
            help="How many of --negatives are hard: the most similar images that do "
            "not match.",
        ),
    ] = 0
    distractors: Annotated[
        int,
        Option(
            min=1,
            help="Number of non-matching candidates that each test query is ranked "
            "against, beside its match.",
        ),
    ] = 19
    folds: Annotated[int, Option(min=2, help="Folds of --protocol kfold.")] = 5


@dataclass(frozen=True, kw_only=True)
class Page:
    """What is made of the results, beside the tables."""

    panel = "What is written"
    report: Annotated[
        bool, Option("--report/--no-report", help="Write report.html to --out.")
    ] = True
    gallery: Gallery = 20


@dataclass(frozen=True, kw_only=True)
class Machine(Workers):
    """What is true of a machine, not of a run: ``run.toml`` leaves it out."""

    store: Store = None
    jobs: Annotated[
        int | None,
        Option(
            "--jobs",
            "-j",
            min=1,
            help="Worker processes on this machine [one for each core].",
        ),
    ] = None
    large: Annotated[
        int | None,
        Option(
            min=1,
            help="Number of training pairs from which one xgboost cell is trained by "
            "all Dask workers together [never].",
        ),
    ] = None
    strict: Strict = False
    cell_timeout: Annotated[
        float | None,
        Option(
            metavar="SECONDS",
            help="A cell that takes longer fails, and the others go on [no limit].",
        ),
    ] = None
    cell_memory: Annotated[
        float | None,
        Option(
            metavar="MB",
            help="A cell whose process takes more memory, libraries included, fails "
            "[no limit].",
        ),
    ] = None
    mlflow: Mlflow = None


# Fields come in the order of the bases from the last to the first.
@dataclass(frozen=True, kw_only=True)
class GridOptions(Machine, Networks, Page, Measured, Tried, GroupFolders, Files):
    """All that flags and a file can say of a run."""

    def resolved(self, *, has_cells: bool) -> GridOptions:
        """Return the same with the usual values where nobody gave any.

        The protocol stays open: it depends on the table.

        Raises
        ------
        UsageError
            If it is not clear which network the weights are for.
        """
        from tllboost.grid.cells import DEFAULT_HEADS, DEFAULT_MERGES
        from tllboost.vectorizers import DEFAULT_VECTORIZERS

        is_2017 = self.protocol == "holidays2017"
        vectorizers = self.vectorizer or ([] if has_cells else DEFAULT_VECTORIZERS)
        return replace(
            self,
            vectorizer=with_weights(vectorizers, self.weights),
            weights=None,
            projection=self.projection or ["none"],
            merge=self.merge or list(DEFAULT_MERGES),
            head=self.head or list(DEFAULT_HEADS),
            metric=self.metric or ("accuracy" if is_2017 else "top2"),
        )


def grid(
    context: typer.Context,
    *,
    options: GridOptions,
    resume: Annotated[
        bool, Option("--resume", help="Go on with the run in --out, if there is one.")
    ] = False,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace the run in --out.")
    ] = False,
    config: Annotated[
        Path | None,
        Option(
            callback=read_config,
            is_eager=True,
            help="TOML file with any of these options; flags win.",
        ),
    ] = None,
    print_config: Annotated[
        bool,
        Option(
            "--print-config",
            help="Print what would be run as TOML for --config, and run nothing.",
        ),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    r"""Measure every (vectorizer, projection, merge, head): a results matrix.

    **Examples**

        tllboost grid pairs.csv --images photos --out results
        tllboost grid pairs.csv --left left --right right -v classic \
            -v onnx:net.onnx -m dot -m l1 -c cosine -c xgboost --out results
        tllboost grid pairs.csv --images photos -p none -p infonce -p triplet \
            --seeds 5 --ensemble 5 --out results
        tllboost grid photos --groups folder --protocol kfold --out results
        tllboost grid photos --groups '^(\d{4})' --out results
        tllboost grid photos --groups folder --out out --print-config > grid.toml
        tllboost grid --config grid.toml --resume

    A run that was stopped goes on when the same command is given again with --resume,
    and more cells or seeds may be asked then. Exit code 4 says that some cells or
    images failed: see failures.csv.
    """
    said = context.default_map or {}
    tables = {key: said[key] for key in ("alias", "cell") if key in said}
    options = options.resolved(has_cells="cell" in tables)
    if print_config:
        known = {k: v for k, v in vars(options).items() if k != "weights"}
        typer.echo(config_text(known, tables), nl=False)
        return
    refuse_if(
        options.pairs is None or options.out is None,
        "grid needs a pair table and --out FOLDER: see tllboost grid --help",
    )
    try:
        code = _run(options, tables, resume, overwrite, as_json, quiet)
    except KeyboardInterrupt:
        line = "interrupted: the same command with --resume goes on where it was"
        message_to(quiet=quiet)(line)
        code = 130
    raise typer.Exit(code)


def _run(
    options: Any,
    tables: dict[str, Any],
    resume: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Read the table, run the grid, print the matrix, write the page."""
    if options.mlflow is not None and importlib.util.find_spec("mlflow") is None:
        msg = "--mlflow: MLflow is not installed: pip install 'tllboost[mlflow]'"
        raise MissingLibraryError(msg)
    from tllboost.report import write_report
    from tllboost.report.terminal import print_matrix

    say = message_to(quiet=quiet)
    table = options.read(options.pairs)
    own_split = "holdout" if table.split is None else "given"
    options = replace(options, protocol=options.protocol or own_split)
    for note in table.notes:
        say(note)
    result = _measure(table, options, tables, resume, overwrite, quiet)
    if not as_json:
        print_matrix(result.rows, result.metric)
    failures = _failures(result)
    for line in result.notes:
        say(line)
    for one in failures:
        state = "failed" if one["what"] == "cell" else "left out"
        say(f"{state}: {printable(one['where'])}: {one['why']}")
    say(f"results in {printable(result.out)}")
    page = None
    if options.report:
        with progress_bar(quiet=quiet) as progress:
            page = write_report(result.out, gallery=options.gallery, progress=progress)
        say(f"report: {printable(page)}")
    if options.mlflow is not None:
        from tllboost.mlflow_log import log_run

        with progress_bar(quiet=quiet) as progress:
            log_run(result.out, options.mlflow, progress=progress)
        say(f"logged to MLflow: {options.mlflow}")
    if as_json:
        told = {key: getattr(result, key) for key in _TOLD}
        write_json(
            {
                "out": str(result.out),
                "report": None if page is None else str(page),
                "protocol": options.protocol,
                **told,
                "failures": failures,
                "cells": result.rows,
            }
        )
    return result.exit_code


_TOLD = ("metric", "data", "n_run", "n_reused", "chosen", "notes", "exit_code")


def _measure(
    table: PairTable,
    options: Any,
    tables: dict[str, Any],
    resume: bool,
    overwrite: bool,
    quiet: bool,
) -> GridResult:
    from tllboost.grid import run_grid
    from tllboost.splits import Protocol

    own = {"weights", *(field.name for field in fields(Machine))}
    settings = {key: value for key, value in vars(options).items() if key not in own}
    backend = options.open(
        options.jobs,
        large=options.large,
        seconds=options.cell_timeout,
        megabytes=options.cell_memory,
    )
    with backend as opened, progress_bar(quiet=quiet) as progress:
        return run_grid(
            table,
            options.vectorizer,
            options.merge,
            options.head,
            options.projection,
            named=tables.get("cell", []),
            aliases=tables.get("alias"),
            ensemble=options.ensemble,
            out=options.out,
            protocol=Protocol(
                options.protocol,
                n_negatives=options.negatives,
                n_hard=options.hard_negatives,
                n_distractors=options.distractors,
                n_folds=options.folds,
            ),
            seeds=range(options.seed, options.seed + options.seeds),
            metric=options.metric,
            store=options.store,
            backend=opened,
            device=options.device,
            offline=options.offline,
            resume=resume,
            overwrite=overwrite,
            strict=options.strict,
            settings=plain(settings) | tables,
            progress=progress,
            message=message_to(quiet=quiet),
        )


def _failures(result: GridResult) -> list[dict[str, str]]:
    """Return the images left out and the cells that failed, and why."""
    parts = ("vectorizer", "projection", "merge", "head")
    told = [("image", path, why) for path, why in result.failures.items()]
    told += [
        ("cell", " × ".join(row[part] for part in parts), row["error"])
        for row in result.rows
        if row["status"] != "ok"
    ]
    return [{"what": what, "where": where, "why": why} for what, where, why in told]


COMMANDS = {"grid": grid}
