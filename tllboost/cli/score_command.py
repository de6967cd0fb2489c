"""``tllboost score``: how likely two images match, by a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from tllboost.cli.options import (
    LEFT,
    RIGHT,
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

if TYPE_CHECKING:
    from tllboost.classifier import PairClassifier

__all__ = ["COMMANDS"]

_COLUMNS = ("left", "right", "probability", "decision", "score")


def score(
    bundle: Bundle,
    left_image: Annotated[Path | None, LEFT] = None,
    right_image: Annotated[Path | None, RIGHT] = None,
    *,
    pairs: Annotated[
        Path | None, Option(help="Pair table: score all its rows, not two images.")
    ] = None,
    folders: Folders,
    as_json: Json = False,
    as_csv: Csv = False,
    with_reasons: Annotated[
        bool,
        Option(
            "--explain",
            help="For two images: also say which of their patches and which "
            "vectorizers carry the score.",
        ),
    ] = False,
    opening: Opening,
    strict: Strict = False,
    quiet: Quiet = False,
) -> None:
    """Say how likely two images match, and whether the bundle calls them a match.

    The probability holds where matches are as frequent as non-matches. The threshold
    is a probability too: at and above it a pair is called a match. It is the one with
    the best balanced accuracy on the validation pairs, and rarely 0.5. The score is
    the output of the head before calibration (for an ensemble: the mean log-odds of
    its cells); it ranks pairs as the probability does.

    With --pairs the output has one row for each pair: left, right, probability,
    decision, score. Where an image can't be read, the decision is "error", the image
    is named on standard error, and the exit code is 4; with --strict nothing is
    written, and the exit code is 3.

    **Examples**

        tllboost score best.tllb cat.jpg dog.jpg
        tllboost score best.tllb cat.jpg dog.jpg --json
        tllboost score best.tllb cat.jpg dog.jpg --explain
        tllboost score best.tllb --pairs new.csv --images images > scores.csv
        tllboost score best.tllb --pairs new.csv --left left --right right --json
        tllboost score best.tllb cat.jpg dog.jpg --weights resnet50.safetensors
    """
    refuse_if(as_json and as_csv, "--json and --csv: give one of the two")
    if pairs is None:
        refuse_if(
            left_image is None or right_image is None,
            "give two images, LEFT and RIGHT, or --pairs FILE",
        )
        for name, value in vars(folders).items():
            refuse_if(
                value,
                f"--{name} {str(value)!r} goes with --pairs; two images need none",
            )
        refuse_if(
            with_reasons and as_csv,
            "--explain tells of two images, as text or --json: leave --csv out",
        )
        classifier = opening.open(bundle)
        if with_reasons:
            _explain_two(classifier, left_image, right_image, as_json, quiet)
        else:
            _score_two(classifier, left_image, right_image, as_json, as_csv)
        return
    refuse_if(
        left_image,
        f"{str(left_image)!r} and --pairs {str(pairs)!r}: give one of the two",
    )
    refuse_if(
        with_reasons,
        f"--explain tells of two images: leave --pairs {str(pairs)!r} out",
    )
    from tllboost.bundle.scoring import pair_rows, read_pairs_to_score, score_pairs

    classifier = opening.open(bundle)
    table, written = read_pairs_to_score(pairs, **vars(folders))
    with progress_bar(quiet=quiet) as progress:
        scores = score_pairs(
            classifier,
            table,
            table.left,
            table.right,
            progress=progress,
            strict=strict,
        )
    rows = pair_rows(scores, written)
    if as_json:
        write_json(rows)
    else:
        write_csv(_COLUMNS, rows)
    raise typer.Exit(tell_failures(scores.failures))


def _explain_two(
    classifier: PairClassifier, left: Any, right: Any, as_json: bool, quiet: bool
) -> None:
    """Print the short form of what ``tllboost explain`` shows on a page."""
    from tllboost.explain import explain, short_form

    with progress_bar(quiet=quiet) as progress:
        found = explain(classifier, left, right, progress=progress)
    if as_json:
        write_json(found.as_dict())
    else:
        write_out(short_form(found))


def _score_two(
    classifier: PairClassifier, left: Any, right: Any, as_json: bool, as_csv: bool
) -> None:
    from tllboost.bundle.scoring import score_pair

    found = score_pair(classifier, left, right)
    if as_json:
        write_json(found)
    elif as_csv:
        write_csv(_COLUMNS, [found])
    else:
        typer.echo(f"probability  {found['probability']:.4f}")
        typer.echo(f"decision     {found['decision']}")
        typer.echo(f"threshold    {found['threshold']:.4f}")
        typer.echo(f"score        {found['score']:.6g}")


COMMANDS = {"score": score}
