"""One HTML file that holds all it needs: opens from disk, asks no network.

The page's Content-Security-Policy lets it load nothing from anywhere, and run no script
but those that were put in here. What the scripts show comes as JSON.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

__all__ = ["assemble", "asset"]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{title}</title>
{styles}
</head>
<body>
{body}
{data}{scripts}
</body>
</html>
"""


def asset(package: str, name: str) -> str:
    """Return the text of a file that lies in a package.

    Examples
    --------
    >>> "--" in asset("tllboost.page", "base.css")
    True
    """
    return (files(package) / name).read_text(encoding="utf-8")


def assemble(
    *,
    title: str,
    body: str = "",
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    data: Any = None,
) -> str:
    """Return a whole page.

    Parameters
    ----------
    title : str
        Plain text.
    body : str
        HTML; what came from strangers is escaped in it already.
    styles, scripts : sequence of str
        CSS and JavaScript.
    data : JSON value or None
        What scripts find as ``document.getElementById("data").textContent``; numbers
        that are not finite are null there.

    Examples
    --------
    >>> page = assemble(title="a < b", data={"name": "</script>"}, scripts=["go()"])
    >>> "<title>a &lt; b</title>" in page, page.count("</script>")
    (True, 2)
    """
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed or chr(39) + 'none' + chr(39)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return _PAGE.format(
        policy=policy,
        title=escape(_text(title)),
        styles="\n".join(f"<style>\n{style}\n</style>" for style in styles),
        body=body,
        data="" if data is None else _data(data),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()


def _data(value: Any) -> str:
    """Return JSON that no content can end: `<` stands in it as an escape."""
    text = json.dumps(_finite(value), ensure_ascii=True, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="data">{text}</script>\n'


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    """Return text that UTF-8 can hold; bytes that are no text show as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
