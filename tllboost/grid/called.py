"""Vectorizers and cells by the names that a run knows them under."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tllboost.errors import UsageError
from tllboost.grid.plan import Cell
from tllboost.projections import NONE
from tllboost.vectorizers import make_vectorizer

__all__ = ["Called", "cell_names"]


class Called:
    """Vectorizers by the label that cells know them under, each made once."""

    def __init__(
        self, aliases: Mapping[str, str], *, device: str, offline: bool
    ) -> None:
        self.aliases = aliases
        self.options: dict[str, Any] = {"device": device, "offline": offline}
        self.made: dict[str, Any] = {}
        self._asked: dict[Any, str] = {}

    def label(self, choice: Any) -> str:
        """Return the label of a vectorizer: its alias, else its own."""
        known = choice if isinstance(choice, str) else id(choice)
        if known in self._asked:
            return self._asked[known]
        spec = self.aliases.get(choice, choice) if isinstance(choice, str) else choice
        vectorizer = make_vectorizer(spec, **self.options)
        label = choice if known in self.aliases else vectorizer.label
        if label in self.made:
            msg = f"two vectorizers are both called {label!r}: give one, or an alias"
            raise UsageError(msg)
        self.made[label] = vectorizer
        self._asked[known] = label
        return label

    def cell(self, named: Mapping[str, str]) -> Cell:
        """Return the cell that a named one stands for."""
        return Cell(
            self.label(named["vectorizer"]),
            named.get("projection", NONE),
            named.get("merge", NONE),
            named["head"],
        )


def cell_names(called: Called, named: Sequence[Mapping[str, str]]) -> dict[Cell, str]:
    """Return the cells that have a name, and their names."""
    names: dict[Cell, str] = {}
    for one in named:
        cell = called.cell(one)
        if cell in names:
            msg = f"cells {names[cell]!r} and {one['name']!r} are one: {cell.name}"
            raise UsageError(msg)
        names[cell] = one["name"]
    return names
