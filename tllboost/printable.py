"""Text from strangers, as names of files are, in one line that moves no cursor."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: object) -> str:
    r"""Return text as it is if a terminal can only show it, else with escapes.

    Examples
    --------
    >>> printable("cat.jpg"), printable("two\nlines.jpg")
    ('cat.jpg', 'two\\nlines.jpg')
    """
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii")
        for one in plain
    )
