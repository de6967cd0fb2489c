"""``tllboost store``: look at, verify and prune the vector store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tllboost.cli import options
from tllboost.cli.streams import write_json


def info(*, store: options.Store = None, as_json: options.Json = False) -> None:
    """Show what is stored, one line for each vectorizer.

    **Examples**

        tllboost store info
        tllboost store info --store results/demo/store --json
    """
    from tllboost.store import VectorStore, default_store, is_store

    folder = store or default_store()
    entries: list[dict[str, Any]] = []
    if is_store(folder):
        with VectorStore(folder) as opened:
            entries = opened.info()
    if as_json:
        write_json({"folder": str(folder), "stored": entries})
        return
    typer.echo(f"{folder}: {len(entries) or 'nothing is'} stored")
    for entry in entries:
        typer.echo(
            f"  {entry['n_rows']:>8} vectors of {entry['n_dims']:>5} numbers, "
            f"{entry['n_bytes'] / 1e6:8.1f} MB, since {entry['created']}: "
            f"{entry['fingerprint']}"
        )


def verify(*, store: options.Store = None, as_json: options.Json = False) -> None:
    """Read every stored vector; the exit code is 5 if any is damaged.

    **Examples**

        tllboost store verify
    """
    with _existing(store) as opened:
        n_rows = sum(entry["n_rows"] for entry in opened.info())
        problems, folder = opened.verify(), opened.folder
    if as_json:
        write_json({"folder": str(folder), "n_vectors": n_rows, "problems": problems})
    elif problems:
        typer.echo("\n".join(problems))
    else:
        typer.echo(f"{folder}: all {n_rows} vectors are as they were stored")
    if problems:
        typer.echo(
            f"{folder}: {len(problems)} problems; `tllboost store prune` deletes "
            "damaged vectors, which are then computed again",
            err=True,
        )
        raise typer.Exit(5)


def prune(
    *,
    store: options.Store = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            help="Delete all vectors of this fingerprint, as `store info` shows it, or "
            "of all fingerprints that begin with it."
        ),
    ] = None,
) -> None:
    """Delete damaged vectors, or all vectors of a vectorizer, and free the space.

    Deleted vectors are computed again when they are needed.

    **Examples**

        tllboost store prune
        tllboost store prune --fingerprint 'classic|descriptors 1|'
    """
    with _existing(store) as opened:
        n_dropped = opened.prune(fingerprint)
    typer.echo(f"{opened.folder}: deleted {n_dropped} vectors")


def _existing(store: Path | None) -> Any:
    """Return the store, which a command that looks at it must not make."""
    from tllboost.errors import DataError
    from tllboost.store import VectorStore, default_store, is_store

    folder = store or default_store()
    if not is_store(folder):
        msg = f"{folder}: there is no vector store; give --store, or vectorize images"
        raise DataError(msg)
    return VectorStore(folder)


COMMANDS = {"info": info, "verify": verify, "prune": prune}
