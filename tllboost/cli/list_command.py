"""``tllboost list``: the names that the other commands take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated

import typer

__all__ = ["add_to"]


class Kind(StrEnum):
    """What can be listed."""

    vectorizers = "vectorizers"
    projections = "projections"
    merges = "merges"
    heads = "heads"
    protocols = "protocols"


Rows = list[tuple[str, str]]

_OPTIONS: Rows = [
    ("KIND?trim=true", "borders of one colour cut off first"),
    ("KIND?flip=true", "mean of the picture and its mirror image"),
    ("KIND?views=whole,centre,grey", "a vector a view, side by side"),
    ("KIND?cells=3", "of clip-grid, timm-grid and onnx: 3 x 3 squares of the map"),
]


def add_to(app: typer.Typer) -> None:
    """Give `app` the command ``list``."""
    app.command("list")(list_names)


def list_names(
    kind: Annotated[
        Kind | None, typer.Argument(help="What to list; all of them by default.")
    ] = None,
) -> None:
    """List the names that `-v`, `-p`, `-m`, `-c` and `--protocol` take.

    **Examples**

        tllboost list
        tllboost list heads
    """
    kinds = list(Kind) if kind is None else [kind]
    for number, one in enumerate(kinds):
        if kind is None:
            typer.echo(f"{'' if number == 0 else chr(10)}{one.value}")
        for line in _aligned(_rows(one), indent=2 if kind is None else 0):
            typer.echo(line)


def _rows(kind: Kind) -> Rows:
    """Return names and descriptions, importing no library behind a name."""
    if kind is Kind.vectorizers:
        return _vectorizers()
    if kind is Kind.projections:
        from tllboost.projections import PROJECTIONS

        return [
            ("none", "vectors as the vectorizer gives them"),
            *_entries(PROJECTIONS),
            ("finetune", "the last stages of a timm: or clip: network, trained"),
            ("a/b", "one after the other, for example triplet/contrastive"),
        ]
    if kind is Kind.merges:
        from tllboost.merges import MERGES

        own = ("a+b", "several merges side by side, for example dot+l1")
        return [*_entries(MERGES), own]
    if kind is Kind.heads:
        from tllboost.heads import HEADS

        return [
            *_entries(HEADS),
            ("package.module:Class", "any scikit-learn classifier"),
        ]
    from tllboost.splits import PROTOCOLS

    return list(PROTOCOLS.items())


def _vectorizers() -> Rows:
    from tllboost.vectorizers import VECTORIZERS

    # Their descriptions begin with the spelling, which says more than the kind alone.
    rows = [text.partition(": ")[::2] for _, text in _entries(VECTORIZERS)]
    return [
        *rows,
        *_OPTIONS,
        ("a+b", "fusion: each part scaled to length 1, then side by side"),
        ("package.module:Class", "your own, with transform(images) -> vectors"),
    ]


def _entries(registry: Mapping[str, tuple[str, str]]) -> Rows:
    return [(name, registry[name][1]) for name in registry]


def _aligned(rows: Rows, *, indent: int) -> Iterable[str]:
    width = max(len(name) for name, _ in rows)
    return (f"{' ' * indent}{name:<{width}}  {text}" for name, text in rows)
