"""Which cells a grid has, and the name under which each is remembered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tllboost.errors import UsageError
from tllboost.heads import HEADS
from tllboost.merges import MERGES, resolve_merge

__all__ = ["COSINE", "Cell", "digest", "plan_cells"]

COSINE = "cosine"


@dataclass(frozen=True, order=True)
class Cell:
    """One (vectorizer, projection, merge, head): a row of the results."""

    vectorizer: str
    projection: str
    merge: str
    head: str

    @property
    def name(self) -> str:
        """All four in one line."""
        return " × ".join((self.vectorizer, self.projection, self.merge, self.head))


def plan_cells(
    vectorizers: Sequence[str], merges: Sequence[str], heads: Sequence[str]
) -> list[Cell]:
    """Return the product of the names, the cosine of each vectorizer first.

    The cosine reads no merge, so it is one cell a vectorizer, and it is always there:
    every other cell is compared with it.

    Raises
    ------
    UnknownNameError
        If a merge or head is not known.
    UsageError
        If there is no vectorizer, or a name is given twice.

    Examples
    --------
    >>> [cell.name for cell in plan_cells(["classic"], ["dot"], ["logistic"])]
    ['classic × none × none × cosine', 'classic × none × dot × logistic']
    """
    for kind, names in (
        ("vectorizer", vectorizers),
        ("merge", merges),
        ("head", heads),
    ):
        twice = {name for name in names if list(names).count(name) > 1}
        if twice:
            msg = f"{kind} {', '.join(sorted(twice))} is given twice"
            raise UsageError(msg)
    learned = [head for head in heads if head != COSINE]
    if not vectorizers or (learned and not merges):
        msg = "a grid needs at least one vectorizer, and one merge for learned heads"
        raise UsageError(msg)
    for merge in merges:
        resolve_merge(merge)
    for head in heads:
        HEADS.resolve(head)
    cells = []
    for vectorizer in vectorizers:
        cells.append(Cell(vectorizer, "none", "none", COSINE))
        cells += [
            Cell(vectorizer, "none", merge, head)
            for merge in merges
            for head in learned
        ]
    return cells


def digest(*parts: Any) -> str:
    """Return a short hash of plain values: 16 hexadecimal digits.

    Examples
    --------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, Iterable):
        return list(value)
    return asdict(value)


DEFAULT_MERGES = tuple(name for name in MERGES if name != "concat")
DEFAULT_HEADS = tuple(HEADS)
