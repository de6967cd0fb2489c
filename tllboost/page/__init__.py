"""One HTML file that holds all it needs: opens from disk, makes no network request.

Small images are in it as data, each once, within a budget of bytes.

Pages are jinja2 templates with autoescape on, so a file's name or a cell's error is
text wherever it stands, and characters that would not show are escapes. The page's
Content-Security-Policy lets it load nothing from anywhere, and run no script but the
one that was put in here.
"""

from __future__ import annotations

import io
import os
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from importlib.resources import files
from typing import Any, NamedTuple

from PIL import Image

from tllboost.errors import ImageError, printable
from tllboost.files import finite
from tllboost.images import open_image


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


# Longest sides, in pixels, from the most to the least that a page can afford.
_SIZES = (224, 160, 128, 96, 64)
_BUDGET = 9_000_000  # bytes of all thumbnails of a page, as text


class Thumbnail(NamedTuple):
    """An image as a ``data:`` address, and its size in pixels."""

    src: str
    width: int
    height: int


def thumbnail(path: str | os.PathLike[str], size: int) -> Thumbnail:
    """Return an image as a JPEG whose longest side is at most `size` pixels.

    Raises
    ------
    ImageError
        If the file is no image that can be read.
    """
    small = open_image(path, shrink_to=size).convert("RGB")
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=72, optimize=True)
    text = b64encode(data.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{text}", *small.size)


def make_thumbnails(
    paths: Mapping[Any, str | os.PathLike[str]],
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[Any, Thumbnail]:
    """Return a thumbnail of each image, as large as all together can be.

    Parameters
    ----------
    paths : mapping of key to path-like
        An image that can't be read has no thumbnail.
    progress : callable or None
        Called with (done, total, what).

    Examples
    --------
    >>> make_thumbnails({0: "no such file"})
    {}
    """
    for size in _SIZES:
        made = {}
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            small = {key: pool.submit(thumbnail, o, size) for key, o in paths.items()}
            for done, (key, one) in enumerate(small.items(), 1):
                with suppress(ImageError):  # it can't be read
                    made[key] = one.result()
                if progress is not None:
                    progress(done, len(paths), "thumbnails")
        if sum(len(one.src) for one in made.values()) <= _BUDGET:
            break
    return made
