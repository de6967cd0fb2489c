"""What people read of a run: report.html, and the matrix in the terminal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tllboost.errors import DataError
from tllboost.files import write_text
from tllboost.page import render
from tllboost.report.payload import Progress, payload
from tllboost.report.run import Run, read_run

__all__ = ["Run", "read_run", "report_page", "write_report"]

_LOOKS = ("report", "matrix", "tables", "plots", "gallery")
# In this order: each uses what stands before it.
_SCRIPTS = (
    *("dom", "words", "state", "tip", "header", "matrix", "table", "plot", "charts"),
    *("details", "gains", "costs", "enlarge", "gallery", "lists", "main"),
)


def write_report(
    run: Run | str | os.PathLike[str],
    *,
    gallery: int = 20,
    progress: Progress | None = None,
) -> Path:
    """Write ``report.html`` into the folder of a finished run.

    It is one file that holds all it shows, opens from disk and needs no network.

    Parameters
    ----------
    run : Run or path-like
        The folder, or what :func:`~tllboost.report.run.read_run` made of it.
    gallery : int, default=20
        Test queries shown at each end, the best and the worst, with small copies of
        their images, of the chosen cell; 5 at most of each other. 0 leaves images out.
    progress : callable or None
        Called with (done, total, what).

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        If the folder holds no run, or tables alone, or can't be written.
    ImageError
        If an image of the gallery can't be read any more: the page stays as it was.

    Examples
    --------
    >>> import tempfile
    >>> from tllboost import read_pairs, run_grid
    >>> from tllboost.demo import make_scenes
    >>> folder = Path(tempfile.mkdtemp())
    >>> pairs = make_scenes(folder / "images", n_scenes=40, n_views=2)
    >>> table = read_pairs(pairs, images=pairs.parent)
    >>> out, store = folder / "out", folder / "store"
    >>> result = run_grid(table, heads=["cosine"], out=out, store=store)
    >>> write_report(out).name
    'report.html'
    """
    if not isinstance(run, Run):
        run = read_run(Path(run))
    if not run.records:
        msg = (
            f"{run.out}: the tables of a run lie here, but not all of its cells/: "
            f"tllboost grid --config {run.out / 'run.toml'} --resume makes them again"
        )
        raise DataError(msg)
    path = run.out / "report.html"
    shown = payload(run, gallery_size=gallery, progress=progress)
    write_text(path, report_page(shown))
    return path


def report_page(shown: dict[str, Any]) -> str:
    """Return the page that shows a run's data; see :mod:`tllboost.report.payload`.

    Examples
    --------
    >>> text = report_page({"title": "<mine>"})
    >>> text.startswith("<!doctype html>"), "&lt;mine&gt;" in text, "<mine>" in text
    (True, True, False)
    """
    return render(
        "report/page/report.html",
        title=f"{shown['title']} · tllboost",
        styles=["page/base.css", *(f"report/page/{name}.css" for name in _LOOKS)],
        scripts=[f"report/page/{name}.js" for name in _SCRIPTS],
        data=shown,
    )
