"""``tllboost demo``: the whole path on images that are made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from tllboost.cli import options
from tllboost.cli.progress import message_to, progress_bar

if TYPE_CHECKING:
    from tllboost.demo import DemoSet

__all__ = ["COMMANDS"]

_MERGES = ("dot", "l1")


def demo(
    *,
    out: Annotated[
        Path, Option("--out", "-o", help="Results folder; images go to OUT-images.")
    ] = Path("results/demo"),
    scenes: Annotated[
        int, Option(min=60, max=360, help="How many scenes to make.")
    ] = 240,
    store: options.Store = None,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace another run's results in --out.")
    ] = False,
    quiet: options.Quiet = False,
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
    from tllboost.grid import run_grid
    from tllboost.pairs import read_pairs
    from tllboost.report import write_report
    from tllboost.report.terminal import print_matrix
    from tllboost.vectorizers import DEFAULT_VECTORIZERS

    say = message_to(quiet=quiet)
    made = make_demo_set(out.with_name(f"{out.name}-images"), n_scenes=scenes)
    images = made.pairs.parent
    say(f"{scenes} scenes, 3 views each: {images}")
    # A checkout has the tables of the demo alone: no cells to go on with.
    overwrite |= (out / "run.toml").exists() and not (out / "cells").exists()
    table = read_pairs(made.pairs, images=images)
    with progress_bar(quiet=quiet) as progress:
        result = run_grid(
            table,
            DEFAULT_VECTORIZERS,
            _MERGES,
            out=out,
            store=store,
            resume=not overwrite,
            overwrite=overwrite,
            settings={
                "pairs": str(made.pairs),
                "images": str(images),
                "out": str(out),
            },
            progress=progress,
            message=say,
        )
    print_matrix(result.rows, result.metric)
    for note in result.notes:
        typer.echo(note)
    with progress_bar(quiet=quiet) as progress:
        say(f"report: {write_report(out, progress=progress)}")
    if result.chosen is not None:
        bundle = out / "best.tllb"
        _score_new_pairs(bundle, made)
        flags = " ".join(f"-m {name}" for name in _MERGES)
        say("the same by hand:")
        say(f"  tllboost grid {made.pairs} --images {images} {flags} --out {out}")
        say(f"  tllboost score {bundle} {made.query} {made.match}")
        say(
            f"  tllboost rank {bundle} {made.query} --among {made.query.parent} --top 3"
        )
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _score_new_pairs(bundle: Path, made: DemoSet) -> None:
    """Score images that the grid never saw: a match and a non-match."""
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


COMMANDS = {"demo": demo}
