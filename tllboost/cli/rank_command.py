"""``tllboost rank``: rank images by their similarity to queries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument

from tllboost.cli import options
from tllboost.cli.options import option, refuse_given, refuse_if
from tllboost.cli.streams import message_to, progress_bar, tell_failures, write_out
from tllboost.errors import DataError, UsageError, printable

_HEADER = "rank  probability  decision  image\n"
_COLUMNS = (
    *("query", "rank", "candidate", "probability", "decision", "score", "prior"),
)
_LINE = "{rank:>4}  {probability:>11.4f}  {decision:<8}  {shown}\n"


@dataclass(frozen=True, kw_only=True)
class Search:
    """Which images are ranked, and how many of them are shown."""

    panel = ""
    among: Path | None = option(None, "Folder of images to rank, with its subfolders.")
    top: int = option(10, "Number of images to show for each query.", min=1)
    candidates: Path | None = option(
        None, "Candidate table: ids in the columns left, c0, c1, …"
    )
    out: Path | None = option(
        None, "With --candidates: file to write instead of standard output."
    )
    failures_out: options.FailuresOut = None
    strict: options.Strict = False
    quiet: options.Quiet = False


def rank(
    context: typer.Context,
    bundle: options.Bundle,
    query: Annotated[
        list[Path] | None,
        Argument(metavar="[QUERY]...", help="Images to look for, and folders of such."),
    ] = None,
    *,
    search: Search,
    shortlisting: options.Shortlist,
    folders: options.Folders,
    opening: options.Opening,
    rarity: options.Rarity,
    form: options.Form,
) -> None:
    r"""Rank images by their similarity to each query, the best first.

    A linear head scores every image of --among at once. Any other head scores a
    shortlist: the --shortlist images nearest to the query by the cosine of their
    vectors. With --exact every head scores all images.

    By default probabilities are for one match among the images, a prior of 1/n;
    --prior changes that. A pair is called a match from 0.5 on, or from --threshold.

    The query, or each query of a folder, is compared with all images of --among but
    itself. The output has a row for each query and candidate.

    With --candidates each row of the table holds a query and its candidates. The
    output is a submission for the challenge: left, c0, c1, … with the score of each
    candidate in its place. A higher score is a likelier match. Queries are looked up
    in --left and candidates in --right, or all in --images.

    An image that can't be read is left out, and standard error names it (its score
    in a submission is empty). The exit code is then 4. With --strict nothing is
    written, and the exit code is 3.

    **Examples**

        tllboost rank best.tllb cat.jpg --among images
        tllboost rank best.tllb cat.jpg --among images --top 3 --json
        tllboost rank best.tllb cat.jpg --among images --exact
        tllboost rank best.tllb photos --among catalogue --top 4 --csv
        tllboost rank best.tllb cat.jpg --among images --prior 0.001
        tllboost rank best.tllb --candidates candidates.csv \
            --left left --right right --out submission.csv
    """
    among, candidates = search.among, search.candidates
    if candidates is None:
        if not query or among is None:
            msg = "give QUERY and --among DIR, or --candidates FILE"
            raise UsageError(msg)
        folders.refuse("has an effect only with --candidates", out=search.out)
        most = shortlisting.most(context, 2000, search.top)
        from tllboost.calibration import one_match_of
        from tllboost.images import find_images
        from tllboost.rank import rank_images

        classifier = opening.open(bundle, quiet=search.quiet)
        say = message_to(quiet=search.quiet)
        queries = [
            found
            for one in query
            for found in (find_images(one, tell=say) if one.is_dir() else [one])
        ]
        images = find_images(among, tell=say)
        own = {one: one.resolve() for one in (*queries, *images)}
        is_among = not {own[one] for one in queries}.isdisjoint(own[o] for o in images)
        n_others = len(images) - is_among
        if n_others < 1 or not queries:
            where = f"{str(among)!r} other than the query" if queries else f"{query[0]}"
            msg = f"no images in {where}"
            raise DataError(msg)
        classifier = rarity.of(classifier, one_match_of(n_others))
        # One more of each is asked for, where it may be itself.
        with progress_bar(quiet=search.quiet) as progress:
            ranked, failures = rank_images(
                classifier,
                queries,
                images,
                top=search.top + is_among,
                shortlist=most and most + is_among,
                own_references=shortlisting.own_references,
                progress=progress,
                strict=search.strict,
            )
        least, prior = classifier.threshold_, classifier.calibration_.prior
        if rarity.prior is None:
            say(f"prior {prior:.4g}: one match in {n_others} images; see --prior")
        rows, text = [], ""
        for asked, hits in zip(queries, ranked, strict=True):
            other = [hit for hit in hits if own[images[hit.row]] != own[asked]]
            some = []
            for rank, hit in enumerate(other[: search.top], start=1):
                decision = "match" if hit.score >= least else "no match"
                told = hit.probability, decision, hit.score, prior
                values = (str(asked), rank, hit.id, *told)
                some.append(dict(zip(_COLUMNS, values, strict=True)))
            title = f"{printable(asked)}\n" if len(queries) > 1 else ""
            lines = (_LINE.format(**r, shown=printable(r["candidate"])) for r in some)
            text += "".join([title, _HEADER, *lines])
            rows += some
        form.write(rows, _COLUMNS, text)
    else:
        refuse_if(
            query or among,
            f"{str(query[0] if query else among)!r} and --candidates "
            f"{str(candidates)!r}: give one of the two",
        )
        why = "has no effect with --candidates: a submission has all scores"
        refuse_given(context, why, "top", *vars(shortlisting), *vars(rarity))
        refuse_if(
            form.as_json,
            "--candidates writes a submission, which is CSV: leave out --json",
        )
        from tllboost.files import csv_text, write_text
        from tllboost.pairs import read_candidates
        from tllboost.scoring import score_candidates

        classifier = opening.open(bundle, quiet=search.quiet)
        table = read_candidates(candidates, **vars(folders))
        with progress_bar(quiet=search.quiet) as progress:
            (header, *scored), failures = score_candidates(
                classifier, table, progress=progress, strict=search.strict
            )
        text = csv_text(header, scored)
        if search.out is None:
            write_out(text)
        else:
            write_text(search.out, text)
    raise typer.Exit(tell_failures(failures, search.failures_out))
