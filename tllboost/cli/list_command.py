"""``tllboost list``: the names that the other commands take."""

from __future__ import annotations

import shutil
import sys
import textwrap
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import typer

from tllboost.cli import options
from tllboost.cli.completion import names_of
from tllboost.cli.streams import write_json

__all__ = ["COMMANDS"]


Kind = StrEnum(
    "Kind", "vectorizers networks projections merges heads protocols metrics formats"
)


class Row(NamedTuple):
    """A name, what it is, and of a vectorizer the width and source of its vectors."""

    name: str
    description: str
    n_dims: int | str | None = None
    weights: str = ""


_WEIGHTS = {"classic": "none needed", "pixels": "none needed", "pocket": "built in"}
_WEIGHTS |= {"onnx": "your file", "vectors": "your file"}
# What can be written beside the names of a kind.
_MORE = {
    "vectorizers": {
        "KIND?trim=true": "cut off borders of one colour first",
        "KIND?flip=true": "mean of the image and its mirror image",
        "KIND?views=whole,centre,grey": "a vector for each view, side by side",
        "KIND+KIND?weight=0.3": "weight of a part in the cosine; 1 if not given",
        "KIND?cells=3": "of clip-grid, timm-grid and onnx: the map on a 3 x 3 grid",
        "a+b": "fusion: each part scaled to length 1, then side by side",
        "package.module:Class": "your own, with transform(images) -> vectors",
    },
    "networks": {
        "timm:NAME": "any other of timm: timm.list_pretrained()",
        "clip:ARCH:TAG": "any other of open_clip: open_clip.list_pretrained()",
    },
    "projections": {"a/b": "one after the other, for example triplet/contrastive"},
    "merges": {"a+b": "several merges side by side, for example dot+l1"},
    "heads": {"package.module:Class": "any scikit-learn classifier"},
}


def list_names(
    kind: Annotated[
        Kind | None, typer.Argument(help="What to list; all of them by default.")
    ] = None,
    *,
    as_json: options.Json = False,
) -> None:
    """List the names that `-v`, `-p`, `-m`, `-c`, `--protocol` and others take.

    Vectorizers are listed with the width of their vectors and the source of their
    weights, networks with whether their weights are in the local cache of the hub. No
    network connection is made.

    **Examples**

        tllboost list
        tllboost list heads
        tllboost list networks --json
    """
    kinds = list(Kind) if kind is None else [kind]
    found = {one.value: _rows(one.value) for one in kinds}
    if as_json:
        write_json(
            {one: [_as_dict(row) for row in rows] for one, rows in found.items()}
        )
        return
    for one, rows in found.items():
        if kind is None:
            typer.echo(one if one == kinds[0] else f"\n{one}")
        _print(rows, indent=2 if kind is None else 0)


def _rows(kind: str) -> list[Row]:
    """Return names and descriptions, importing no library behind a name."""
    more = [Row(name, text) for name, text in _MORE.get(kind, {}).items()]
    if kind == "networks":
        return _networks() + more
    if kind == "vectorizers":
        return _vectorizers() + more
    return [Row(name, text) for name, text in names_of(kind).items()] + more


def _vectorizers() -> list[Row]:
    from tllboost.vectorizers import VECTORIZERS, make_vectorizer

    rows = []
    for kind, entry in VECTORIZERS.items():
        # A description begins with the spelling, which says more than the kind alone.
        name, _, text = entry.description.partition(": ")
        weights = _WEIGHTS.get(kind, "hub or file")
        is_here = weights in ("none needed", "built in")
        n_dims = make_vectorizer(kind).n_dims if is_here else None
        rows.append(Row(name, text, n_dims, weights))
    return rows


def _networks() -> list[Row]:
    from tllboost.vectorizers.networks import NETWORKS, is_at_hand

    return [row for row in _vectorizers() if row.weights == "built in"] + [
        Row(
            name,
            network.description,
            network.n_dims,
            "in the cache" if is_at_hand(network) else "to download",
        )
        for name, network in NETWORKS.items()
    ]


def _as_dict(row: Row) -> dict[str, Any]:
    """Return a row, without what is not told of its kind."""
    return {key: value for key, value in row._asdict().items() if row.weights or value}


def _print(rows: list[Row], *, indent: int) -> None:
    """Print rows as a table, folded to a terminal; in a pipe each keeps to its line."""
    starts = [row.name for row in rows]
    if any(row.weights for row in rows):
        rows = [Row("name", "what it is", "dims", "weights"), *rows]
        width = max(len(row.name) for row in rows)
        starts = [
            f"{row.name:<{width}}  {row.n_dims or '':>4}  {row.weights:<12}"
            for row in rows
        ]
    width = indent + max(map(len, starts)) + 2
    most = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    for start, row in zip(starts, rows, strict=True):
        start = " " * indent + start
        for line in textwrap.wrap(row.description, max(20, most - width - 1)):
            typer.echo(f"{start:<{width}}{line}")
            start = ""


COMMANDS = {"list": list_names}
