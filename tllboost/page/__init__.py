"""One HTML file that holds all it needs: opens from disk, makes no network request.

Pages are jinja2 templates with autoescape on, so a file's name or a cell's error is
text wherever it stands, and characters that would not show are escapes. The page's
Content-Security-Policy lets it load nothing from anywhere, and run no script but the
one that was put in here.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any

from tllboost.errors import printable
from tllboost.files import finite

__all__ = ["render"]


def render(
    template: str,
    *,
    title: str,
    styles: Sequence[str],
    scripts: Sequence[str],
    data: Any = None,
    **shown: Any,
) -> str:
    """Return a whole page.

    Parameters
    ----------
    template, styles, scripts : str, sequence of str
        A template that extends ``page/base.html``, and CSS and JavaScript: files of
        this package, named by their paths in it. Scripts share one global scope, each
        uses what stands before it.
    title : str
        Plain text.
    data : JSON value or None
        What scripts find as ``document.getElementById("data").textContent``; numbers
        that are not finite are null there.
    **shown
        What the template shows.

    Examples
    --------
    >>> page = render(
    ...     "report/page/report.html",
    ...     title="a < b",
    ...     styles=["page/base.css"],
    ...     scripts=["report/page/dom.js"],
    ...     data={"name": "</script>"},
    ... )
    >>> "<title>a &lt; b</title>" in page, page.count("</script>")
    (True, 2)
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    package = files("tllboost")
    style, script = (
        "\n".join((package / name).read_text(encoding="utf-8") for name in names)
        for names in (styles, scripts)
    )
    environment = Environment(
        loader=PackageLoader("tllboost", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: (
            value if hasattr(value, "__html__") else printable(value)
        ),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Of what is in the data `tojson` escapes < > & ', so nothing there ends a script.
    how = {"separators": (",", ":"), "allow_nan": False}
    environment.policies["json.dumps_kwargs"] = how
    return environment.get_template(template).render(
        title=title,
        style=Markup(style),
        script=Markup(script),
        digest=b64encode(sha256(script.encode("utf-8")).digest()).decode("ascii"),
        data=finite(data),
        **shown,
    )
