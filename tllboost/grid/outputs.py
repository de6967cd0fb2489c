"""The folder of a run: held by one grid at a time, claimed by one run, written whole.

``run.toml`` says whose results lie there; a lock that ends with the process that holds
it keeps other grids out. Beside the cells stand the tables of what was found and lost.
"""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tllboost.errors import WHY, DataError, UsageError, need, retold
from tllboost.files import csv_text, finite, write_text
from tllboost.grid.matrix import ENDS, draw, matrix_html
from tllboost.metrics import METRICS

RESULT_COLUMNS = (
    *("vectorizer", "projection", "merge", "head", "name", "status"),
    *METRICS,
    *(f"{metric}_{end}" for metric in METRICS for end in ("low", "high")),
    *("metric", "gain", "gain_low", "gain_high"),
    *("to_best", "to_best_low", "to_best_high", "tied_with_best", "validation"),
    *("protocol", "n_seeds", "n_train_pairs", "n_test_queries", "n_candidates"),
    *("n_features", "threshold", "best_of_folds"),
    *("vectorize_s", "project_s", "fit_s", "score_s", "peak_memory_mb", "error"),
)


def write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a CSV file whole or not at all; numbers that are not finite are empty."""
    told = [
        [f"{one:.6g}" if isinstance(one, float) else one for one in finite([*row])]
        for row in rows
    ]
    write_text(path, csv_text(header, told))


_FOLDERS = ("cells", "scores", "projections", "splits")
_FILES = (
    *("run.toml", "environment.json", "splits.csv", "matrix.*", "results.csv"),
    *("failures.csv", "summary.json", "images.json", "report.html"),
    *("best.tllb", "ensemble.tllb"),
)
# What is there of a run that was killed, before or while it wrote a file.
_LEFT_OVER = re.compile(r"\.lock|\.shared(-held)?|\..+\.[0-9a-f]{8}\.part")


def refuse_taken(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that holds a run, unless it is to go on or to be replaced.

    Raises
    ------
    UsageError
        If nobody said what is to become of the run, or of other files.
    """
    if resume and overwrite:
        msg = "give --resume to go on with a run or --overwrite to replace it, not both"
        raise UsageError(msg)
    if overwrite:
        return
    if not (out / "run.toml").exists():
        if any(not _LEFT_OVER.fullmatch(path.name) for path in out.iterdir()):
            msg = f"{out} holds other files than a run's: give an empty or new --out"
            raise UsageError(msg)
    elif not resume:
        msg = (
            f"{out} holds a run: give --resume to go on with it, --overwrite to "
            "replace it, or another --out"
        )
        raise UsageError(msg)


def claim_folder(
    out: Path, settings: dict[str, Any], *, overwrite: bool, **own: Any
) -> None:
    """Write ``run.toml`` into a folder that is held, or refuse one of another run.

    The same `data` under the same `protocol`, which are `own`, goes on where it was,
    with more cells or seeds if asked; others need `overwrite`.

    Raises
    ------
    UsageError
        If the folder holds another run's results.
    """
    import tomli_w

    # What killed processes had not finished.
    for folder in (out, *(out / name for name in _FOLDERS)):
        for file in folder.glob(".*.part"):
            if _LEFT_OVER.fullmatch(file.name):
                file.unlink(missing_ok=True)
    path = out / "run.toml"
    if overwrite:  # what a run writes goes, and nothing else
        for name in _FOLDERS:
            shutil.rmtree(out / name, ignore_errors=True)
        for name in _FILES:
            for file in out.glob(name):
                file.unlink(missing_ok=True)
    elif path.exists():
        text = f"{path} can't be read ({WHY}): give --overwrite, or another --out"
        with retold(text, UsageError, (OSError, ValueError, KeyError, TypeError)):
            told = path.read_text("utf-8-sig", "surrogateescape")  # as paths are
            before = dict(tomllib.loads(told)["run"])
        others = {"data": "other pairs or images", "protocol": "another protocol"}
        for what, other in others.items():
            if before.get(what) != own[what]:
                msg = (
                    f"{out} holds the results of a run with {other}: give --overwrite "
                    "to replace them, or another --out"
                )
                raise UsageError(msg)
    kept = {key: value for key, value in settings.items() if value is not None}
    # What the options came to; --config ignores this part when it reads the file.
    kept["run"] = own
    write_text(path, tomli_w.dumps(kept))


LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be, against all other processes.

    The system lets go of the lock when the process ends, however it ends. A folder that
    was made here and is empty at the end is removed.

    Raises
    ------
    UsageError
        If another process holds it.
    DataError
        If the folder can't be made or written.

    Examples
    --------
    >>> import tempfile
    >>> out = Path(tempfile.mkdtemp()) / "out"
    >>> with locked(out):
    ...     out.exists()
    True
    >>> out.exists()
    False
    """
    from filelock import FileLock, Timeout

    is_new = not folder.exists()
    path = folder / LOCK
    lock = FileLock(path, timeout=0)
    text = f"{folder}: can't be written ({WHY}): give another --out"
    with retold(text, DataError, OSError):
        folder.mkdir(parents=True, exist_ok=True)
        path.touch()
    try:
        lock.acquire()
        path.write_text(str(os.getpid()))
    except Timeout as error:
        holder = ""
        with suppress(OSError, ValueError):
            holder = f" (process {int(path.read_text())})"
        msg = (
            f"another grid{holder} is writing into {folder}: wait until it is done, or "
            "give another --out"
        )
        raise UsageError(msg) from error
    except (OSError, NotImplementedError):
        pass  # a file system without locks: better than no grid on it
    try:
        yield
    finally:
        # Removed while it is held: later it might be another's. Windows, where an open
        # file can't be, removes it on release.
        with suppress(OSError):
            path.unlink()
        lock.release()
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


@dataclass(eq=False, repr=False)
class GridResult:
    """What a grid came to; a notebook shows it as its matrix.

    Attributes
    ----------
    out : Path
        Folder of all files.
    rows : list of dict
        One row for each cell, the columns of ``results.csv``.
    metric : str
        What the matrix shows.
    chosen : dict or None
        The row that validation chose and ``best.tllb`` holds.
    choosing_gave : dict or None
        What choosing on validation gave: each metric with the ends of its interval,
        every seed and fold choosing on its own validation set and tested on its own
        test set. The figure to quote; that of `chosen` is too good where folds or
        seeds share images.
    failures : dict of str to str
        Images left out, and why.
    n_run, n_reused : int
        Cells and seeds fitted now, and found finished.
    notes : list of str
        What the user should know.
    data : dict of str to int
        How many pairs, matches, images and components there were.
    leaks : list of (str, str)
        What training and test share.
    exit_code : int
        4 where an image or a cell failed, else 0.
    """

    out: Path
    rows: list[dict[str, Any]]
    metric: str
    chosen: dict[str, Any] | None = None
    choosing_gave: dict[str, Any] | None = None
    failures: dict[str, str] = field(default_factory=dict)
    n_run: int = 0
    n_reused: int = 0
    notes: list[str] = field(default_factory=list)
    data: dict[str, int] = field(default_factory=dict)
    leaks: list[tuple[str, str]] = field(default_factory=list)
    exit_code: int = 0

    def __repr__(self) -> str:
        chosen = self.chosen or {}
        told = " × ".join(chosen[name] for name in RESULT_COLUMNS[:4] if name in chosen)
        return f"GridResult({str(self.out)!r}, {len(self.rows)} cells, chosen: {told})"

    def _repr_html_(self) -> str:
        page = matrix_html(self.rows, self.metric)
        if self.choosing_gave is not None:
            ends = (self.choosing_gave[f"{self.metric}{end}"] for end in ENDS)
            told = "{} {:.3f} [{:.3f}, {:.3f}]".format(self.metric, *ends)
            page += f"<p>choosing on validation gave {told}</p>"
        return page

    def to_frame(self) -> Any:
        """Return the rows as a pandas.DataFrame, its columns those of ``results.csv``.

        Raises
        ------
        MissingLibraryError
            If pandas is not installed.
        """
        need("pandas", "to_frame()")
        from pandas import DataFrame

        return DataFrame(self.rows, columns=RESULT_COLUMNS)

    def plot(self) -> Any:
        """Return the matrix and the gains over the plain cosine as a figure.

        Needs matplotlib, which ``pip install 'tllboost[plot]'`` brings.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; ``result.plot().savefig("run.png")`` keeps it.

        Raises
        ------
        MissingLibraryError
            If matplotlib is not installed.
        """
        return draw(self.rows, self.metric)
