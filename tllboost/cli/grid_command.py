"""``tllboost grid``: measure every (vectorizer, projection, merge, head)."""

from __future__ import annotations

import shlex
import time
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from threading import Thread
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer import Argument

from tllboost.cli import options
from tllboost.cli.options import option, refuse_given, refuse_if, typed
from tllboost.cli.streams import (
    message_to,
    plainly,
    progress_bar,
    write_json,
    write_out,
)
from tllboost.errors import WHY, DataError, UsageError, need, printable, retold
from tllboost.protocols import Protocol
from tllboost.registry import did_you_mean

if TYPE_CHECKING:
    from tllboost.grid.run import GridResult


@dataclass(frozen=True, kw_only=True)
class Files:
    """What is read, and where the results go."""

    panel = ""
    pairs: Annotated[
        Path | None,
        Argument(
            help="Pair table (CSV: left,right, maybe label,query,split), or a folder "
            "of images with --groups."
        ),
    ] = None
    out: Path | None = option(None, "Folder for the results.", "-o")


@dataclass(frozen=True, kw_only=True)
class Tried:
    """The names whose product is the grid."""

    panel = "What is tried"
    vectorizer: options.VectorizerNames = None
    weights: options.LocalWeights = None
    projection: list[str] | None = option(
        None,
        "Learned map of the vectors, repeatable: none, infonce, triplet, contrastive, "
        "finetune, siamese-cnn; crossfit/infonce for the merge similarity.",
        "-p",
        names="projections",
    )
    merge: list[str] | None = option(None, "Merge, repeatable.", "-m", names="merges")
    head: list[str] | None = option(
        None,
        "Head, repeatable; NAME?option=value sets an option, NAME?option={a,b} makes "
        "a cell of each.",
        "-c",
        names="heads",
    )
    ensemble: int | None = option(
        None,
        "Add the mean of up to N cells, those that are best together on validation; "
        "0 adds none.",
        min=0,
    )
    refit: bool = option(
        True,
        "Fit the cells of bundles again on all pairs, with what validation chose.",
        "--refit/--no-refit",
    )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How each cell is measured."""

    panel = "How it is measured"
    protocol: str | None = option(
        None,
        "holdout, kfold, given or holidays2017; by default holdout, or given where the "
        "table has a split column.",
        names="protocols",
    )
    metric: str | None = option(
        None,
        "Metric of the matrix and of gains [top2]; MRR chooses the best cell.",
        names="metrics",
    )
    seed: options.Seed = 0
    seeds: int = option(1, "Number of seeds, counted up from --seed.", min=1)
    negatives: int = option(
        Protocol.n_negatives,
        "Number of non-matches drawn for each training match.",
        min=0,
    )
    hard_negatives: int = option(
        Protocol.n_hard,
        "How many of --negatives are hard: the most similar images that do not match.",
        min=0,
    )
    distractors: int = option(
        Protocol.n_distractors,
        "Number of non-matching candidates that each test query is ranked against, "
        "beside its match.",
        min=1,
    )
    folds: int = option(Protocol.n_folds, "Folds of --protocol kfold.", min=2)


@dataclass(frozen=True, kw_only=True)
class Page:
    """What is made of the results, beside the tables."""

    panel = "What is written"
    report: bool = option(True, "Write report.html to --out.", "--report/--no-report")
    gallery: options.Gallery = 20


@dataclass(frozen=True, kw_only=True)
class Machine(options.Workers):
    """What is true of a machine, not of a run: ``run.toml`` leaves it out."""

    store: options.Store = None
    jobs: int | None = option(
        None, "Worker processes on this machine [one for each core].", "-j", min=1
    )
    strict: options.Strict = False
    cell_timeout: float | None = option(
        None,
        "A cell that takes longer fails, and the others go on [no limit].",
        metavar="SECONDS",
    )
    cell_memory: float | None = option(
        None,
        "A cell whose process takes more memory, libraries included, fails [no limit].",
        metavar="MB",
    )
    mlflow: options.Mlflow = None


_TRIED = "projection", "merge", "head"


# Fields come in the order of the bases from the last to the first.
@dataclass(frozen=True, kw_only=True)
class GridOptions(
    Machine, options.Networks, Page, Measured, Tried, options.GroupFolders, Files
):
    """All that flags and a file can say of a run."""

    def resolved(self, *, has_cells: bool, recipe: str = "") -> GridOptions:
        """Return the same with the usual values where nobody gave any.

        The protocol stays open: it depends on the table.

        Parameters
        ----------
        has_cells : bool
            Whether a file names cells.
        recipe : str, default=""
            What to try where no names are given; "" takes the default recipe.

        Raises
        ------
        UsageError
            If it is not clear which network the weights are for, or both a recipe and
            names are given.
        """
        from tllboost.grid.cells import DEFAULT_HEADS, DEFAULT_MERGES, RECIPES
        from tllboost.vectorizers import DEFAULT_VECTORIZERS

        said = [f"--{name}" for name in _TRIED if getattr(self, name) is not None]
        said += ["[[cell]]"] * has_cells
        why = "says what is tried: leave it out, or"
        refuse_if(recipe and said, f"--{recipe} {why} {', '.join(said)}")
        chosen: dict[str, Any] = {
            "vectorizer": [] if has_cells else DEFAULT_VECTORIZERS,
            "projection": ["none"],
            "merge": list(DEFAULT_MERGES),
            "head": list(DEFAULT_HEADS),
            "ensemble": 0,
            "metric": "accuracy" if self.protocol == "holidays2017" else "top2",
        }
        chosen |= {} if said else RECIPES[recipe or "default"]
        given = {name: getattr(self, name) for name in chosen}
        chosen |= {name: one for name, one in given.items() if one not in (None, [])}
        chosen["vectorizer"] = options.with_weights(chosen["vectorizer"], self.weights)
        return replace(self, weights=None, **chosen)


_CELL_NEEDS, _CELL_MAY = {"name", "vectorizer", "head"}, {"projection", "merge"}
# How TOML may spell the kinds of options, and what to ask for where it does not.
_SPELLED: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    list: ((str,), "text, or a list of text"),
}


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the values of a TOML file the defaults of the command: flags beat them.

    So kinds and limits are those that the options declare. The tables ``[alias]`` and
    ``[[cell]]`` are kept beside them; ``[run]``, which a run writes into its
    ``run.toml``, is skipped.

    Raises
    ------
    UsageError
        If the file has a key that is no option, or a value of the wrong kind.
    DataError
        If the file can't be read.
    """
    if path is None:
        return None
    text = f"{path}: can't be read as TOML ({WHY})"
    with retold(text, DataError, (OSError, ValueError)):
        # The paths in it need not be text.
        values = tomllib.loads(path.read_text("utf-8-sig", "surrogateescape"))
    values.pop("run", None)
    known = sorted({"alias", "cell", *(one.name for one in fields(GridOptions))})
    kinds = {
        name: get_args(kind)[0] if isinstance(kind, UnionType) else kind
        for name, kind in get_type_hints(GridOptions).items()
    }
    params = {one.name: one for one in context.command.params}
    for key, value in values.items():
        if key == "alias":
            fits = isinstance(value, dict) and all(map(_is_text, value.values()))
            problem = "" if fits else f"alias = {value!r} must be a table [alias]"
        elif key == "cell":
            problem = _problem_of_cells(value)
        elif key in known:
            if get_origin(kinds[key]) is list and isinstance(value, str):
                values[key] = value = [value]
            problem = _problem_of(value, context, params[key], kinds[key])
        else:
            hint = did_you_mean(key, known)
            problem = f"unknown key {key!r}: {hint}known: {', '.join(known)}"
        if problem:
            msg = f"{path}: {problem}"
            raise UsageError(msg)
    context.default_map = values
    return path


def _problem_of(value: Any, context: Any, param: Any, kind: Any) -> str:
    """Return what is wrong with the value of an option, or nothing."""
    types, wanted = _SPELLED.get(get_origin(kind) or kind, ((str,), "text"))
    each = value if isinstance(value, list) and get_origin(kind) is list else [value]
    if not all(type(one) in types for one in each):
        return f"{param.name} = {value!r} must be {wanted}"
    try:
        param.process_value(context, value)
    except typer.BadParameter as error:
        return f"{param.name} = {value!r}: {plainly(error.message)}"
    return ""


def _problem_of_cells(cells: Any) -> str:
    """Return what is wrong with the first cell that is none, or nothing."""
    if not isinstance(cells, list):
        return "cell must be tables: write [[cell]] above each"
    names: set[str] = set()
    for number, cell in enumerate(cells, 1):
        problem = ""
        if not isinstance(cell, dict):
            problem = f"{cell!r} must be a table"
        elif wrong := [key for key, value in cell.items() if not _is_text(value)]:
            problem = f"{wrong[0]} = {cell[wrong[0]]!r} must be text"
        elif unknown := cell.keys() - {*_CELL_NEEDS, *_CELL_MAY}:
            problem = f"unknown key {min(unknown)!r}"
        elif missing := _CELL_NEEDS - cell.keys():
            problem = f"it has no {min(missing)}"
        elif cell["name"] in names:
            problem = f"another has the name {cell['name']!r}"
        if problem:
            known = ", ".join(sorted({*_CELL_NEEDS, *_CELL_MAY}))
            return f"cell number {number}: {problem}; known: {known}"
        names.add(cell["name"])
    return ""


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as TOML can hold them: those that are set, paths as text.

    Examples
    --------
    >>> plain({"out": Path("results"), "store": None, "seeds": 3})
    {'out': 'results', 'seeds': 3}
    """
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in options.items()
        if value is not None
    }


def config_text(options: dict[str, Any], tables: dict[str, Any]) -> str:
    """Return options as a file that ``--config`` reads, and those that are not set.

    Parameters
    ----------
    options : dict
        Values by name, None where one is left open.
    tables : dict
        ``alias`` and ``cell``: TOML puts tables behind everything else.

    Examples
    --------
    >>> options = {"out": Path("results"), "jobs": 2, "store": None}
    >>> print(config_text(options, {"alias": {"a": "classic"}}), end="")
    out = "results"
    jobs = 2
    # not set: store
    <BLANKLINE>
    [alias]
    a = "classic"
    """
    import tomli_w

    text = tomli_w.dumps(plain(options))
    not_set = sorted(key for key, value in options.items() if value is None)
    if not_set:
        text += f"# not set: {', '.join(not_set)}\n"
    return text + (f"\n{tomli_w.dumps(tables)}" if tables else "")


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is said of one call, and in no file."""

    panel = ""
    quick: bool = option(False, "Try a few cells only: cosines and a linear head.")
    full: bool = option(False, "Try all of the default recipe, and more.")
    resume: bool = option(False, "Go on with the run in --out, if there is one.")
    overwrite: bool = option(False, "Replace the run in --out.")
    config: Path | None = option(
        None,
        "TOML file with any of these options; the command line wins.",
        callback=_read_config,
        is_eager=True,
    )
    print_config: bool = option(
        False, "Print the configuration as TOML for --config, and run nothing."
    )
    as_json: options.Json = False
    quiet: options.Quiet = False


def grid(
    context: typer.Context,
    *,
    asked: GridOptions,
    call: Call,
) -> None:
    r"""Measure combinations of vectorizer, projection, merge and head.

    **Examples**

        tllboost grid pairs.csv --images photos --out results
        tllboost grid photos --groups folder --quick --out results
        tllboost grid pairs.csv --images photos --full --resume --out results
        tllboost grid pairs.csv --left left --right right -v classic \
            -v onnx:net.onnx -m dot -m l1 -c cosine -c xgboost --out results
        tllboost grid pairs.csv --images photos -p none -p infonce -p triplet \
            --seeds 5 --ensemble 5 --out results
        tllboost grid pairs.csv --images photos -c 'xgboost?max_depth={2,4}' \
            --out results
        tllboost grid photos --groups folder --protocol kfold --out results
        tllboost grid photos --groups '^(\d{4})' --out results
        tllboost grid photos --groups folder --out out --print-config > grid.toml
        tllboost grid --config grid.toml --resume

    Without -p, -m and -c the grid takes a recipe: the default one, --quick or --full.
    If you give one of the three, the other two have defaults: -p none, -m dot cosdot l1
    l2, and for -c all heads but cosine-norm, joined, lightgbm and catboost.

    To go on with a run that was stopped, give the same command with --resume; it may
    ask for more cells or seeds. Exit code 4 says that some cells or images failed;
    failures.csv says which, and why.
    """
    said = context.default_map or {}
    tables = {key: said[key] for key in ("alias", "cell") if key in said}
    refuse_if(call.quick and call.full, "--quick and --full: give one of the two")
    recipe = "quick" * call.quick or "full" * call.full
    if "cell" in tables and not asked.vectorizer:
        why = "has no effect without -v: each [[cell]] of --config has its own"
        refuse_given(context, why, "projection", "merge", "head")
    if asked.protocol in (None, "holdout", "given", "holidays2017"):
        refuse_given(context, "has an effect only with --protocol kfold", "folds")
    if asked.protocol == "holidays2017":
        why = "has no effect: this --protocol draws one non-match for each match"
        refuse_given(context, why, "negatives", "distractors")
    if not asked.report:
        refuse_given(context, "has no effect with --no-report", "gallery")
    if call.print_config:
        why = "has no effect with --print-config, which runs nothing"
        refuse_given(context, why, "as_json", "resume", "overwrite")
        asked = asked.resolved(has_cells="cell" in tables, recipe=recipe)
        known = {k: v for k, v in vars(asked).items() if k != "weights"}
        write_out(config_text(known, tables))
        return
    refuse_if(
        asked.pairs is None or asked.out is None,
        "grid needs a pair table and --out FOLDER: see tllboost grid --help",
    )
    try:
        code = run(asked, tables, call, context, recipe)
    except KeyboardInterrupt:
        line = "interrupted: the same command with --resume goes on where it was"
        message_to(quiet=call.quiet)(line)
        code = 130
    raise typer.Exit(code)


def run(
    asked: Any, tables: Any, call: Call, context: Any = None, recipe: str = ""
) -> int:
    """Read the table, run the grid, print the matrix, write the page."""
    if asked.mlflow is not None:
        need("mlflow", "--mlflow")
    if asked.backend == "local":  # they start while options, table and images are read
        from tllboost.processes import Processes

        Thread(target=Processes(asked.jobs).warm).start()
    asked = asked.resolved(has_cells="cell" in tables, recipe=recipe)
    from tllboost.grid.run import run_grid
    from tllboost.report import write_report
    from tllboost.report.run import read_table
    from tllboost.report.terminal import print_matrix

    quiet, say = call.quiet, message_to(quiet=call.quiet)
    started = time.monotonic()
    table = asked.read(asked.pairs)
    own_split = "holdout" if table.split is None else "given"
    asked = replace(asked, protocol=asked.protocol or own_split)
    for note in table.notes:
        say(note)
    if context and table.query is not None and (table.label == 0).any():
        why = "has no effect: the table's column query lists each query's candidates"
        refuse_given(context, why, "distractors")
    own = {"weights", *(field.name for field in fields(Machine))}
    settings = {key: value for key, value in vars(asked).items() if key not in own}
    limits = {"seconds": asked.cell_timeout, "megabytes": asked.cell_memory}
    backend = asked.open(asked.jobs, **limits)
    with backend as opened, progress_bar(quiet=quiet) as progress:
        result = run_grid(
            table,
            asked.vectorizer,
            asked.merge,
            asked.head,
            asked.projection,
            named=tables.get("cell", []),
            aliases=tables.get("alias"),
            protocol=Protocol(
                asked.protocol,
                n_negatives=asked.negatives,
                n_hard=asked.hard_negatives,
                n_distractors=asked.distractors,
                n_folds=asked.folds,
            ),
            seeds=range(asked.seed, asked.seed + asked.seeds),
            backend=opened,
            resume=call.resume,
            overwrite=call.overwrite,
            settings=plain(settings) | tables,
            progress=progress,
            message=say,
            **{name: getattr(asked, name) for name in _SAME},
        )
    if not call.as_json:
        print_matrix(result.rows, result.metric)
    failures = read_table(result.out / "failures.csv")
    for line in result.notes:
        say(line)
    for one in failures:
        state = "failed" if one["what"] == "cell" else "left out"
        say(f"{state}: {printable(one['where'])}: {one['why']}")
    say(f"results in {printable(result.out)}")
    seconds = time.monotonic() - started
    for line in _stronger(asked, result, seconds, context) if context else ():
        say(line)
    page = None
    if asked.report:
        with progress_bar(quiet=quiet) as progress:
            page = write_report(result.out, gallery=asked.gallery, progress=progress)
        say(f"report: {printable(page)}")
    if asked.mlflow is not None:
        from tllboost.report.mlflow_log import log_run

        log_run(result.out, asked.mlflow)
        say(f"logged to MLflow: {asked.mlflow}")
    if call.as_json:
        told = {key: getattr(result, key) for key in (*_TOLD, "exit_code")}
        write_json(
            {
                "out": str(result.out),
                "report": None if page is None else str(page),
                "protocol": asked.protocol,
                **told,
                "failures": failures,
                "cells": result.rows,
            }
        )
    return result.exit_code


# The next recipe, and its seconds as a multiple of this one's: results/defaults.
_NEXT = {"quick": (2.0, "--resume"), "default": (3.0, "--full --resume")}
# Images a second on two cores: ViT-B/32 as in results/bench; a MobileNetV2 that is
# trained, and whose vectors are then computed anew, about so in results/tll-lite.
_CLIP, _TUNED = 39, 5
_TUNING = (
    "-v timm:mobilenetv2_100.ra_in1k+classic -p none -p finetune/infonce "
    "-c cosine -c cosine-norm --ensemble 4"
)


def _stronger(
    asked: Any, result: GridResult, seconds: float, context: Any
) -> list[str]:
    """Return commands that may do better than this recipe, and the minutes of each."""
    from tllboost.grid.cells import RECIPES

    used = [
        recipe
        for recipe, tried in RECIPES.items()
        if all(getattr(asked, name) == tried[name] for name in _TRIED)
    ]
    if not used or not result.n_run:
        return []
    seconds *= 1 + result.n_reused / result.n_run
    n, out = result.data["images"], asked.out
    ways = [
        ((5 / asked.seeds - 1) * seconds, ("seeds",), out, "--seeds 5 --resume"),
        (
            n / _CLIP + seconds,
            ("vectorizer", "weights"),
            f"{out}-clip",
            "-v clip:ViT-B-32:openai",
        ),
        (
            n / _TUNED * asked.seeds,
            ("vectorizer", "weights", "ensemble", "quick", "full"),
            f"{out}-tuned",
            _TUNING,
        ),
    ]
    if used[0] in _NEXT:
        share, more = _NEXT[used[0]]
        ways.insert(0, (share * seconds, ("quick",), out, more))
    lines = ["stronger, and about how long each takes (networks are fetched once):"]
    for takes, instead, where, more in ways:
        if takes > 0:
            words = typed(context, "out", "resume", "overwrite", *instead)
            command = shlex.join(["tllboost", "grid", *words, "--out", str(where)])
            lines.append(f"  {max(1, round(takes / 60))} min: {command} {more}")
    return lines


_TOLD = ("metric", "data", "n_run", "n_reused", "choosing_gave", "chosen", "notes")
_SAME = "ensemble", "refit", "out", "metric", "store", "device", "offline", "strict"
