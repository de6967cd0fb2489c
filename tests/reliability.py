"""Count what tests did to the program: docs/reliability.md quotes the totals.

A test says what it has just survived, ``count("kills survived")``, after the assertion
that says so. Where the environment names a folder in TLLBOOST_RELIABILITY, each
process of a test run leaves its counts there, and :func:`totals` adds them up.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

__all__ = ["COUNTED", "count", "totals", "write_counts"]

VARIABLE = "TLLBOOST_RELIABILITY"

COUNTED = {
    "bad images tried": "images that are damaged, unusual or hostile",
    "bad tables tried": "tables that are wrong or hostile",
    "bad stores tried": "stores that were damaged, foreign, or could not be written",
    "bad disks tried": "full or read-only disks below a grid or an output",
    "bad runs tried": "folders of results with a damaged or forged file",
    "bad bundles tried": "bundles that were damaged, tampered with or forged",
    "bad networks tried": "files of weights that were damaged or hostile",
    "bad numbers tried": "useless vectors and scores: NaN, infinite, constant",
    "kills survived": "killed processes whose work was then continued",
    "scores soaked": "scores in one process, while its memory was watched",
    "results compared": "results of damaged or resumed runs, compared with right ones",
    "wrong results served": "wrong results among those",
}
"""What may be counted; any other name is a slip."""

_counts: Counter[str] = Counter()


def count(what: str, n: int = 1) -> None:
    """Add `n` to one of the names of COUNTED."""
    if what not in COUNTED:
        msg = f"{what!r} is not counted; these are: {', '.join(COUNTED)}"
        raise ValueError(msg)
    _counts[what] += n


def write_counts(folder: str | os.PathLike[str], worker: str) -> None:
    """Write what this process counted to a file of its own in `folder`."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    file = Path(folder) / f"counts-{worker}-{os.getpid()}.json"
    file.write_text(json.dumps(_counts, sort_keys=True), encoding="utf-8")


def totals(folder: str | os.PathLike[str]) -> dict[str, int]:
    """Return the sums over all files of a test run, in the order of COUNTED."""
    total: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
    for file in sorted(Path(folder).glob("counts-*.json")):
        total.update(json.loads(file.read_text(encoding="utf-8")))
    return dict(total)
