"""``tllboost rank``: order images by how much they look like a query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from tllboost.cli.options import (
    Bundle,
    Csv,
    Folders,
    Json,
    Opening,
    Quiet,
    Strict,
    refuse_if,
)
from tllboost.cli.progress import progress_bar
from tllboost.cli.streams import tell_failures, write_csv, write_json, write_out
from tllboost.errors import printable

if TYPE_CHECKING:
    from tllboost.classifier import PairClassifier

__all__ = ["COMMANDS"]


def rank(
    bundle: Bundle,
    query: Annotated[
        Path | None, Argument(metavar="QUERY", help="The image to look for.")
    ] = None,
    *,
    among: Annotated[Path | None, Option(help="Folder of images to rank.")] = None,
    top: Annotated[int, Option(min=1, help="How many of the best to show.")] = 10,
    shortlist: Annotated[
        int,
        Option(
            min=1,
            help="How many images of --among a head that is not linear scores: those "
            "nearest to the query by cosine.",
        ),
    ] = 2000,
    exact: Annotated[
        bool, Option("--exact", help="Score all of --among, whatever the head.")
    ] = False,
    candidates: Annotated[
        Path | None, Option(help="Candidate table: columns left, c0, c1, … of ids.")
    ] = None,
    folders: Folders,
    out: Annotated[
        Path | None,
        Option(help="With --candidates: file to write instead of standard output."),
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    opening: Opening,
    strict: Strict = False,
    quiet: Quiet = False,
) -> None:
    r"""Order images by how much they look like a query, the best first.

    A linear head scores every image of --among at once. Any other head scores a
    shortlist: the --shortlist images nearest to the query by the cosine of their
    vectors. With --exact every head scores all images.

    With --candidates each row of the table holds a query and its candidates. The
    output has the form of the challenge's submission: left, c0, c1, … with the score
    of each candidate in its place, larger for a likelier match. Queries are looked up
    in --left and candidates in --right, or all in --images.

    An image that can't be read is named on standard error and left out (its score
    in a submission is empty); the exit code is then 4. With --strict nothing is
    written, and the exit code is 3.

    **Examples**

        tllboost rank best.tllb cat.jpg --among images
        tllboost rank best.tllb cat.jpg --among images --top 3 --json
        tllboost rank best.tllb cat.jpg --among images --exact
        tllboost rank best.tllb --candidates candidates.csv \
            --left left --right right --out submission.csv
    """
    refuse_if(as_json and as_csv, "--json and --csv: give one of the two")
    if candidates is None:
        refuse_if(
            query is None or among is None,
            "give QUERY and --among DIR, or --candidates FILE",
        )
        for name, value in (vars(folders) | {"out": out}).items():
            refuse_if(
                value, f"--{name} {str(value)!r} goes with --candidates, not with QUERY"
            )
        rows, failures = _rank(
            opening.open(bundle),
            query,
            among,
            shortlist=None if exact else max(shortlist, top),
            quiet=quiet,
            strict=strict,
        )
        _write(rows[:top], as_json, as_csv)
    else:
        refuse_if(
            query or among,
            f"{str(query or among)!r} and --candidates {str(candidates)!r}: give one "
            "of the two",
        )
        refuse_if(
            as_json, "--candidates writes a submission, which is CSV: leave --json out"
        )
        from tllboost.bundle.scoring import score_candidates
        from tllboost.files import csv_text, write_text
        from tllboost.pairs.candidates import read_candidates

        classifier = opening.open(bundle)
        table = read_candidates(candidates, **vars(folders))
        with progress_bar(quiet=quiet) as progress:
            (header, *scored), failures = score_candidates(
                classifier, table, progress=progress, strict=strict
            )
        text = csv_text(header, scored)
        if out is None:
            write_out(text)
        else:
            write_text(out, text)
    raise typer.Exit(tell_failures(failures))


def _rank(
    classifier: PairClassifier,
    query: Any,
    among: Any,
    *,
    shortlist: int | None,
    quiet: bool,
    strict: bool,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    from tllboost.errors import DataError
    from tllboost.images import find_images
    from tllboost.rank import rank_images

    own = query.resolve()
    images = [one for one in find_images(among) if one.resolve() != own]
    if not images:
        msg = f"no images in {str(among)!r}, the query itself aside"
        raise DataError(msg)
    with progress_bar(quiet=quiet) as progress:
        hits, failures = rank_images(
            classifier,
            query,
            images,
            shortlist=shortlist,
            progress=progress,
            strict=strict,
        )
    rows = [
        {
            "rank": rank,
            "image": hit.id,
            "probability": hit.probability,
            "decision": "match" if hit.score >= classifier.threshold_ else "no match",
            "score": hit.score,
        }
        for rank, hit in enumerate(hits, start=1)
    ]
    return rows, failures


def _write(rows: list[dict[str, Any]], as_json: bool, as_csv: bool) -> None:
    if as_json:
        write_json(rows)
    elif as_csv:
        write_csv(("rank", "image", "probability", "decision", "score"), rows)
    else:
        typer.echo("rank  probability  decision  image")
        for row in rows:
            typer.echo(
                f"{row['rank']:>4}  {row['probability']:>11.4f}  {row['decision']:<8}  "
                f"{printable(row['image'])}"
            )


COMMANDS = {"rank": rank}
