"""``tllboost rank``: order images by how much they look like a query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tllboost.cli.options import (
    Anywhere,
    Bundle,
    Csv,
    Device,
    Images,
    Json,
    Left,
    Offline,
    Quiet,
    Right,
    Store,
    Strict,
    TrustCode,
    Weights,
    open_bundle,
    tell_failures,
    write_out,
)
from tllboost.cli.progress import progress_bar
from tllboost.errors import printable
from tllboost.files import csv_text

if TYPE_CHECKING:
    from tllboost.classifier import PairClassifier
    from tllboost.pairs.candidates import CandidateTable

__all__ = []

_COLUMNS = ("rank", "image", "probability", "decision", "score")


def add_to(app: typer.Typer) -> None:
    """Give `app` the command ``rank``."""
    app.command("rank")(rank)


def rank(
    bundle: Bundle,
    query: Annotated[
        Path | None, typer.Argument(metavar="QUERY", help="The image to look for.")
    ] = None,
    among: Annotated[
        Path | None, typer.Option("--among", help="Folder of images to rank.")
    ] = None,
    top: Annotated[
        int, typer.Option("--top", min=1, help="How many of the best to show.")
    ] = 10,
    shortlist: Annotated[
        int,
        typer.Option(
            "--shortlist",
            min=1,
            help="How many images of --among a head that is not linear scores, the "
            "best by cosine.",
        ),
    ] = 2000,
    exact: Annotated[
        bool, typer.Option("--exact", help="Score all of --among, whatever the head.")
    ] = False,
    candidates: Annotated[
        Path | None,
        typer.Option(
            "--candidates", help="Candidate table: columns left, c0, c1, … of ids."
        ),
    ] = None,
    images: Images = None,
    left: Left = None,
    right: Right = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="With --candidates, write here, not to standard output."
        ),
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    weights: Weights = None,
    store: Store = None,
    device: Device = "auto",
    offline: Offline = False,
    trust_code: TrustCode = False,
    anywhere: Anywhere = False,
    strict: Strict = False,
    quiet: Quiet = False,
) -> None:
    r"""Order images by how much they look like a query, the best first.

    A linear head scores every image of --among at once. Any other scores those
    that stand on a shortlist, which the cosine of the vectors makes, unless --exact
    is given; up to --shortlist images all are scored in any case.

    With --candidates every row of a table is a query and its candidates, and the
    output has the form of the challenge's submission: left, c0, c1, … with a score in
    the place of each candidate, larger for a likelier match. The queries are looked up
    in --left and the candidates in --right, or all in --images.

    An image that can't be read is named on standard error and left out (its score
    in a submission is empty); the exit code is then 4. With --strict nothing is
    written, and it is 3.

    **Examples**

        tllboost rank best.tllb cat.jpg --among images
        tllboost rank best.tllb cat.jpg --among images --top 3 --json
        tllboost rank best.tllb cat.jpg --among images --exact
        tllboost rank best.tllb --candidates candidates.csv \
            --left left --right right --out submission.csv
    """
    given = {"--images": images, "--left": left, "--right": right, "--out": out}
    _check_options(query, among, candidates, given, as_json, as_csv)
    classifier = open_bundle(
        bundle,
        weights=weights,
        store=store,
        device=device,
        offline=offline,
        trust_code=trust_code,
    )
    if candidates is not None:
        from tllboost.pairs.candidates import read_candidates

        folders = {"images": images, "left": left, "right": right}
        table = read_candidates(candidates, **folders, anywhere=anywhere)
        text, failures = _submission(classifier, table, quiet, strict)
        if out is None:
            write_out(text)
        else:
            _write(out, text)
    else:
        most = None if exact else max(shortlist, top)
        rows, failures = _rank(classifier, query, among, most, quiet, strict)
        write_out(_shown(rows[:top], as_json, as_csv))
    raise typer.Exit(tell_failures(failures))


def _check_options(
    query: Path | None,
    among: Path | None,
    candidates: Path | None,
    given: dict[str, Path | None],
    as_json: bool,
    as_csv: bool,
) -> None:
    from tllboost.errors import UsageError

    if as_json and as_csv:
        msg = "--json and --csv: give one of the two"
        raise UsageError(msg)
    if candidates is None:
        if query is None or among is None:
            msg = "give QUERY and --among DIR, or --candidates FILE"
            raise UsageError(msg)
        for option, value in given.items():
            if value is not None:
                msg = f"{option} {str(value)!r} goes with --candidates, not with QUERY"
                raise UsageError(msg)
    elif query is not None or among is not None:
        other = query if query is not None else among
        msg = (
            f"{str(other)!r} and --candidates {str(candidates)!r}: give one of the two"
        )
        raise UsageError(msg)
    elif as_json:
        msg = "--candidates writes a submission, which is CSV: leave --json out"
        raise UsageError(msg)


def _submission(
    classifier: PairClassifier,
    table: CandidateTable,
    quiet: bool,
    strict: bool,
) -> tuple[str, dict[str, str]]:
    from tllboost.bundle.scoring import score_candidates

    with progress_bar(quiet=quiet) as progress:
        rows, failures = score_candidates(
            classifier, table, progress=progress, strict=strict
        )
    return csv_text(rows[0], rows[1:]), failures


def _rank(
    classifier: PairClassifier,
    query: Any,
    among: Any,
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


def _shown(rows: list[dict[str, Any]], as_json: bool, as_csv: bool) -> str:
    if as_json:
        return f"{json.dumps(rows, indent=1)}\n"
    if as_csv:
        return csv_text(_COLUMNS, ([row[name] for name in _COLUMNS] for row in rows))
    lines = ["rank  probability  decision  image"]
    lines += [
        f"{row['rank']:>4}  {row['probability']:>11.4f}  {row['decision']:<8}  "
        f"{printable(row['image'])}"
        for row in rows
    ]
    return "".join(f"{line}\n" for line in lines)


def _write(out: Path, text: str) -> None:
    from tllboost.errors import DataError
    from tllboost.files import write_text

    try:
        write_text(out, text)
    except OSError as error:
        msg = f"can't write {str(out)!r} ({error.strerror or error})"
        raise DataError(msg) from error
