"""One run a folder: ``run.toml`` says whose results lie there."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

from tllboost.errors import DataError, UsageError
from tllboost.whole_file import write_text

__all__ = ["claim_folder", "refuse_taken"]

_FOLDERS = ("cells", "scores", "projections", "sides")
# What is there of a run that was killed, before or while it wrote a file.
_LEFT_OVER = re.compile(r"\.lock|\.shared|\..+\.[0-9a-f]{8}\.part")


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
        if _own(out):
            msg = f"{out} holds files of no run: give an empty or a new folder as --out"
            raise UsageError(msg)
    elif not resume:
        msg = (
            f"{out} holds a run: give --resume to go on with it, --overwrite to "
            "replace it, or another --out"
        )
        raise UsageError(msg)


def claim_folder(
    out: Path,
    *,
    data: str,
    protocol: dict[str, Any],
    settings: dict[str, Any],
    overwrite: bool,
) -> None:
    """Write ``run.toml``, or refuse a folder that holds something else.

    The same data under the same protocol goes on where it was, with more cells or
    seeds if asked; other data or another protocol needs `overwrite`.

    Raises
    ------
    UsageError
        If the folder holds another run's results, or no run's files.
    DataError
        If the folder can't be written.
    """
    import tomli_w

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{out}: can't make the folder for the results ({error.strerror})"
        raise DataError(msg) from error
    _sweep(out)
    if overwrite:
        _clear(out)
    else:
        _refuse_other(out, data, protocol)
    kept = {key: value for key, value in settings.items() if value is not None}
    # What the options came to; reading the file as --config passes over this part.
    kept["run"] = {"data": data, "protocol": protocol}
    write_text(out / "run.toml", tomli_w.dumps(kept))


def _refuse_other(out: Path, data: str, protocol: dict[str, Any]) -> None:
    path = out / "run.toml"
    if not path.exists():
        refuse_taken(out, resume=True, overwrite=False)
        return
    try:
        before = dict(tomllib.loads(path.read_text(encoding="utf-8"))["run"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path} can't be read ({error}): give --overwrite, or another --out"
        raise UsageError(msg) from error
    for what, now, then in (
        ("other pairs or pictures", data, before.get("data")),
        ("another protocol", protocol, before.get("protocol")),
    ):
        if now != then:
            msg = (
                f"{out} holds the results of a run with {what}: give --overwrite to "
                "replace them, or another --out"
            )
            raise UsageError(msg)


def _own(out: Path) -> list[Path]:
    """Return what somebody put into a folder."""
    return [path for path in out.iterdir() if not _LEFT_OVER.fullmatch(path.name)]


def _sweep(out: Path) -> None:
    """Remove files that a killed process had not finished."""
    for folder in (out, *(out / name for name in _FOLDERS)):
        for path in folder.glob(".*.part"):
            if _LEFT_OVER.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _clear(out: Path) -> None:
    """Remove what a run writes, and nothing else."""
    for folder in _FOLDERS:
        shutil.rmtree(out / folder, ignore_errors=True)
    for name in (
        *("run.toml", "environment.json", "splits.csv", "matrix.csv", "results.csv"),
        *("matrix.md", "matrix.tex", "failures.csv", "summary.json", "pictures.json"),
        *("report.html", "best.tllb", "ensemble.tllb"),
    ):
        (out / name).unlink(missing_ok=True)
