"""``tllboost explain``: why two images score as they do, on a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tllboost.cli.options import (
    Bundle,
    Device,
    Json,
    Offline,
    Quiet,
    Store,
    TrustCode,
    Weights,
    open_bundle,
    write_out,
)
from tllboost.cli.progress import message_to, progress_bar

__all__ = []


def add_to(app: typer.Typer) -> None:
    """Give `app` the command ``explain``."""
    app.command("explain")(explain)


def explain(
    bundle: Bundle,
    left_image: Annotated[Path, typer.Argument(metavar="LEFT", help="The left image.")],
    right_image: Annotated[
        Path, typer.Argument(metavar="RIGHT", help="The right image.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Where to write the page.")] = Path(
        "pair.html"
    ),
    grid: Annotated[
        int,
        typer.Option(
            "--grid",
            min=2,
            max=32,
            help="Patches a side that each image is cut into.",
        ),
    ] = 8,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            help="Folder of the grid that the bundle comes from, for the nearest "
            "training matches; by default the bundle's own folder, as far as its "
            "vectors are in the store.",
        ),
    ] = None,
    as_json: Json = False,
    weights: Weights = None,
    store: Store = None,
    device: Device = "auto",
    offline: Offline = False,
    trust_code: TrustCode = False,
    quiet: Quiet = False,
) -> None:
    """Show which parts of two images carry their score, and what else does.

    Each image is cut into patches; each patch in turn is blurred, and the pair is
    scored anew. What changes is drawn over the images, on a page that opens from
    disk and asks no network. It also shows how much each vectorizer of a fusion adds,
    what each member of an ensemble says, and which matches that the bundle was
    trained on are most like these two images.

    The most telling of it is printed too; with --json all of it.

    **Examples**

        tllboost explain best.tllb cat.jpg dog.jpg
        tllboost explain best.tllb cat.jpg dog.jpg --out pair.html --grid 12
        tllboost explain copy.tllb cat.jpg dog.jpg --run results/mine
        tllboost explain best.tllb cat.jpg dog.jpg --json > pair.json
    """
    classifier = open_bundle(
        bundle,
        weights=weights,
        store=store,
        device=device,
        offline=offline,
        trust_code=trust_code,
    )
    from tllboost.explain import explain as explain_pair
    from tllboost.explain import run_beside, short_form, write_page

    with progress_bar(quiet=quiet) as progress:
        found = explain_pair(
            classifier,
            left_image,
            right_image,
            grid=grid,
            run=run_beside(bundle) if run is None else run,
            vectorize_run=run is not None,
            progress=progress,
        )
    page = write_page(found, out, bundle=bundle)
    write_out(f"{json.dumps(found.as_dict())}\n" if as_json else short_form(found))
    message_to(quiet=quiet)(f"page: {page}")
