"""What the commands that use a bundle share: options, opening it, telling failures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tllboost.printable import printable

if TYPE_CHECKING:
    from tllboost.classifier import PairClassifier

__all__ = [
    "Bundle",
    "Csv",
    "TrustCode",
    "Weights",
    "open_bundle",
    "tell_failures",
    "write_out",
]

Bundle = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="Bundle (.tllb) that a grid wrote.")
]
Csv = Annotated[bool, typer.Option("--csv", help="Write CSV.")]
Weights = Annotated[
    list[Path] | None,
    typer.Option(
        "--weights",
        help="Where a network lies that the bundle names and does not hold; may be "
        "repeated.",
    ),
]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Import the modules that the bundle names, which runs their code.",
    ),
]


def open_bundle(
    bundle: Path,
    *,
    weights: list[Path] | None,
    store: Path | None,
    device: str,
    offline: bool,
    trust_code: bool,
) -> PairClassifier:
    """Return the classifier in a bundle, its vectors kept in the user's store."""
    from tllboost.bundle import load_bundle
    from tllboost.store import default_store

    return load_bundle(
        bundle,
        weights=weights,
        device=device,
        store=default_store() if store is None else store,
        offline=offline,
        trust_code=trust_code,
    )


def write_out(text: str) -> None:
    """Write data to standard output; names that are no valid text stay as they are."""
    typer.echo(text.encode("utf-8", "surrogateescape"), nl=False)


def tell_failures(failures: Mapping[str, str]) -> int:
    """Name each picture that failed on standard error; return the exit code."""
    for name, reason in failures.items():
        typer.echo(f"tllboost: {printable(name)}: {reason}", err=True)
    return 4 if failures else 0
