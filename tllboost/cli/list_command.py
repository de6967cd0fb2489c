"""``tllboost list``: the names that the other commands take."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, NamedTuple

import typer

from tllboost.cli.options import Json
from tllboost.cli.streams import json_text

__all__ = []

_NONE_NEEDED = "none needed"
_BUILT_IN = "built in"
_YOUR_FILE = "your file"
_HUB_OR_FILE = "hub or file"
_IN_CACHE, _TO_DOWNLOAD = "in the cache", "to download"


class Kind(StrEnum):
    """What can be listed."""

    vectorizers = "vectorizers"
    networks = "networks"
    projections = "projections"
    merges = "merges"
    heads = "heads"
    protocols = "protocols"
    metrics = "metrics"
    formats = "formats"


class Row(NamedTuple):
    """A name, what it is, and of a vectorizer how wide its vectors are."""

    name: str
    description: str
    n_dims: int | None = None
    weights: str = ""


_OPTIONS = (
    ("KIND?trim=true", "borders of one colour cut off first"),
    ("KIND?flip=true", "mean of the image and its mirror image"),
    ("KIND?views=whole,centre,grey", "a vector a view, side by side"),
    ("KIND+KIND?weight=0.3", "of one that is joined: its part of the cosine; else 1"),
    ("KIND?cells=3", "of clip-grid, timm-grid and onnx: the map on a 3 x 3 grid"),
)
_WEIGHTS = {"classic": _NONE_NEEDED, "pixels": _NONE_NEEDED, "pocket": _BUILT_IN}
_WEIGHTS |= {"onnx": _YOUR_FILE, "vectors": _YOUR_FILE}


def add_to(app: typer.Typer) -> None:
    """Give `app` the command ``list``."""
    app.command("list")(list_names)


def list_names(
    kind: Annotated[
        Kind | None, typer.Argument(help="What to list; all of them by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the names that `-v`, `-p`, `-m`, `-c`, `--protocol` and others take.

    Of a vectorizer it says how wide its vectors are and where its weights come from;
    of a network, whether the hub's local cache holds them. No network is asked.

    **Examples**

        tllboost list
        tllboost list heads
        tllboost list networks --json
    """
    kinds = list(Kind) if kind is None else [kind]
    if as_json:
        found = {one.value: [_as_dict(row) for row in _rows(one)] for one in kinds}
        typer.echo(json_text(found))
        return
    for number, one in enumerate(kinds):
        if kind is None:
            typer.echo(f"{'' if number == 0 else chr(10)}{one.value}")
        for line in _aligned(_rows(one), indent=2 if kind is None else 0):
            typer.echo(line)


def _rows(kind: Kind) -> list[Row]:
    """Return names and descriptions, importing no library behind a name."""
    if kind is Kind.vectorizers:
        return _vectorizers()
    if kind is Kind.networks:
        return _networks()
    if kind is Kind.projections:
        from tllboost.projections import PROJECTIONS

        return [
            Row("none", "vectors as the vectorizer gives them"),
            *_entries(PROJECTIONS),
            Row("finetune", "the last stages of a timm: or clip: network, trained"),
            Row("a/b", "one after the other, for example triplet/contrastive"),
        ]
    if kind is Kind.merges:
        from tllboost.merges import MERGES

        own = Row("a+b", "several merges side by side, for example dot+l1")
        return [*_entries(MERGES), own]
    if kind is Kind.heads:
        from tllboost.heads import HEADS

        own = Row("package.module:Class", "any scikit-learn classifier")
        return [*_entries(HEADS), own]
    if kind is Kind.protocols:
        from tllboost.splits import PROTOCOLS

        return _entries(PROTOCOLS)
    if kind is Kind.formats:
        from tllboost.grid.matrix import FORMATS

        return _entries(FORMATS)
    from tllboost.metrics import METRICS

    return [Row(name, metric.description) for name, metric in METRICS.items()]


def _vectorizers() -> list[Row]:
    from tllboost.vectorizers import VECTORIZERS, make_vectorizer

    rows = []
    for kind in VECTORIZERS:
        # A description begins with the spelling, which says more than the kind alone.
        name, _, text = VECTORIZERS[kind].description.partition(": ")
        weights = _WEIGHTS.get(kind, _HUB_OR_FILE)
        here = weights in (_NONE_NEEDED, _BUILT_IN)
        n_dims = make_vectorizer(kind).n_dims if here else None
        rows.append(Row(name, text, n_dims, weights))
    return [
        *rows,
        *(Row(name, text) for name, text in _OPTIONS),
        Row("a+b", "fusion: each part scaled to length 1, then side by side"),
        Row("package.module:Class", "your own, with transform(images) -> vectors"),
    ]


def _networks() -> list[Row]:
    from tllboost.vectorizers.networks import NETWORKS, is_at_hand

    rows = [
        Row(
            name,
            network.description,
            network.n_dims,
            _IN_CACHE if is_at_hand(network) else _TO_DOWNLOAD,
        )
        for name, network in NETWORKS.items()
    ]
    return [
        *(row for row in _vectorizers() if row.weights == _BUILT_IN),
        *rows,
        Row("timm:NAME", "any other of timm: timm.list_pretrained()"),
        Row("clip:ARCH:TAG", "any other of open_clip: open_clip.list_pretrained()"),
    ]


def _entries(registry: Mapping[str, tuple[str, str]]) -> list[Row]:
    return [Row(name, registry[name][1]) for name in registry]


def _as_dict(row: Row) -> dict[str, object]:
    plain: dict[str, object] = {"name": row.name, "description": row.description}
    if row.weights:
        plain |= {"n_dims": row.n_dims, "weights": row.weights}
    return plain


def _dims(row: Row) -> str:
    if row.weights == "weights":
        return "dims"
    return str(row.n_dims or "")


def _aligned(rows: list[Row], *, indent: int) -> Iterable[str]:
    """Yield the rows as lines, the descriptions folded where somebody looks on."""
    starts = [" " * indent + row.name for row in rows]
    if any(row.weights for row in rows):
        rows = [Row("name", "what it is", weights="weights"), *rows]
        starts = [" " * indent + "name", *starts]
        width = max(map(len, starts))
        starts = [
            f"{start:<{width}}  {_dims(row):>4}  {row.weights:<12}"
            for start, row in zip(starts, rows, strict=True)
        ]
    width = max(map(len, starts)) + 2
    # In a pipe a name keeps to its line.
    most = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    for start, row in zip(starts, rows, strict=True):
        first, *more = textwrap.wrap(row.description, max(20, most - width - 1))
        yield f"{start:<{width}}{first}"
        yield from (f"{'':<{width}}{line}" for line in more)
