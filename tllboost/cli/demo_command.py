"""``tllboost demo``: the whole path on images that are made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tllboost.cli.options import Quiet, Store
from tllboost.cli.progress import Message, message_to, progress_bar

if TYPE_CHECKING:
    from tllboost.demo import DemoSet
    from tllboost.grid import GridResult

__all__ = []

_MERGES = ("dot", "l1")


def add_to(app: typer.Typer) -> None:
    """Give `app` the command ``demo``."""
    app.command("demo")(demo)


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the results.")
    ] = Path("results/demo"),
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Folder for the images; by default OUT-images."),
    ] = None,
    scenes: Annotated[
        int, typer.Option("--scenes", min=60, max=360, help="How many scenes to make.")
    ] = 240,
    store: Store = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace another run's results in --out."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Run a small grid on made images, show its matrix and score a new pair.

    Scenes are cut from the photographs that scikit-image and scikit-learn ship;
    nothing is downloaded. It takes a minute on two cores, and a second run reuses
    what the first one computed.

    **Examples**

        tllboost demo
        tllboost demo --out small --scenes 100
    """
    from tllboost.demo import make_demo_set
    from tllboost.report import write_report

    folder = out.with_name(f"{out.name}-images") if images is None else images
    made = make_demo_set(folder, n_scenes=scenes)
    say = message_to(quiet=quiet)
    say(f"{scenes} scenes, 3 views each: {folder}")
    result = _run(made, out, store, overwrite or _is_without_cells(out), quiet)
    _show(result)
    with progress_bar(quiet=quiet) as progress:
        say(f"report: {write_report(out, progress=progress)}")
    if result.chosen is not None:
        _score_new_pairs(out / "best.tllb", made)
        _suggest(out, made, say)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _run(
    made: DemoSet, out: Path, store: Path | None, overwrite: bool, quiet: bool
) -> GridResult:
    from tllboost.grid import run_grid
    from tllboost.pairs import read_pairs
    from tllboost.vectorizers import DEFAULT_VECTORIZERS

    table = read_pairs(made.pairs, images=made.pairs.parent)
    with progress_bar(quiet=quiet) as progress:
        return run_grid(
            table,
            DEFAULT_VECTORIZERS,
            _MERGES,
            out=out,
            store=store,
            resume=not overwrite,
            overwrite=overwrite,
            settings={
                "pairs": str(made.pairs),
                "images": str(made.pairs.parent),
                "out": str(out),
            },
            progress=progress,
            message=message_to(quiet=quiet),
        )


def _is_without_cells(out: Path) -> bool:
    """Tell whether a folder has the tables of a run alone, as a checkout does."""
    return (out / "run.toml").exists() and not (out / "cells").exists()


def _show(result: GridResult) -> None:
    from tllboost.report.terminal import print_matrix

    print_matrix(result.rows, result.metric)
    for note in result.notes:
        typer.echo(note)


def _score_new_pairs(bundle: Path, made: DemoSet) -> None:
    """Score images that the grid never saw: a match and none."""
    from tllboost.bundle import load_bundle

    classifier = load_bundle(bundle)
    # numpy's types have no array of paths, and `PairClassifier` takes what numpy takes.
    pairs: Any = [[made.query, made.match], [made.query, made.other]]
    probability = classifier.predict_proba(pairs)[:, 1]
    called = classifier.predict(pairs)
    typer.echo(f"new images, scored by {bundle}:")
    for (left, right), chance, match in zip(pairs, probability, called, strict=True):
        decision = "match" if match else "no match"
        typer.echo(f"  {left.name}  {right.name}  {chance:.3f}  {decision}")


def _suggest(out: Path, made: DemoSet, say: Message) -> None:
    """Show the commands that do the same by hand."""
    folder, bundle = made.pairs.parent, out / "best.tllb"
    flags = " ".join(f"-m {name}" for name in _MERGES)
    say("the same by hand:")
    say(f"  tllboost grid {made.pairs} --images {folder} {flags} --out {out}")
    say(f"  tllboost score {bundle} {made.query} {made.match}")
    say(f"  tllboost rank {bundle} {made.query} --among {made.query.parent} --top 3")
