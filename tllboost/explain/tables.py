"""What vectorizers and members say, and the nearest training matches, as cards."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tllboost.errors import ImageError
from tllboost.explain.explanation import Explanation
from tllboost.explain.html import card, pages_text, tag
from tllboost.explain.nearest import Neighbour
from tllboost.explain.words import signed
from tllboost.page.thumbnails import thumbnail

__all__ = ["members_card", "neighbours_card", "shares_card"]

_SIDE = 200

Row = tuple[str, float]


def shares_card(explanation: Explanation) -> str:
    """Return what each vectorizer adds, or nothing where there is one."""
    if not explanation.shares or explanation.empty is None:
        return ""
    intro = tag(
        "p",
        "Each vectorizer is left out and put back in every combination with the "
        "others; what it adds to the log-odds is the mean over all orders (its exact "
        f"Shapley value). With none of them they are {signed(explanation.empty, '−')}, "
        f"with all {signed(explanation.log_odds, '−')}.",
    )
    if explanation.empty > explanation.log_odds:
        intro += tag(
            "p",
            "Without any of them both vectors are zero, so equal, and a pair looks "
            "perfectly alike: each takes something away from that, and what counts is "
            "which takes more.",
        )
    rows = [(share.name, share.adds) for share in explanation.shares]
    return card("What each vectorizer adds", intro + _bars(rows, "vectorizer", "adds"))


def members_card(explanation: Explanation) -> str:
    """Return what each member of an ensemble says, or nothing where there is none."""
    members = explanation.members
    if not members:
        return ""
    intro = tag(
        "p",
        f"The score is the mean of what {len(members)} members say. Of the log-odds "
        f"of each, {members[0].weight:.3f} counts after calibration.",
    )
    rows = [(member.name, member.log_odds) for member in members]
    return card("What each member says", intro + _bars(rows, "member", "log-odds"))


def _bars(rows: Iterable[Row], what: str, figure: str) -> str:
    """Return rows of a name, a bar from a middle line, and the number."""
    rows = list(rows)
    most = max([abs(value) for _, value in rows] + [1e-12])
    head = tag("th", what, scope="col") + tag(
        "th", figure, scope="col", class_="number"
    )
    body = "".join(
        tag(
            "tr",
            tag("th", pages_text(name) + _bar(value / most), scope="row")
            + tag("td", signed(value, "−"), class_="number"),
        )
        for name, value in rows
    )
    return tag(
        "table",
        tag("thead", tag("tr", head)) + tag("tbody", body),
        class_="shares",
    )


def _bar(part: float) -> str:
    """Return a bar to the right of the middle for more, to the left for less."""
    start = 50 + min(0.0, 50 * part)
    kind = "more" if part > 0 else "less"
    bar = tag(
        "span", style=f"left:{start:.2f}%;width:{abs(50 * part):.2f}%", class_=kind
    )
    return tag("span", bar, class_="bars")


def neighbours_card(explanation: Explanation) -> str:
    """Return the training matches most like the pair, or nothing if none are known."""
    if not explanation.neighbours:
        return ""
    intro = tag(
        "p",
        "The matches that the bundle was trained on whose two pictures are most like "
        "these two, by the mean of both cosines, before any projection.",
    )
    items = "".join(map(_neighbour, explanation.neighbours))
    return card(
        "The nearest training matches", intro + tag("ol", items, class_="nearest")
    )


def _neighbour(one: Neighbour) -> str:
    same = tag("p", tag("span", "these very files", class_="badge main"))
    sides = "".join(
        tag(
            "figure",
            _small(path, name)
            + tag(
                "figcaption",
                f"{pages_text(name)}<br>"
                + tag("span", f"cosine {cosine:.3f} to the {side}", class_="soft"),
                class_="small",
            ),
        )
        for side, name, path, cosine in zip(
            ("left", "right"), one.ids, one.paths, one.cosines, strict=True
        )
    )
    return tag(
        "li",
        tag("p", f"mean cosine {one.likeness:.3f}", class_="number")
        + (same if one.is_same else "")
        + tag("div", sides, class_="two"),
    )


def _small(path: Path, name: str) -> str:
    try:
        picture = thumbnail(path, _SIDE)
    except ImageError:
        return tag("p", "The picture is not there any more.", class_="soft small")
    return (
        f'<img src="{picture.src}" width="{picture.width}" height="{picture.height}" '
        f'alt="Training picture {pages_text(name)}">'
    )
