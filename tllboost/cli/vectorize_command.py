"""``tllboost vectorize``: images to vectors, into the store and a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from tllboost.cli import options
from tllboost.cli.options import refuse_if
from tllboost.cli.streams import message_to, progress_bar, tell_failures, write_json


def vectorize(
    images: Annotated[
        list[Path], Argument(help="Images, and folders with their subfolders.")
    ],
    *,
    vectorizer: options.VectorizerNames = None,
    weights: options.LocalWeights = None,
    out: Annotated[
        Path | None, Option(help="Also write ids and vectors to this .npz file.")
    ] = None,
    store: options.Store = None,
    failures_out: options.FailuresOut = None,
    strict: options.Strict = False,
    workers: options.Workers,
    networks: options.Networks,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Vectorize images once: stored vectors are not computed again.

    An image that fails is named with its reason, and the others go on. The exit code
    is 4 if some images failed, and 3 if all did. With --strict the first image that
    fails stops the command, with exit code 3.

    **Examples**

        tllboost vectorize images
        tllboost vectorize left right -v onnx:net.onnx -v classic+onnx:net.onnx
        tllboost vectorize images -v timm:resnet50 --weights resnet50.safetensors
        tllboost vectorize images -v classic --out classic.npz
        tllboost vectorize images -v classic --json
        tllboost vectorize pics -v classic --backend dask --scheduler tcp://a:8786
    """
    from tllboost.images.folders import name_images
    from tllboost.store import VectorStore
    from tllboost.vectorizers import DEFAULT_VECTORIZERS
    from tllboost.vectorizing import vectorize_many

    names = vectorizer or DEFAULT_VECTORIZERS
    refuse_if(
        out is not None and len(names) > 1,
        f"--out {str(out)!r} holds the vectors of one vectorizer, got {len(names)}: "
        "give one -v, or join them by '+'",
    )
    made = networks.make(names, weights)
    named = name_images(images, tell=message_to(quiet=quiet))
    try:
        with workers.open() as backend, progress_bar(quiet=quiet) as progress:
            results = vectorize_many(
                made,
                list(named.values()),
                ids=list(named),
                store=store or VectorStore(),
                backend=backend,
                progress=progress,
                strict=strict,
            )
    except KeyboardInterrupt:
        message_to(quiet=quiet)("interrupted: the same command goes on where it was")
        raise typer.Exit(130) from None
    paths = list(map(str, named.values()))
    failures = {
        paths[index]: why
        for result in results
        for index, why in result.failures.items()
    }
    good = [index for index in range(len(paths)) if index not in results[0].failures]
    if out is not None and good:
        from tllboost.files import write_vectors

        ids, vectors = list(named), results[0].vectors
        if len(good) < len(paths):  # else as they are: a copy may be large
            ids, vectors = [ids[index] for index in good], vectors[good]
        write_vectors(out, ids, vectors)
    told = [
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
    if as_json:
        missing = [{"what": "image", "where": p, "why": w} for p, w in failures.items()]
        write_json({"n_images": len(paths), "vectorizers": told, "failures": missing})
    else:
        for one in told:
            typer.echo(_LINE.format(n_images=len(paths), **one))
        if out is not None and good:
            typer.echo(f"{out}: {len(good)} vectors")
    code = tell_failures(failures, failures_out)
    all_failed = all(len(one.failures) == len(paths) for one in results)
    raise typer.Exit(3 if all_failed else code)


_LINE = (
    "{vectorizer}: {n_images} images, {n_dims} numbers each; {n_computed} computed, "
    "{n_reused} reused, {n_failed} failed, {seconds:.1f} s"
)
