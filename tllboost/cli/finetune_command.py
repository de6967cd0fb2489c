"""``tllboost finetune``: train the last stages of a network on your pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tllboost.cli.completion import complete_protocol, complete_vectorizer
from tllboost.cli.options import (
    Anywhere,
    Device,
    Groups,
    Images,
    Left,
    Offline,
    Quiet,
    Right,
    Seed,
)

if TYPE_CHECKING:
    from tllboost.pairs.pair_table import PairTable
    from tllboost.splits import PairSet

__all__ = []


def add_to(app: typer.Typer) -> None:
    """Give `app` the command ``finetune``."""
    app.command("finetune")(finetune)


def finetune(
    pairs: Annotated[
        Path,
        typer.Argument(help="Pair table, or with --groups the folder of images."),
    ],
    vectorizer: Annotated[
        str,
        typer.Option(
            "--vectorizer",
            "-v",
            autocompletion=complete_vectorizer,
            help="The network to train: timm:NAME@FILE or clip:ARCH:TAG@FILE.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Weights to write, a .safetensors file."),
    ],
    images: Images = None,
    left: Left = None,
    right: Right = None,
    groups: Groups = None,
    anywhere: Anywhere = False,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Local weights of the network, as in @FILE."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            autocompletion=complete_protocol,
            help="Whose training set to learn from: holdout, or given where the "
            "table has a split column.",
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Learn from all pairs but a validation part: no pair is left to "
            "measure on.",
        ),
    ] = False,
    seed: Seed = 0,
    stages: Annotated[
        int | None,
        typer.Option("--stages", help="How many of the last stages to train [2]."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", help="Passes over the training matches [6]."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Matches a training step [32].")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--lr", help="Highest learning rate [3e-4].")
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(
            "--views",
            help="Augmented views kept of each image, 0 for new ones at every pass "
            "[6 on a CPU, 0 on a GPU].",
        ),
    ] = None,
    device: Device = "auto",
    offline: Offline = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace other weights in --out.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    r"""Train the last stages of a network on the training set of your pairs.

    The pairs are split as `tllboost grid` splits them with the same protocol and seed,
    and the test set is left alone: a grid of that seed measures the new network
    honestly. The epoch that ranks the validation set best is kept; a network that
    does not gain stays as it was. A training that was stopped goes on when the same
    command is given again.

    What is printed is the name of the new vectorizer.

    **Examples**

        tllboost finetune photos --groups folder \
            -v timm:mobilenetv2_100 --out net.safetensors
        tllboost finetune pairs.csv --left left --right right --stages 1 \
            -v timm:resnet50@resnet50.safetensors --out net.safetensors
        tllboost finetune pairs.csv --images photos -v clip:RN50:openai --all \
            --out clip.safetensors
    """
    from tllboost.cli.options import make_vectorizers, read_input
    from tllboost.cli.progress import message_to, progress_bar
    from tllboost.finetune import FineTuneSettings
    from tllboost.finetune import finetune as train_network

    asked = {
        "n_stages": stages,
        "n_epochs": epochs,
        "batch_size": batch,
        "learning_rate": rate,
        "n_views": views,
    }
    given: dict[str, Any] = {k: v for k, v in asked.items() if v is not None}
    settings = FineTuneSettings(**given)
    (made,) = make_vectorizers(
        [vectorizer], weights=weights, device=device, offline=offline
    )
    folders = {"images": images, "left": left, "right": right}
    table = read_input(pairs, **folders, groups=groups, anywhere=anywhere)
    table, train, validation = _sides(table, protocol, seed, everything)
    with progress_bar(quiet=quiet) as progress:
        tuned = train_network(
            made,
            table.paths,
            train,
            validation,
            out,
            settings=settings,
            seed=seed,
            device=device,
            overwrite=overwrite,
            progress=progress,
            message=message_to(quiet=quiet),
        )
    typer.echo(tuned.spec)


def _sides(
    table: PairTable, protocol: str | None, seed: int, everything: bool
) -> tuple[PairTable, PairSet, PairSet]:
    """Return the table as the grid orders it, and the sides to learn from."""
    from tllboost.errors import UsageError
    from tllboost.grid.data import gather
    from tllboost.splits import Protocol, training_sets

    if everything and protocol is not None:
        msg = f"--all leaves no test set, so --protocol {protocol!r} says nothing"
        raise UsageError(msg)
    data = gather(table, {})
    table = data.table
    if everything:
        train, validation = training_sets(
            table.left,
            table.right,
            table.label,
            data.component,
            protocol=Protocol(),
            seed=seed,
        )
        return table, train, validation
    rule = Protocol(protocol or ("holdout" if table.split is None else "given"))
    splits = data.splits(rule, seed)
    if len(splits) != 1:
        msg = (
            f"--protocol {rule.name!r} trains on {len(splits)} sides, and one network "
            "comes out: take holdout or given"
        )
        raise UsageError(msg)
    return table, splits[0].train, splits[0].validation
