"""``tllboost demo``: the whole path on images that are made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from tllboost.cli import options
from tllboost.cli.grid_command import Call, GridOptions, run
from tllboost.cli.streams import message_to


def demo(
    *,
    out: Annotated[
        Path, Option("--out", "-o", help="Results folder; images go to OUT-images.")
    ] = Path("results/demo"),
    scenes: Annotated[
        int, Option(min=60, max=360, help="Number of scenes to make.")
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

    say = message_to(quiet=quiet)
    made = make_demo_set(out.with_name(f"{out.name}-images"), n_scenes=scenes)
    images, bundle = made.pairs.parent, out / "best.tllb"
    say(f"{scenes} scenes, 3 views each: {images}")
    # A checkout has the tables of the demo alone: no cells to go on with.
    overwrite |= (out / "run.toml").exists() and not (out / "cells").exists()
    asked = GridOptions(
        pairs=made.pairs, images=images, merge=["dot", "l1"], out=out, store=store
    )
    call = Call(resume=not overwrite, overwrite=overwrite, quiet=quiet)
    code = run(asked, {}, call)
    if bundle.exists():
        from tllboost.bundle import read_scorer
        from tllboost.scoring import score_pair

        scorer = read_scorer(bundle)
        typer.echo(f"new images, scored by {bundle}:")
        for other in (made.match, made.other):  # images that the grid never saw
            told = score_pair(scorer, str(made.query), str(other))
            names = f"{made.query.name}  {other.name}"
            typer.echo(f"  {names}  {told['probability']:.3f}  {told['decision']}")
        say("the same by hand:")
        say(f"  tllboost grid {made.pairs} --images {images} -m dot -m l1 --out {out}")
        say(f"  tllboost score {bundle} {made.query} {made.match}")
        among = f"--among {made.query.parent} --top 3"
        say(f"  tllboost rank {bundle} {made.query} {among}")
    raise typer.Exit(code)
