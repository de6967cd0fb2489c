"""``tllboost bundle``: look into a bundle, and make sure that it can be used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from tllboost.cli import options
from tllboost.cli.streams import write_json


def show(bundle: options.Bundle, *, as_json: options.Json = False) -> None:
    """Show what a bundle holds: its cells, figures, threshold, networks and versions.

    The sha256 of every member is checked; nothing is loaded or run.

    **Examples**

        tllboost bundle show best.tllb
        tllboost bundle show best.tllb --json
    """
    from tllboost.bundle import read_manifest

    manifest = read_manifest(bundle)
    if as_json:
        write_json(manifest)
        return
    for name, text in _lines(manifest):
        typer.echo(f"{name:<12} {text}")


def verify(bundle: options.Bundle, *, beside: options.Unbundled) -> None:
    """Load a bundle, score its golden pairs again, and open its networks.

    The exit code is 5 if anything is not as it was saved.

    **Examples**

        tllboost bundle verify best.tllb
        tllboost bundle verify best.tllb --weights resnet50.safetensors
    """
    from tllboost.classifier import load_bundle

    classifier = load_bundle(bundle, offline=True, **vars(beside))
    vectorizers = [cell.vectorizer for cell in classifier.cells_]
    parts = [part for one in vectorizers for part in getattr(one, "parts", [one])]
    for part in {id(part): part for part in parts}.values():
        if note := part.verify():
            typer.echo(f"{bundle}: {note}", err=True)
    typer.echo(f"{bundle}: sound: every member and the golden scores are as saved")


def _lines(manifest: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a reader wants to know, a line each."""
    from tllboost.calibration import FLAT, Calibration
    from tllboost.vectorizers import with_weights

    cells = manifest["cells"]
    for number, cell in enumerate(cells, 1):
        parts = cell["vectorizer"]
        own = [manifest["vectorizers"][part["index"]] for part in parts]
        labels = [one["label"] for one in own]
        label = "+".join(with_weights(labels, [part["weight"] for part in parts]))
        n_dims = sum(one["n_dims"] for one in own)
        if len(cells) > 1:
            share = cell["weight"] / sum(one["weight"] for one in cells)
            yield "cell", f"{number} of {len(cells)}, weight {share:.3g}"
        yield "vectorizer", f"{label}, {n_dims} numbers"
        yield "projection", cell["projection"]
        yield "merge", cell["merge"]
        yield "head", cell["head"]["name"]
    curve = Calibration(**manifest["calibration"])
    threshold = curve.probability(manifest["threshold"])
    yield "threshold", f"{threshold:.4f} (a probability, prior {curve.prior:.4g})"
    if curve.is_flat:
        yield "note", FLAT
    if manifest["refitted"]:
        yield "fitted", f"on all {manifest['refitted']:,} pairs, after the test"
    yield "created", manifest["created"]
    files = [one["file"] for one in manifest["vectorizers"]]
    for text in dict.fromkeys(_network(file) for file in files if file is not None):
        yield "network", text
    for key in ("cell", "metrics", "versions"):
        if told := [f"{k} {_value(v)}" for k, v in manifest[key].items()]:
            yield "row" if key == "cell" else key, ", ".join(told)


def _network(file: dict[str, Any]) -> str:
    where = "in the bundle" if file["embedded"] else "not in the bundle: --weights FILE"
    sha256 = file["sha256"][:12]
    return f"{file['name']}, {file['size'] / 1e6:.1f} MB, sha256 {sha256}…, {where}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


COMMANDS = {"show": show, "verify": verify}
