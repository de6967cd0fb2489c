"""``tllboost grid``: measure every (vectorizer, projection, merge, head)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tllboost.cli.options import (
    Anywhere,
    Device,
    Groups,
    Images,
    Left,
    Offline,
    Quiet,
    Right,
    Seed,
    Store,
    Strict,
)

if TYPE_CHECKING:
    from tllboost.pair_table import PairTable

__all__ = ["add_to"]

_EXAMPLES = """
**Examples**

    tllboost grid pairs.csv --images photos --out results

    tllboost grid pairs.csv --left left --right right -v classic -v onnx:net.onnx
        -m dot -m l1 -c cosine -c logistic -c xgboost --seeds 5 --out results

    tllboost grid pairs.csv --images photos -p none -p infonce -p triplet
        --ensemble 5 --out results

    tllboost grid photos --groups folder --protocol kfold --out results

    tllboost grid photos --groups '^(\\d{4})' --out results

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
        typer.Option("--vectorizer", "-v", help="Vectorizer, repeatable [classic]."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Local weights of the clip: or timm: network."),
    ] = None,
    projection: Annotated[
        list[str] | None,
        typer.Option(
            "--projection",
            "-p",
            help="Learned map of the vectors, repeatable: none, infonce, triplet, "
            "contrastive, finetune, siamese-cnn [none].",
        ),
    ] = None,
    components: Annotated[
        int | None,
        typer.Option(
            "--components", min=1, help="Width of projections [half of the vectors]."
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", min=0, max=2, help="Layers of projections [1]."),
    ] = None,
    merge: Annotated[
        list[str] | None,
        typer.Option("--merge", "-m", help="Merge, repeatable [dot cosdot l1 l2]."),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option("--head", "-c", help="Head, repeatable [all]."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the results.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            help="holdout, kfold, given or holidays2017; by default holdout, or given "
            "where the table has a split column.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="What the matrix shows [top2]."),
    ] = None,
    seed: Seed = 0,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="How many seeds, from --seed on.")
    ] = 1,
    negatives: Annotated[
        int | None,
        typer.Option("--negatives", help="Non-matches drawn a training match [5]."),
    ] = None,
    hard_negatives: Annotated[
        int | None,
        typer.Option(
            "--hard-negatives",
            help="How many of --negatives are the nearest wrong pictures [0].",
        ),
    ] = None,
    ensemble: Annotated[
        int,
        typer.Option(
            "--ensemble",
            min=0,
            help="Average that many cells, the best on validation, as one more row.",
        ),
    ] = 0,
    others: Annotated[
        int | None,
        typer.Option("--others", help="Wrong candidates a test query [19]."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", help="Folds of --protocol kfold [5].")
    ] = None,
    store: Store = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Worker processes [one a core]."),
    ] = None,
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
        ),
    ] = None,
    cell_memory: Annotated[
        float | None,
        typer.Option(
            "--cell-memory",
            metavar="MB",
            help="A cell whose process takes more memory fails, libraries included "
            "[no limit].",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="TOML file with any of these options; flags win."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Measure every (vectorizer, projection, merge, head): a results matrix."""
    from tllboost.cli.config import merge_config

    given = {**context.params, "cell": None, "alias": None}
    options = merge_config(config, given, _explicit(context))
    try:
        run(options, quiet=quiet)
    except KeyboardInterrupt:
        if not quiet:
            line = "interrupted: the same command with --resume goes on where it was"
            typer.echo(line, err=True)
        raise typer.Exit(130) from None


def run(options: dict[str, Any], *, quiet: bool = False) -> None:
    """Read the table, run the grid, print the matrix."""
    from tllboost.cli.pair_input import read_input
    from tllboost.cli.progress import progress_bar
    from tllboost.cli.vectorizer_option import with_weights
    from tllboost.errors import UsageError
    from tllboost.grid import run_grid
    from tllboost.grid.plan import DEFAULT_HEADS, DEFAULT_MERGES
    from tllboost.grid.suits import with_options
    from tllboost.printable import printable
    from tllboost.report.terminal import print_matrix

    if options["pairs"] is None or options["out"] is None:
        msg = "grid needs a pair table and --out FOLDER: see tllboost grid --help"
        raise UsageError(msg)
    names = ("images", "left", "right", "groups", "anywhere")
    table = read_input(options["pairs"], **{name: options[name] for name in names})
    named = options["cell"] or []
    vectorizers = options["vectorizer"] or ([] if named else ["classic"])
    projections = [
        with_options(one, components=options["components"], depth=options["depth"])
        for one in options["projection"] or ["none"]
    ]
    if options["weights"] is not None:
        vectorizers = with_weights(vectorizers, options["weights"])
    seeds = range(options["seed"], options["seed"] + options["seeds"])

    def say(line: str) -> None:
        if not quiet:
            typer.echo(line, err=True)

    for note in table.notes:
        say(note)
    with progress_bar(quiet=quiet) as progress:
        result = run_grid(
            table,
            vectorizers,
            options["merge"] or DEFAULT_MERGES,
            options["head"] or DEFAULT_HEADS,
            projections,
            named=named,
            aliases=options["alias"],
            ensemble=options["ensemble"],
            out=options["out"],
            protocol=_protocol(options, table),
            seeds=list(seeds),
            metric=options["metric"],
            store=options["store"],
            n_jobs=options["jobs"],
            device=options["device"],
            offline=options["offline"],
            resume=options["resume"],
            overwrite=options["overwrite"],
            cell_timeout=options["cell_timeout"],
            cell_memory=options["cell_memory"],
            strict=options["strict"],
            settings=_resolved(options),
            progress=progress,
            message=say,
        )
    print_matrix(result.rows, result.metric)
    for line in result.notes:
        say(line)
    for path, why in result.failures.items():
        say(f"left out: {printable(path)}: {why}")
    for row in result.rows:
        if row["status"] != "ok":
            parts = ("vectorizer", "projection", "merge", "head")
            cell = " × ".join(row[part] for part in parts)
            say(f"failed: {cell}: {row['error']}")
    say(f"results in {result.out}")
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _protocol(options: dict[str, Any], table: PairTable) -> Any:
    from tllboost.splits import Protocol

    default = "holdout" if table.split is None else "given"
    asked = {
        "n_negatives": options["negatives"],
        "n_hard": options["hard_negatives"],
        "n_others": options["others"],
        "n_folds": options["folds"],
    }
    changed = {name: value for name, value in asked.items() if value is not None}
    return Protocol(options["protocol"] or default, **changed)


def _resolved(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options as ``run.toml`` keeps them: ``--config`` reads them again."""
    from tllboost.cli.config import as_toml

    return as_toml(options)


def _explicit(context: typer.Context) -> set[str]:
    """Return the options that stand on the command line or in the environment."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = ("COMMANDLINE", "ENVIRONMENT")
    return {name for name, source in sources.items() if source and source.name in given}
