"""``tllboost score``: how likely two images match, by a bundle."""

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
from tllboost.files import csv_text

if TYPE_CHECKING:
    from tllboost.classifier import PairClassifier

__all__ = []

_COLUMNS = ("left", "right", "probability", "decision", "score")


def add_to(app: typer.Typer) -> None:
    """Give `app` the command ``score``."""
    app.command("score")(score)


def score(
    bundle: Bundle,
    left_image: Annotated[
        Path | None, typer.Argument(metavar="LEFT", help="The left image.")
    ] = None,
    right_image: Annotated[
        Path | None, typer.Argument(metavar="RIGHT", help="The right image.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="Pair table, to score all its rows instead."),
    ] = None,
    images: Images = None,
    left: Left = None,
    right: Right = None,
    as_json: Json = False,
    as_csv: Csv = False,
    with_reasons: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Of two images, also say which patches of them and which "
            "vectorizers carry the score.",
        ),
    ] = False,
    weights: Weights = None,
    store: Store = None,
    device: Device = "auto",
    offline: Offline = False,
    trust_code: TrustCode = False,
    anywhere: Anywhere = False,
    strict: Strict = False,
    quiet: Quiet = False,
) -> None:
    """Say how likely two images match, and whether the bundle calls them a match.

    The probability is that of a match among as many matches as non-matches. The
    threshold is a probability too: at and above it a pair is called a match. It was
    chosen on validation pairs, where it gave the best balanced accuracy, and is
    rarely 0.5. The score is what the head gave before calibration, of an ensemble the
    mean log-odds of its cells; it ranks pairs as the probability does.

    With --pairs the output has a row a pair: left, right, probability, decision,
    score. An image that can't be read makes the decision of its rows "error", is
    named on standard error, and the exit code is 4; with --strict nothing is written,
    and it is 3.

    **Examples**

        tllboost score best.tllb cat.jpg dog.jpg
        tllboost score best.tllb cat.jpg dog.jpg --json
        tllboost score best.tllb cat.jpg dog.jpg --explain
        tllboost score best.tllb --pairs new.csv --images images > scores.csv
        tllboost score best.tllb --pairs new.csv --left left --right right --json
        tllboost score best.tllb cat.jpg dog.jpg --weights resnet50.safetensors
    """
    _check_options(left_image, right_image, pairs, images or left or right)
    _check_format(as_json, as_csv)
    _check_reasons(with_reasons, pairs, as_csv)
    classifier = open_bundle(
        bundle,
        weights=weights,
        store=store,
        device=device,
        offline=offline,
        trust_code=trust_code,
    )
    if with_reasons:
        _explain_two(classifier, left_image, right_image, as_json, quiet)
        return
    if pairs is None:
        _score_two(classifier, left_image, right_image, as_json, as_csv)
        return
    from tllboost.bundle.scoring import pair_rows, read_pairs_to_score, score_pairs

    folders = {"images": images, "left": left, "right": right}
    table, written = read_pairs_to_score(pairs, **folders, anywhere=anywhere)
    with progress_bar(quiet=quiet) as progress:
        scores = score_pairs(
            classifier,
            table,
            table.left,
            table.right,
            progress=progress,
            strict=strict,
        )
    rows, failures = pair_rows(scores, written), scores.failures
    write_out(f"{json.dumps(rows, indent=1)}\n" if as_json else _as_csv(rows))
    raise typer.Exit(tell_failures(failures))


def _check_options(
    left_image: Path | None,
    right_image: Path | None,
    pairs: Path | None,
    folder: Path | None,
) -> None:
    from tllboost.errors import UsageError

    if pairs is None and (left_image is None or right_image is None):
        msg = "give two images, LEFT and RIGHT, or --pairs FILE"
        raise UsageError(msg)
    if pairs is not None and left_image is not None:
        msg = f"{str(left_image)!r} and --pairs {str(pairs)!r}: give one of the two"
        raise UsageError(msg)
    if pairs is None and folder is not None:
        msg = f"folder {str(folder)!r} goes with --pairs; two images need none"
        raise UsageError(msg)


def _check_format(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        from tllboost.errors import UsageError

        msg = "--json and --csv: give one of the two"
        raise UsageError(msg)


def _check_reasons(wanted: bool, pairs: Path | None, as_csv: bool) -> None:
    if wanted and (pairs is not None or as_csv):
        from tllboost.errors import UsageError

        other = "--csv" if pairs is None else f"--pairs {str(pairs)!r}"
        msg = f"--explain tells of two images, as text or --json: leave {other} out"
        raise UsageError(msg)


def _explain_two(
    classifier: PairClassifier, left: Any, right: Any, as_json: bool, quiet: bool
) -> None:
    """Print the short form of what ``tllboost explain`` shows on a page."""
    from tllboost.explain import explain, short_form

    with progress_bar(quiet=quiet) as progress:
        found = explain(classifier, left, right, progress=progress)
    write_out(f"{json.dumps(found.as_dict())}\n" if as_json else short_form(found))


def _score_two(
    classifier: PairClassifier, left: Any, right: Any, as_json: bool, as_csv: bool
) -> None:
    from tllboost.bundle.scoring import score_pair

    found = score_pair(classifier, left, right)
    if as_json:
        write_out(f"{json.dumps(found)}\n")
    elif as_csv:
        write_out(_as_csv([found]))
    else:
        typer.echo(f"probability  {found['probability']:.4f}")
        typer.echo(f"decision     {found['decision']}")
        typer.echo(f"threshold    {found['threshold']:.4f}")
        typer.echo(f"score        {found['score']:.6g}")


def _as_csv(rows: list[dict[str, Any]]) -> str:
    return csv_text(_COLUMNS, ([row[name] for name in _COLUMNS] for row in rows))
