"""``tllboost explain``: why two images score as they do, on a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from tllboost.cli import options
from tllboost.cli.streams import message_to, progress_bar, write_json, write_out


def explain(
    bundle: options.Bundle,
    left_image: Annotated[Path, options.LEFT],
    right_image: Annotated[Path, options.RIGHT],
    *,
    out: Annotated[Path, Option(help="Page to write.")] = Path("pair.html"),
    grid: Annotated[
        int,
        Option(min=2, max=32, help="Number of patches along each side of an image."),
    ] = 8,
    as_json: options.Json = False,
    opening: options.Opening,
    rarity: options.Rarity,
    quiet: options.Quiet = False,
) -> None:
    """Show which parts of two images their score depends on.

    Each image is cut into patches. One patch after the other is blurred, and the pair
    is scored again. A page shows the changes over the images; it opens from disk and
    makes no network request. It also shows how much each vectorizer of a fusion adds,
    and the score of each member of an ensemble.

    The largest changes are printed too; --json prints all. Probability and log-odds
    depend on the share of pairs that match: --prior sets it, and by default it is the
    share among the validation pairs (0.5 if non-matches were drawn).

    **Examples**

        tllboost explain best.tllb cat.jpg dog.jpg
        tllboost explain best.tllb cat.jpg dog.jpg --out pair.html --grid 12
        tllboost explain best.tllb cat.jpg dog.jpg --prior 1/20
        tllboost explain best.tllb cat.jpg dog.jpg --json > pair.json
    """
    classifier = rarity.of(opening.open(bundle, quiet=quiet))
    from tllboost.explain import explain as explain_pair
    from tllboost.explain import short_form, write_page

    with progress_bar(quiet=quiet) as progress:
        found = explain_pair(
            classifier, left_image, right_image, grid=grid, progress=progress
        )
    page = write_page(found, out, bundle=bundle)
    if as_json:
        write_json(found.as_dict())
    else:
        write_out(short_form(found))
    message_to(quiet=quiet)(f"page: {page}")
