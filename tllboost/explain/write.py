"""pair.html: an explanation on one page."""

from __future__ import annotations

import os
from pathlib import Path

from tllboost import __version__
from tllboost.explain.explanation import Explanation
from tllboost.explain.figures import maps_card
from tllboost.explain.html import card, pages_text, tag
from tllboost.explain.tables import members_card, neighbours_card, shares_card
from tllboost.explain.words import signed
from tllboost.page import assemble, asset
from tllboost.whole_file import write_text

__all__ = ["page_text", "write_page"]

_PACKAGE = "tllboost.explain"


def write_page(
    explanation: Explanation,
    path: str | os.PathLike[str],
    *,
    bundle: str | os.PathLike[str] | None = None,
) -> Path:
    """Write an explanation as one HTML file that opens from disk and asks no network.

    Parameters
    ----------
    explanation : Explanation
    path : path-like
        Where to; a page that is there is written over.
    bundle : path-like, optional
        What to call the bundle on the page.

    Returns
    -------
    Path

    Raises
    ------
    ImageError
        If one of the two pictures can't be read any more.
    DataError
        If the page can't be written.
    """
    target = Path(path)
    write_text(target, page_text(explanation, bundle=bundle))
    return target


def page_text(
    explanation: Explanation, *, bundle: str | os.PathLike[str] | None = None
) -> str:
    """Return the page: what :func:`write_page` writes."""
    cards = [
        _verdict(explanation, bundle),
        maps_card(explanation),
        shares_card(explanation),
        members_card(explanation),
        neighbours_card(explanation),
        _notes(explanation),
    ]
    footer = tag("footer", f"tllboost {__version__} · this page asks no network")
    names = [Path(one).name for one in (explanation.left, explanation.right)]
    return assemble(
        title=f"{names[0]} and {names[1]}: {explanation.decision}",
        body=tag("main", "\n".join([*filter(None, cards), footer]), class_="wrap"),
        styles=[asset("tllboost.page", "base.css"), asset(_PACKAGE, "pair.css")],
        scripts=[asset(_PACKAGE, "pair.js")],
    )


def _verdict(explanation: Explanation, bundle: str | os.PathLike[str] | None) -> str:
    """Return the head of the page: how likely, and what that is called."""
    one = explanation
    facts = [
        ("left", one.left),
        ("right", one.right),
        ("bundle", bundle),
        ("score", f"{one.score:.6g}, before calibration"),
        ("log-odds", signed(one.log_odds, "−")),
    ]
    told = "".join(
        tag("dt", name) + tag("dd", pages_text(value))
        for name, value in facts
        if value is not None
    )
    verdict = "A match" if one.is_match else "No match"
    return tag(
        "header",
        tag("h1", f"{verdict}: probability {_sure(one.probability)}")
        + _scale(one.probability, one.threshold)
        + (tag("p", f"Note: {one.warning}.", class_="warning") if one.warning else "")
        + tag("dl", told, class_="facts"),
    )


def _sure(probability: float) -> str:
    """Return a probability with three digits, and never as if it were certain.

    Examples
    --------
    >>> _sure(0.5), _sure(1e-6)
    ('0.500', 'below 0.001')
    """
    if probability < 0.001:
        return "below 0.001"
    return "above 0.999" if probability > 0.999 else f"{probability:.3f}"


def _scale(probability: float, threshold: float) -> str:
    """Return a bar of the probability with a mark where a match begins."""
    name = f"Probability {probability:.3f} of 1; from {threshold:.3f} on it is a match"
    bar = tag("span", style=f"width:{100 * probability:.2f}%", class_="bar")
    mark = tag("span", style=f"left:{100 * threshold:.2f}%", class_="mark")
    words = tag(
        "p",
        f"Threshold {threshold:.3f}: a pair is called a match there and above. It was "
        "chosen on validation pairs.",
        class_="soft small",
    )
    return tag("div", bar + mark, class_="scale", role="img", aria_label=name) + words


def _notes(explanation: Explanation) -> str:
    """Return how to read the page, and what is not on it."""
    notes = [
        f"A patch is covered by blurring it; each of the {2 * explanation.grid**2} "
        "covered pictures was vectorized and its pair scored as any new pair is.",
        "Changes are in log-odds: +1 multiplies the odds of a match by 2.7. They don't "
        "add up to the score, because patches work together: of two that show the same "
        "thing, covering one may change nothing.",
        "Where one picture is less sharp than the other, blurring the sharper one can "
        "make them more alike: such patches speak against.",
        "The maps tell what this bundle looks at, not why two pictures are alike.",
        *map(pages_text, explanation.notes),
    ]
    if not explanation.neighbours:
        notes.append(
            "No nearest training matches are shown: <code>--run DIR</code> names the "
            "folder of the run that made the bundle."
        )
    items = "".join(tag("li", note) for note in notes)
    return card("How to read this", tag("ul", items, class_="notes small"))
