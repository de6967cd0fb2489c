"""``tllboost bundle``: look into a bundle, and make sure that it can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from tllboost.cli.options import Bundle, Json, TrustCode, Weights
from tllboost.cli.streams import json_text

if TYPE_CHECKING:
    from tllboost.classifier import PairClassifier

__all__ = []


def add_to(app: typer.Typer) -> None:
    """Give `app` the commands ``bundle show`` and ``bundle verify``."""
    bundle = typer.Typer(
        no_args_is_help=True, help="Look into a bundle, and verify that it is sound."
    )
    bundle.command("show")(show)
    bundle.command("verify")(verify)
    app.add_typer(bundle, name="bundle")


def show(bundle: Bundle, as_json: Json = False) -> None:
    """Show what a bundle holds: its cells, figures, threshold, networks and versions.

    The sha256 of every member is checked; nothing is loaded or run.

    **Examples**

        tllboost bundle show best.tllb
        tllboost bundle show best.tllb --json
    """
    from tllboost.bundle import read_manifest

    manifest = read_manifest(bundle)
    if as_json:
        typer.echo(json_text(manifest))
        return
    for name, text in _lines(manifest):
        typer.echo(f"{name:<12} {text}")


def verify(
    bundle: Bundle, weights: Weights = None, trust_code: TrustCode = False
) -> None:
    """Load a bundle, score its golden pairs again, and open the networks it holds.

    Exit code 5 if anything is not as it was saved.

    **Examples**

        tllboost bundle verify best.tllb
        tllboost bundle verify best.tllb --weights resnet50.safetensors
    """
    from tllboost.bundle import load_bundle

    classifier = load_bundle(
        bundle, weights=weights, offline=True, trust_code=trust_code
    )
    for part in _parts(classifier):
        if note := part.verify():
            typer.echo(f"{bundle}: {note}", err=True)
    typer.echo(f"{bundle}: sound: every member and the golden scores are as saved")


def _lines(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a reader wants to know, a line each."""
    from tllboost.bundle.scoring import threshold_of

    cells = manifest["cells"]
    lines = []
    for index, cell in enumerate(cells):
        vectorizer = manifest["vectorizers"][cell["vectorizer"]]
        if len(cells) > 1:
            lines += [("cell", f"{index + 1} of {len(cells)}")]
        lines += _cell_lines(cell, vectorizer)
    lines += [
        ("threshold", f"{threshold_of(manifest):.4f} (a probability)"),
        ("created", manifest["created"]),
    ]
    files = [part["file"] for one in manifest["vectorizers"] for part in one["parts"]]
    lines += [("network", text) for text in dict.fromkeys(map(_network, files))]
    lines += [("row", _listed(manifest["cell"]))]
    lines += [("metrics", _listed(manifest["metrics"]))]
    lines += [("versions", _listed(manifest["versions"]))]
    return [(name, text) for name, text in lines if text]


def _cell_lines(
    cell: dict[str, Any], vectorizer: dict[str, Any]
) -> list[tuple[str, str]]:
    return [
        ("vectorizer", f"{vectorizer['label']}, {vectorizer['n_dims']} numbers"),
        ("projection", cell["projection"]),
        ("merge", cell["merge"]),
        ("head", f"{cell['head']['name']} ({cell['head']['format']})"),
    ]


def _parts(classifier: PairClassifier) -> list[Any]:
    """Return the parts of all vectorizers, each once."""
    vectorizers = [cell.vectorizer for cell in classifier.cells_]
    parts = [part for one in vectorizers for part in getattr(one, "parts", [one])]
    return list({id(part): part for part in parts}.values())


def _network(file: dict[str, Any] | None) -> str:
    if file is None:
        return ""
    where = "in the bundle" if file["embedded"] else "not in the bundle: --weights FILE"
    sha256 = file["sha256"][:12]
    return f"{file['name']}, {file['size'] / 1e6:.1f} MB, sha256 {sha256}…, {where}"


def _listed(record: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in record.items())


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
