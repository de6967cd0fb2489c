"""``tllboost score``: how likely two images match, by a bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from tllboost.cli import options
from tllboost.cli.options import option, refuse_if
from tllboost.cli.streams import progress_bar, tell_failures

_COLUMNS = ("left", "right", "probability", "decision", "score", "prior")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What is scored, beside two images, and what is told of it."""

    panel = ""
    pairs: Path | None = option(None, "Pair table: score all its rows.")
    with_reasons: bool = option(
        False,
        "For two images: also say on which patches and vectorizers the score depends "
        "most.",
        "--explain",
    )
    strict: options.Strict = False
    quiet: options.Quiet = False


def score(
    bundle: options.Bundle,
    left_image: Annotated[Path | None, options.LEFT] = None,
    right_image: Annotated[Path | None, options.RIGHT] = None,
    *,
    scored: Scored,
    folders: options.Folders,
    opening: options.Opening,
    rarity: options.Rarity,
    form: options.Form,
) -> None:
    """Say how likely it is that two images match, and decide whether they do.

    A probability depends on the share of pairs that match, the prior. --prior sets
    it; by default it is the share among the validation pairs, which is 0.5 if
    non-matches were drawn.

    A pair is called a match if its probability reaches the threshold. --threshold sets
    it, and with --prior it is 0.5. By default it is the threshold with the best
    balanced accuracy on the validation pairs. The score is what the head returns
    before calibration (for an ensemble: the mean log-odds of its cells). Scores and
    probabilities rank pairs in the same order.

    With --pairs the output has one row for each pair: left, right, probability,
    decision, score, prior. If an image can't be read, the decision is "error", standard
    error names the image, and the exit code is 4. With --strict nothing is written,
    and the exit code is 3.

    **Examples**

        tllboost score best.tllb cat.jpg dog.jpg
        tllboost score best.tllb cat.jpg dog.jpg --json
        tllboost score best.tllb cat.jpg dog.jpg --prior 1/20
        tllboost score best.tllb cat.jpg dog.jpg --explain
        tllboost score best.tllb --pairs new.csv --images images > scores.csv
        tllboost score best.tllb --pairs new.csv --left left --right right --json
        tllboost score best.tllb cat.jpg dog.jpg --weights resnet50.safetensors
    """
    pairs, with_reasons = scored.pairs, scored.with_reasons
    refuse_if(
        pairs is None and (left_image is None or right_image is None),
        "give two images, LEFT and RIGHT, or --pairs FILE",
    )
    refuse_if(
        pairs and left_image,
        f"{str(left_image)!r} and --pairs {str(pairs)!r}: give one of the two",
    )
    refuse_if(
        with_reasons and (pairs or form.as_csv),
        "--explain is for two images, as text or --json: leave out --pairs and --csv",
    )
    if pairs is None:
        folders.refuse("has an effect only with --pairs", strict=scored.strict)
    classifier = rarity.of(opening.open(bundle, quiet=scored.quiet))
    if pairs is not None:
        from tllboost.pairs import read_pairs
        from tllboost.pairs.tables import read_table

        # A pair may stand twice, and an image may be paired with itself.
        table = read_pairs(pairs, allow_repeats=True, **vars(folders))
        written = read_table(pairs, required=("left", "right")).rows()
        sides, strict = (table.left, table.right), scored.strict
        with progress_bar(quiet=scored.quiet) as progress:
            scores = classifier.score_table(
                table, *sides, progress=progress, strict=strict
            )
        form = form if form.as_json else replace(form, as_csv=True)
        form.write(scores.rows(written), _COLUMNS, "")
        raise typer.Exit(tell_failures(scores.failures))
    if with_reasons:
        from tllboost.explain import explain, short_form

        two: Any = (left_image, right_image)
        with progress_bar(quiet=scored.quiet) as progress:
            found = explain(classifier, *two, progress=progress)
        value, text = found.as_dict(), short_form(found)
    else:
        from tllboost.scoring import SHORT_FORM, score_pair

        value = score_pair(classifier, str(left_image), str(right_image))
        text = SHORT_FORM.format(**value)
    form.write(value, _COLUMNS, text)
