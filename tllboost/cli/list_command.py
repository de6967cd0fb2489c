"""``tllboost list``: the names that the other commands take."""

from __future__ import annotations

import shutil
import sys
import textwrap
from enum import StrEnum
from typing import Annotated, Any

import typer

from tllboost.cli import options
from tllboost.cli.streams import write_json

Kind = StrEnum(
    "Kind", "vectorizers networks projections merges heads protocols metrics formats"
)


_HEAD = "name", "what it is", "dims", "weights"
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
    "heads": {
        "package.module:name": "any scikit-learn classifier: class, object or function",
        "NAME?option=value": "options, as `tllboost list heads NAME` shows them",
        "NAME?option={a,b}": "a cell of each value; also of vectorizers, projections",
    },
}


def list_names(
    kind: Annotated[
        Kind | None, typer.Argument(help="What to list; all of them by default.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(help="A vectorizer, projection or head: list its options."),
    ] = None,
    *,
    as_json: options.Json = False,
) -> None:
    """List the names that `-v`, `-p`, `-m`, `-c`, `--protocol` and others take.

    Vectorizers are listed with the width of their vectors and the source of their
    weights. Networks are listed with what to take them for, their size, their licence,
    and whether their weights are on this machine. The command makes no network
    connection.

    **Examples**

        tllboost list
        tllboost list heads
        tllboost list heads xgboost
        tllboost list networks --json
    """
    kinds = list(Kind) if kind is None else [kind]
    found = {one.value: _rows(one.value) for one in kinds if name is None}
    if name is not None:
        found = {"options": _options(str(kind), name)}
    if as_json:
        write_json(found)
        return
    if not any(found.values()):
        typer.echo("no options")
        return
    for one, rows in found.items():
        if kind is None:
            typer.echo(one if one == kinds[0] else f"\n{one}")
        _print(rows, indent=2 if kind is None else 0)


def _rows(kind: str) -> list[dict[str, Any]]:
    """Return names and descriptions, importing no library behind a name.

    Vectorizers and networks also tell the width of their vectors and the source of
    their weights, networks their size and licence.
    """
    if kind == "vectorizers":
        rows = _vectorizers()
    elif kind == "networks":
        from tllboost.vectorizers import NETWORKS, is_at_hand

        rows = [row for row in _vectorizers() if row["weights"] == "built in"]
        for name, one in NETWORKS.items():
            weights = "in the cache" if is_at_hand(one["repository"]) else "to download"
            told = {"name": name, "weights": weights}
            size = f"{one['millions']} million weights, licence {one['licence']}"
            rows.append(one | told | {"description": f"{one['description']}; {size}"})
    else:
        rows = [
            {"name": k, "description": v} for k, v in options.names_of(kind).items()
        ]
    more = _MORE.get(kind, {})
    return rows + [{"name": k, "description": v} for k, v in more.items()]


def _options(kind: str, name: str) -> list[dict[str, Any]]:
    """Return the options of a thing, what may be written and what is taken if not."""
    from tllboost.registry import as_text, import_path, options_of

    options.refuse_if(kind not in _MAKERS, f"{kind} have no options")
    made = import_path(_MAKERS[kind])(name)
    known = options_of(made) if kind == "heads" else getattr(made, "OPTIONS", {})
    usual = made.get_params() if known else {}
    words = {key: getattr(one, "words", "text") for key, one in known.items()}
    return [
        {"name": key, "default": as_text(usual[key]), "description": told}
        for key, told in words.items()
    ]


_MAKERS = {
    "vectorizers": "tllboost.vectorizers:make_vectorizer",
    "projections": "tllboost.projections:make_projection",
    "heads": "tllboost.heads:make_head",
}


def _vectorizers() -> list[dict[str, Any]]:
    from tllboost.vectorizers import VECTORIZERS, make_vectorizer

    rows = []
    for kind, entry in VECTORIZERS.items():
        # A description begins with the spelling, which says more than the kind alone.
        name, _, text = entry.description.partition(": ")
        weights = _WEIGHTS.get(kind, "hub or file")
        is_here = weights in ("none needed", "built in")
        n_dims = make_vectorizer(kind).n_dims if is_here else None
        told: dict[str, Any] = {"name": name, "description": text}
        rows.append(told | {"n_dims": n_dims, "weights": weights})
    return rows


def _print(rows: list[dict[str, Any]], *, indent: int) -> None:
    """Print rows as a table, folded to a terminal; in a pipe each keeps to its line."""
    told = [(row["name"], row.get("default")) for row in rows]
    starts = [name if usual is None else f"{name}={usual}" for name, usual in told]
    if "weights" in rows[0]:
        rows = [dict(zip(rows[0], _HEAD, strict=True)), *rows]
        width = max(len(row["name"]) for row in rows)
        starts = [
            f"{row['name']:<{width}}  {row.get('n_dims') or '':>4}  "
            f"{row.get('weights', ''):<12}"
            for row in rows
        ]
    width = indent + max(map(len, starts)) + 2
    most = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    for start, row in zip(starts, rows, strict=True):
        start = " " * indent + start
        for line in textwrap.wrap(row["description"], max(20, most - width - 1)):
            typer.echo(f"{start:<{width}}{line}")
            start = ""


COMMANDS = {"list": list_names}
