"""The demo: scenes with their pair table, and a few pictures kept out of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from tllboost.errors import DataError, UsageError
from tllboost.scenes import make_scenes

__all__ = ["DemoSet", "make_demo_set"]


class DemoSet(NamedTuple):
    """Where the parts of the demo lie.

    Attributes
    ----------
    pairs : Path
        The pair table; its pictures lie beside it.
    query, match, other : Path
        Pictures that no pair has: two views of one new scene, and a view of another.
    """

    pairs: Path
    query: Path
    match: Path
    other: Path


def make_demo_set(
    folder: str | os.PathLike[str], *, n_scenes: int = 240, n_views: int = 3
) -> DemoSet:
    """Make the demo set, or find it where it was made before.

    Parameters
    ----------
    folder : path-like
        Where to: pictures and ``pairs.csv``, and in ``new`` the pictures kept out.
    n_scenes, n_views : int, default=240, 3
        As in `tllboost.scenes.make_scenes`; two more scenes are kept out.

    Raises
    ------
    UsageError
        If the folder holds something else.
    DataError
        If it can't be written.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     demo = make_demo_set(Path(parent, "demo"), n_scenes=2, n_views=2)
    ...     demo.pairs.read_text().splitlines()[-1], demo.query.name
    ('scene_0002_0,scene_0002_1', 'scene_0003_0.jpg')
    """
    root = Path(folder)
    demo = DemoSet(
        root / "pairs.csv",
        root / "new" / _view(n_scenes + 1, 0),
        root / "new" / _view(n_scenes + 1, 1),
        root / "new" / _view(n_scenes + 2, 0),
    )
    if all(path.is_file() for path in demo):
        return demo
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        msg = f"{root} holds other files than this demo's: give a new folder"
        raise UsageError(msg)
    try:
        _make(root, n_scenes, n_views)
    except OSError as error:
        msg = f"{root}: can't write the demo's pictures ({error.strerror or error})"
        raise DataError(msg) from error
    return demo


def _make(root: Path, n_scenes: int, n_views: int) -> None:
    """Make it all beside its place, so that it stands there whole or not at all."""
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}."))
    try:
        pairs = make_scenes(partial, n_scenes=n_scenes + 2, n_views=n_views)
        header, *rows = pairs.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = rows[: n_scenes * (n_views - 1)]
        pairs.write_text("".join([header, *kept]), encoding="utf-8", newline="")
        (partial / "new").mkdir()
        for scene in (n_scenes + 1, n_scenes + 2):
            for view in range(n_views):
                name = _view(scene, view)
                (partial / name).rename(partial / "new" / name)
        partial.chmod(0o755)
        if root.exists():
            root.rmdir()
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _view(scene: int, view: int) -> str:
    return f"scene_{scene:04d}_{view}.jpg"
