"""The page that shows a run: its skeleton, its looks and its scripts.

The scripts share the page's global scope, so their order matters: each uses what stands
before it. What they show comes as data and is shown as text, whatever it holds.
"""

from __future__ import annotations

from typing import Any

from tllboost.page import assemble, asset

__all__ = ["report_page"]

_STYLES = ("report.css", "matrix.css", "tables.css", "plots.css", "gallery.css")
_SCRIPTS = (
    "dom.js",
    "words.js",
    "state.js",
    "tip.js",
    "header.js",
    "matrix.js",
    "table.js",
    "plot.js",
    "charts.js",
    "details.js",
    "gains.js",
    "costs.js",
    "enlarge.js",
    "gallery.js",
    "lists.js",
    "main.js",
)


def report_page(payload: dict[str, Any]) -> str:
    """Return the report as one self-contained HTML text.

    Parameters
    ----------
    payload : dict
        What the page shows; see :mod:`tllboost.report.payload`.

    Examples
    --------
    >>> text = report_page({"title": "<mine>"})
    >>> text.startswith("<!doctype html>"), "&lt;mine&gt;" in text, "<mine>" in text
    (True, True, False)
    """
    return assemble(
        title=f"{payload['title']} · tllboost",
        body=asset(__name__, "report.html"),
        styles=[asset("tllboost.page", "base.css"), _joined(_STYLES)],
        scripts=[_joined(_SCRIPTS)],
        data=payload,
    )


def _joined(names: tuple[str, ...]) -> str:
    return "\n".join(asset(__name__, name) for name in names)
