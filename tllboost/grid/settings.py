"""One run a folder: ``run.toml`` says whose results lie there."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

from tllboost.errors import DataError, UsageError
from tllboost.whole_file import write_text

__all__ = ["claim_folder"]


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
        if any(out.iterdir()):
            msg = f"{out} holds files of no run: give an empty or a new folder as --out"
            raise UsageError(msg)
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


def _clear(out: Path) -> None:
    """Remove what a run writes, and nothing else."""
    for folder in ("cells", "scores", "projections"):
        shutil.rmtree(out / folder, ignore_errors=True)
    for name in (
        *("run.toml", "environment.json", "splits.csv", "matrix.csv", "results.csv"),
        *("failures.csv", "summary.json", "best.tllb", "ensemble.tllb"),
    ):
        (out / name).unlink(missing_ok=True)
