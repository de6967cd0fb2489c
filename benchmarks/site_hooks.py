"""What ``mkdocs.yml`` asks for beside its plugins: links that MkDocs does not know.

A guide links to a file of the repository as ``../results/...``, which is right on disk
and on the web page of the repository. On the site it becomes the address of that file.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
log = logging.getLogger("mkdocs.hooks.links")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Return the page with addresses for files outside; a warning for one not there."""

    def address(link: re.Match[str]) -> str:
        path = ROOT / link[1]
        if not path.exists():
            log.warning("%s links to %s, which is not there", page.file.src_uri, path)
        kind = "tree" if path.is_dir() else "blob"
        return f"]({config.extra['source']}/{kind}/main/{link[1]}"

    return re.sub(r"\]\(\.\./([^)#]+)", address, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Return the page with links for the roles of docstrings, ``:func:`name```.

    A name that the reference does not have stays as it is, without a link.
    """

    def link(role: re.Match[str]) -> str:
        name = role[1] if "." in role[1] else f"tllboost.{role[1]}"
        text = f"<code>{role[1].rpartition('.')[2]}</code>"
        return f'<autoref optional identifier="{name}">{text}</autoref>'

    html = html.replace("path - like", "path-like")  # a type, read as a difference
    return re.sub(r":(?:class|func|meth):<code>~?([\w.]+)</code>", link, html)
