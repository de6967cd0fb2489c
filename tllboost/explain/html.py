"""Pieces of HTML, put together so that no name of a file can be more than text."""

from __future__ import annotations

from html import escape

from tllboost.printable import printable

__all__ = ["card", "pages_text", "tag"]


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
