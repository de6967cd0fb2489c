"""Pieces of HTML, put together so that no name of a file can be more than text.

The two images of a pair with the map of what covering changes over them.

What vectorizers and members say, and the nearest training matches, as cards.

pair.html: an explanation on one page.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tllboost import __version__
from tllboost.errors import ImageError, printable
from tllboost.explain.explanation import Explanation
from tllboost.explain.occlusion import patches
from tllboost.explain.training import Neighbour
from tllboost.explain.words import Patch, signed, telling_patches
from tllboost.files import write_text
from tllboost.images.thumbnails import thumbnail
from tllboost.page import assemble, asset

__all__ = ["write_page"]


def tag(name: str, content: str = "", **attributes: object) -> str:
    """Return an element around HTML; attributes are escaped, their names plain.

    A trailing underscore is dropped from an attribute's name, others become hyphens;
    None leaves an attribute out.

    Examples
    --------
    >>> tag("p", "a &lt; b", class_="soft", aria_label='"')
    '<p class="soft" aria-label="&quot;">a &lt; b</p>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{pages_text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{content}</{name}>"


def pages_text(text: object) -> str:
    r"""Return text from strangers as a page can show it, and only show it.

    Examples
    --------
    >>> pages_text("<b>.jpg"), pages_text("two\nlines")
    ('&lt;b&gt;.jpg', 'two\\nlines')
    """
    return escape(printable(text))


def card(title: str, content: str) -> str:
    """Return a section of the page under its heading."""
    return tag("section", tag("h2", title) + content, class_="card")


_FIGURE_SIZE = 640
_N_PATCHES = 5
_STRONGEST = 0.72  # opacity of the patch that matters most; the image shows through

Map = NDArray[np.float64]


def maps_card(explanation: Explanation) -> str:
    """Return both images under their maps, and the same in words."""
    one = explanation
    most = max(float(np.abs([one.left_map, one.right_map]).max()), 1e-12)
    grid = one.grid
    intro = tag(
        "p",
        f"Each image is cut into {grid} × {grid} patches. Each patch in turn is "
        "blurred, and the pair is scored anew. Where that makes a match less likely, "
        "what is there speaks for a match.",
    )
    box = tag(
        "label",
        '<input type="checkbox" id="show-map" checked> Show the map '
        + tag("kbd", "M", class_="soft"),
    )
    tools = tag("div", box + _legend(most), class_="tools")
    figures = "".join(
        _figure(side, path, changes, most)
        for side, path, changes in (
            ("left", one.left, one.left_map),
            ("right", one.right, one.right_map),
        )
    )
    return card(
        "Where the score comes from", intro + tools + tag("div", figures, class_="pair")
    )


def _legend(most: float) -> str:
    """Return the scale of colours, its ends named."""
    end = signed(most, "−").lstrip("+")
    return tag(
        "div",
        tag("span", f"−{end} for a match", class_="small")
        + tag("span", class_="ramp")
        + tag("span", f"+{end} against", class_="small"),
        class_="legend",
        role="img",
        aria_label=(
            f"Colours: blue where covering lowers the log-odds, by {end} at most; "
            f"orange where it raises them"
        ),
    )


def _figure(side: str, path: str, changes: Map, most: float) -> str:
    """Return one image, its map, its most telling patches, and all of them."""
    image = thumbnail(path, _FIGURE_SIZE)
    name = pages_text(Path(path).name)
    top = telling_patches(changes, _N_PATCHES)
    element = (
        f'<img src="{image.src}" width="{image.width}" height="{image.height}" '
        f'alt="The {side} image, {name}">'
    )
    overlay = _overlay(side, changes, most, top, (image.width, image.height))
    return tag(
        "figure",
        tag("figcaption", f"{side.capitalize()}: {name}")
        + tag("div", element + overlay, class_="stage")
        + _words(side, top)
        + _all(side, changes),
    )


def _overlay(
    side: str, changes: Map, most: float, top: list[Patch], size: tuple[int, int]
) -> str:
    """Return the map as SVG: strength is opacity, the most telling are numbered."""
    grid = len(changes)
    ranks = {(one.row, one.column): rank for rank, one in enumerate(top, start=1)}
    shapes, marks = [], []
    for index, (x0, y0, x1, y1) in enumerate(patches(*size, grid)):
        row, column = divmod(index, grid)
        patch = Patch(row + 1, column + 1, float(changes[row, column]))
        rank = ranks.get((patch.row, patch.column))
        kind = "against" if patch.change > 0 else "for"
        shapes.append(
            tag(
                "rect",
                tag("title", pages_text(patch.words.replace("-", "−"))),
                x=x0,
                y=y0,
                width=x1 - x0,
                height=y1 - y0,
                class_=f"{kind} top" if rank else kind,
                fill_opacity=f"{_STRONGEST * abs(patch.change) / most:.3f}",
                data_patch=f"{side}-{patch.row}-{patch.column}",
            )
        )
        if rank:
            middle = {"x": (x0 + x1) / 2, "y": (y0 + y1) / 2}
            marks.append(tag("text", str(rank), **middle))
    return tag(
        "svg",
        "".join(shapes + marks),
        class_="map",
        viewBox=f"0 0 {size[0]} {size[1]}",
        font_size=round(max(size) / min(20, 2 * grid), 1),
        aria_hidden="true",
    )


def _words(side: str, top: list[Patch]) -> str:
    """Return the most telling patches as a list whose items light the patch up."""
    if not top:
        return tag("p", "Covering any patch changes nothing.", class_="small")
    items = "".join(
        tag(
            "li",
            tag(
                "button",
                one.words.replace("-", "−"),
                type="button",
                data_patch=f"{side}-{one.row}-{one.column}",
            )
            + tag(
                "span",
                " speaks against" if one.change > 0 else " speaks for",
                class_="soft",
            ),
        )
        for one in top
    )
    return tag("ol", items, class_="patches small")


def _all(side: str, changes: Map) -> str:
    """Return every change as a table that can be opened."""
    grid = range(1, len(changes) + 1)
    head = tag("td") + "".join(tag("th", str(one), scope="col") for one in grid)
    rows = "".join(
        tag(
            "tr",
            tag("th", str(row), scope="row")
            + "".join(
                tag("td", signed(one, "−"), class_="number") for one in changes[row - 1]
            ),
        )
        for row in grid
    )
    table = tag("table", tag("thead", tag("tr", head)) + tag("tbody", rows))
    summary = tag("summary", f"All {changes.size} changes, row by row")
    box = tag(
        "div",
        table,
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=f"Changes in the {side} image",
    )
    return tag("details", summary + box, class_="small")


_THUMBNAIL_SIZE = 200

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
        "The matches that the bundle was trained on whose two images are most like "
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
        image = thumbnail(path, _THUMBNAIL_SIZE)
    except ImageError:
        return tag("p", "The image is not there any more.", class_="soft small")
    return (
        f'<img src="{image.src}" width="{image.width}" height="{image.height}" '
        f'alt="Training image {pages_text(name)}">'
    )


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
        If one of the two images can't be read any more.
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
        "covered images was vectorized and its pair scored as any new pair is.",
        "Changes are in log-odds: +1 multiplies the odds of a match by 2.7. They don't "
        "add up to the score, because patches work together: of two that show the same "
        "thing, covering one may change nothing.",
        "Where one image is less sharp than the other, blurring the sharper one can "
        "make them more alike: such patches speak against.",
        "The maps tell what this bundle looks at, not why two images are alike.",
        *map(pages_text, explanation.notes),
    ]
    if not explanation.neighbours:
        notes.append(
            "No nearest training matches are shown: <code>--run DIR</code> names the "
            "folder of the run that made the bundle."
        )
    items = "".join(tag("li", note) for note in notes)
    return card("How to read this", tag("ul", items, class_="notes small"))
