"""``tllboost grid``: measure every (vectorizer, projection, merge, head)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tllboost.cli.backend import Backend, Large, Scheduler
from tllboost.cli.completion import (
    complete_head,
    complete_merge,
    complete_metric,
    complete_projection,
    complete_protocol,
    complete_vectorizer,
)
from tllboost.cli.grid_run import resolved, run
from tllboost.cli.options import (
    MACHINE,
    Anywhere,
    Device,
    Groups,
    Images,
    Json,
    Left,
    Offline,
    Quiet,
    Right,
    Seed,
    Store,
    Strict,
)

__all__ = ["add_to"]

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
more cells or seeds may be asked then. Exit code 4 says that some cells or pictures
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
            "folder of pictures with --groups."
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
            help="How many of --negatives are the nearest wrong pictures [0].",
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
            "--others",
            help="Wrong candidates a test query [19].",
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
            help="Best and worst queries with their pictures in report.html; 0 leaves "
            "all pictures out.",
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
