"""``tllboost vectorize``: images to vectors, into the store and a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tllboost.cli.completion import complete_vectorizer
from tllboost.cli.options import (
    Backend,
    Device,
    Json,
    Offline,
    Quiet,
    Scheduler,
    Store,
    Strict,
    make_vectorizers,
    opened,
)
from tllboost.cli.progress import message_to, progress_bar
from tllboost.cli.streams import json_text
from tllboost.errors import printable
from tllboost.files import csv_text

if TYPE_CHECKING:
    from tllboost.processes import Backend as Works
    from tllboost.vectorizers import Vectorizer
    from tllboost.vectorizing import Vectorized

__all__ = []


def add_to(app: typer.Typer) -> None:
    """Give `app` the command ``vectorize``."""
    app.command("vectorize")(vectorize)


def vectorize(
    images: Annotated[
        list[Path], typer.Argument(help="Images, and folders with their subfolders.")
    ],
    vectorizer: Annotated[
        list[str] | None,
        typer.Option(
            "--vectorizer",
            "-v",
            autocompletion=complete_vectorizer,
            help="Name, as `tllboost list vectorizers` shows them; may be repeated "
            "[classic pocket].",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", help="File of the network's weights, as in NAME@FILE."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Also write ids and vectors to this .npz file."),
    ] = None,
    store: Store = None,
    failures: Annotated[
        Path | None,
        typer.Option(
            "--failures", help="Write the images that failed, and why, to this CSV."
        ),
    ] = None,
    strict: Strict = False,
    backend: Backend = "local",
    scheduler: Scheduler = None,
    device: Device = "auto",
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Vectorize images once; what the store holds already is not computed again.

    An image that fails is named with its reason and takes no other with it. Exit
    code 4 if some failed, 3 if all did, or at the first with --strict.

    **Examples**

        tllboost vectorize images
        tllboost vectorize left right -v onnx:net.onnx -v classic+onnx:net.onnx
        tllboost vectorize images -v timm:resnet50 --weights resnet50.safetensors
        tllboost vectorize images -v classic --out classic.npz
        tllboost vectorize images -v classic --json
        tllboost vectorize pics -v classic --backend dask --scheduler tcp://a:8786
    """
    from tllboost.images.folders import name_images
    from tllboost.store import default_store
    from tllboost.vectorizers import DEFAULT_VECTORIZERS

    names = vectorizer or DEFAULT_VECTORIZERS
    _check_out(out, names)
    made = make_vectorizers(names, weights=weights, device=device, offline=offline)
    named = name_images(images)
    folder = default_store() if store is None else store
    try:
        with opened(backend, scheduler) as who:
            results = _vectorize_all(made, named, folder, who, quiet, strict)
    except KeyboardInterrupt:
        message_to(quiet=quiet)("interrupted: the same command goes on where it was")
        raise typer.Exit(130) from None
    n_written = 0 if out is None else _write(out, list(named), results[0])
    reasons = _reasons(named, results)
    if failures is not None:
        _write_failures(failures, reasons)
    if as_json:
        typer.echo(json_text(_as_dict(made, results, reasons, len(named))))
    else:
        for one, result in zip(made, results, strict=True):
            typer.echo(_summary(one.label, len(named), result))
        if n_written:
            typer.echo(f"{out}: {n_written} vectors")
    raise typer.Exit(_tell(reasons, len(named), results))


def _check_out(out: Path | None, names: Sequence[str]) -> None:
    if out is not None and len(names) > 1:
        from tllboost.errors import UsageError

        msg = (
            f"--out {str(out)!r} holds the vectors of one vectorizer, got "
            f"{len(names)}: give one -v, or join them by '+'"
        )
        raise UsageError(msg)


def _vectorize_all(
    made: list[Vectorizer],
    images: dict[str, Path],
    folder: Path,
    backend: Works,
    quiet: bool,
    strict: bool,
) -> list[Vectorized]:
    from tllboost.store import VectorStore
    from tllboost.vectorizing import vectorize as vectorize_images

    with VectorStore(folder) as store, progress_bar(quiet=quiet) as progress:
        return [
            vectorize_images(
                one,
                list(images.values()),
                ids=list(images),
                store=store,
                backend=backend,
                progress=progress,
                strict=strict,
            )
            for one in made
        ]


def _summary(label: str, n_images: int, result: Vectorized) -> str:
    return (
        f"{label}: {n_images} images, {result.vectors.shape[1]} numbers each; "
        f"{result.n_computed} computed, {result.n_reused} reused, "
        f"{len(result.failures)} failed, {result.seconds:.1f} s"
    )


def _as_dict(
    made: list[Vectorizer],
    results: list[Vectorized],
    reasons: list[tuple[str, str]],
    n_images: int,
) -> dict[str, Any]:
    """Return what a program wants to know."""
    vectorizers = [
        {
            "vectorizer": one.label,
            "n_dims": result.vectors.shape[1],
            "n_computed": result.n_computed,
            "n_reused": result.n_reused,
            "n_failed": len(result.failures),
            "seconds": result.seconds,
        }
        for one, result in zip(made, results, strict=True)
    ]
    failures = [{"what": "image", "where": path, "why": why} for path, why in reasons]
    return {
        "n_images": n_images,
        "vectorizers": vectorizers,
        "failures": failures,
    }


def _write(out: Path, ids: list[str], result: Vectorized) -> int:
    """Write the vectors of the images that did not fail; return how many."""
    good = [index for index in range(len(ids)) if index not in result.failures]
    if not good:
        return 0
    from tllboost.files import write_vectors

    write_vectors(out, [ids[index] for index in good], result.vectors[good])
    return len(good)


def _reasons(
    images: dict[str, Path], results: list[Vectorized]
) -> list[tuple[str, str]]:
    """Return each failed image once a reason."""
    paths = list(images.values())
    return list(
        dict.fromkeys(
            (str(paths[index]), reason)
            for result in results
            for index, reason in result.failures.items()
        )
    )


def _write_failures(file: Path, reasons: list[tuple[str, str]]) -> None:
    from tllboost.files import write_text

    rows = [("image", path, why) for path, why in reasons]
    write_text(file, csv_text(("what", "where", "why"), rows))


def _tell(
    reasons: list[tuple[str, str]], n_images: int, results: list[Vectorized]
) -> int:
    """Name what failed; return the exit code."""
    for path, why in reasons:
        typer.echo(f"tllboost: {printable(path)}: {why}", err=True)
    if all(len(result.failures) == n_images for result in results):
        return 3
    return 4 if reasons else 0
