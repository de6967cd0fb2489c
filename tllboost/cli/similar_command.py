"""``tllboost similar``: all images that look alike, in a folder or between two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument

from tllboost.cli import options
from tllboost.cli.options import option, refuse_given
from tllboost.cli.streams import message_to, progress_bar, tell_failures
from tllboost.errors import printable

_MOST_LINES = 20


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which pairs are looked for, and what is written of them."""

    panel = ""
    against: Path | None = option(
        None, "Folder in which to look for images like those of FOLDER."
    )
    vectorizer: str | None = option(
        None, "Vectorizer [classic+pocket].", "--vectorizer", "-v", names="vectorizers"
    )
    bundle: Path | None = option(
        None, "Bundle (.tllb) whose probability takes the place of the cosine."
    )
    normalised: bool = option(
        False,
        "Score by how many standard deviations the cosine is above those of unrelated "
        "images: better for look-alikes, no better for copies.",
    )
    least: float | None = option(
        None,
        "Lowest score, with --bundle lowest probability [what 1 in 10,000 pairs of "
        "unrelated images reaches; the bundle's threshold; with --top no limit].",
        "--min",
    )
    top: int | None = option(
        None, "Number of best pairs of each image [all from --min on].", min=1
    )
    out: Path | None = option(None, "CSV file to write all pairs to.")
    groups_out: Path | None = option(
        None, "CSV file to write groups of images that look alike to."
    )
    linkage: Literal["complete", "single"] = option(
        "complete",
        "Which images are a group: complete (all are pairs) or single (a chain of "
        "pairs is enough).",
    )
    html: Path | None = option(None, "Page to show the groups on.")
    failures_out: options.FailuresOut = None
    strict: options.Strict = False
    quiet: options.Quiet = False


def similar(
    context: typer.Context,
    folder: Annotated[Path, Argument(help="Folder of images, with its subfolders.")],
    *,
    wanted: Wanted,
    shortlisting: options.Shortlist,
    opening: options.Opening,
    rarity: options.Rarity,
    workers: options.Workers,
    form: options.Form,
) -> None:
    """Find all images that look alike: in a folder, or of one folder in another.

    No labels are needed. The score of two images is the cosine of their vectors; with
    --bundle it is the score of what a grid fitted, and --min is a probability, which
    depends on the share of pairs that match: --prior. All pairs are compared: no
    approximate index is used. A head that is not linear scores a shortlist for each
    image, and the command tells how good the shortlist is. With --out a command that
    was stopped goes on where it was.

    The output has the columns left, right, score, cosine, normalised, probability and
    same_bytes (1 if the two files are equal, byte by byte). In one folder such copies
    are told whatever their score, and the first one stands for all of them.
    --groups-out and --html show groups in which all images look alike.

    An image that can't be read is left out, and standard error names it. The exit code
    is then 4. With --strict nothing is written, and the exit code is 3.

    **Examples**

        tllboost similar archive
        tllboost similar archive --out similar.csv --groups-out groups.csv
        tllboost similar archive --html groups.html
        tllboost similar photos --against catalogue --top 4 --csv
        tllboost similar archive -v timm:resnet50 --min 0.9
        tllboost similar archive --bundle best.tllb --prior 1/1000
        tllboost similar archive --top 10 --normalised --json
    """
    if wanted.bundle is None:
        why = "has an effect only with --bundle"
        scoring = (*vars(shortlisting), *vars(rarity))
        refuse_given(context, why, *scoring, "weights", "trust_code")
    else:
        refuse_given(context, "has no effect with --bundle", "vectorizer", "normalised")
    if wanted.least is not None or wanted.top is not None:
        refuse_given(context, "has no effect with --min or --top", "threshold")
    grouped = bool(wanted.groups_out or wanted.html)
    if not grouped:
        why = "has an effect only with --groups-out or --html"
        refuse_given(context, why, "linkage")
    from tllboost.similar import COLUMNS, DEFAULT, find_similar
    from tllboost.store import VectorStore

    say = message_to(quiet=wanted.quiet)
    scorer = None
    if wanted.bundle is not None:
        scorer = rarity.of(opening.open(wanted.bundle, quiet=wanted.quiet))
    (vectorizer,) = opening.make([wanted.vectorizer or DEFAULT])
    try:
        with workers.open() as backend, progress_bar(quiet=wanted.quiet) as progress:
            found = find_similar(
                folder,
                wanted.against,
                vectorizer=vectorizer,
                scorer=scorer,
                normalised=wanted.normalised,
                top=wanted.top,
                least=wanted.least,
                shortlist=shortlisting.most(context, 100, wanted.top),
                own_references=shortlisting.own_references,
                store=VectorStore(opening.store),
                backend=backend,
                resume=wanted.out,
                progress=progress,
                tell=say,
                strict=wanted.strict,
            )
            groups = found.groups(chained=wanted.linkage == "single") if grouped else []
            if wanted.html is not None:
                found.write_page(wanted.html, groups, progress=progress)
    except KeyboardInterrupt:
        if wanted.out is not None:
            say("interrupted: the same command goes on where it was")
        raise typer.Exit(130) from None
    from tllboost.files import csv_text, write_text

    rows = [*found.rows()]
    if wanted.out is not None:
        write_text(wanted.out, csv_text(COLUMNS, ([*one.values()] for one in rows)))
    if wanted.groups_out is not None:
        named = (
            (number, found.names[image], score)
            for number, group in enumerate(groups, start=1)
            for image, score in group
        )
        write_text(wanted.groups_out, csv_text(("group", "image", "score"), named))
    if wanted.least is None and wanted.top is None:
        say(f"pairs with a score of {found.least:.4g} or more; see --min")
    figure = "score" if wanted.bundle is None else "probability"
    lines = [f"{figure:>11}  left  right"] + [
        f"{row[figure]:>11.4f}  {printable(row['left'])}  {printable(row['right'])}"
        for row in rows[:_MOST_LINES]
    ]
    if len(rows) > _MOST_LINES:
        lines.append(f"and {len(rows) - _MOST_LINES} more: --out and --csv give all")
    told = f", {len(groups)} groups" if grouped else ""
    lines.append(f"{len(rows)} pairs of {len(found.names)} images{told}\n")
    form.write(rows, COLUMNS, "\n".join(lines))
    code = tell_failures(found.failures, wanted.failures_out)
    raise typer.Exit(3 if len(found.failures) == len(found.names) else code)
