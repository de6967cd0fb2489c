"""The two pictures of a pair with the map of what covering changes over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tllboost.explain.covers import patches
from tllboost.explain.explanation import Explanation
from tllboost.explain.html import card, pages_text, tag
from tllboost.explain.words import Patch, signed, telling_patches
from tllboost.page.thumbnails import thumbnail

__all__ = ["maps_card"]

_SIDE = 640
_N_PATCHES = 5
_STRONGEST = 0.72  # opacity of the patch that matters most; the picture shows through

Map = NDArray[np.float64]


def maps_card(explanation: Explanation) -> str:
    """Return both pictures under their maps, and the same in words."""
    one = explanation
    most = max(float(np.abs([one.left_map, one.right_map]).max()), 1e-12)
    grid = one.grid
    intro = tag(
        "p",
        f"Each picture is cut into {grid} × {grid} patches. Each patch in turn is "
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
    """Return one picture, its map, its most telling patches, and all of them."""
    picture = thumbnail(path, _SIDE)
    name = pages_text(Path(path).name)
    top = telling_patches(changes, _N_PATCHES)
    image = (
        f'<img src="{picture.src}" width="{picture.width}" height="{picture.height}" '
        f'alt="The {side} picture, {name}">'
    )
    overlay = _overlay(side, changes, most, top, (picture.width, picture.height))
    return tag(
        "figure",
        tag("figcaption", f"{side.capitalize()}: {name}")
        + tag("div", image + overlay, class_="stage")
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
        aria_label=f"Changes in the {side} picture",
    )
    return tag("details", summary + box, class_="small")
