"""``tllboost finetune``: train the last stages of a network on your pairs."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

import typer

from tllboost.cli import options
from tllboost.cli.options import option, refuse_if
from tllboost.cli.streams import message_to, progress_bar
from tllboost.finetune.settings import FineTuneSettings


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the network is trained: the fields of `FineTuneSettings` that users set."""

    panel = "How it is trained"
    n_stages: int = option(
        FineTuneSettings.n_stages, "Number of last stages to train.", "--stages"
    )
    n_epochs: int = option(
        FineTuneSettings.n_epochs, "Passes over the training matches.", "--epochs"
    )
    batch_size: int = option(
        FineTuneSettings.batch_size, "Matches in each training step.", "--batch"
    )
    learning_rate: float = option(
        FineTuneSettings.learning_rate, "Highest learning rate.", "--lr"
    )
    n_views: int | None = option(
        FineTuneSettings.n_views,
        "Augmented views to keep of each image; 0: new ones at each pass [6 on a CPU, "
        "0 on a GPU].",
        "--views",
    )


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is trained, on which pairs, and where it goes."""

    panel = ""
    vectorizer: str = option(
        MISSING,
        "The network to train: timm:NAME@FILE or clip:ARCH:TAG@FILE.",
        "-v",
        names="vectorizers",
    )
    weights: options.LocalWeights = None
    out: Path = option(MISSING, "Weights to write, a .safetensors file.", "-o")
    overwrite: bool = option(False, "Replace other weights in --out.")
    protocol: str | None = option(
        None,
        "Protocol whose training set is used: holdout, or given where the table has a "
        "split column.",
        names="protocols",
    )
    seed: options.Seed = 0


def finetune(
    pairs: options.Pairs,
    *,
    network: Network,
    folders: options.GroupFolders,
    training: Training,
    networks: options.Networks,
    quiet: options.Quiet = False,
) -> None:
    r"""Train the last stages of a network on the training set of your pairs.

    The pairs are split as `tllboost grid` splits them with the same protocol and seed.
    The test set is not used, so a grid with that seed measures the new network
    honestly. The epoch that ranks the validation set best is kept. If no epoch improves
    the network, it stays as it was. To go on with a training that was stopped, give the
    same command again.

    The command prints the name of the new vectorizer.

    **Examples**

        tllboost finetune photos --groups folder \
            -v timm:mobilenetv2_100 --out net.safetensors
        tllboost finetune pairs.csv --left left --right right --stages 1 \
            -v timm:resnet50@resnet50.safetensors --out net.safetensors
        tllboost finetune pairs.csv --images photos -v clip:RN50:openai \
            --out clip.safetensors
    """
    from tllboost.finetune import finetune as train_network
    from tllboost.grid.data import gather
    from tllboost.splits import Protocol

    (made,) = networks.make([network.vectorizer], network.weights)
    table = folders.read(pairs)
    given = "holdout" if table.split is None else "given"
    rule = Protocol(network.protocol or given)
    # The table as the grid orders it.
    data = gather(table, {}, rule)
    splits = data.splits(network.seed)
    refuse_if(
        len(splits) != 1,
        f"--protocol {rule.name!r} has {len(splits)} training sets, but only "
        "one network is trained: use holdout or given",
    )
    with progress_bar(quiet=quiet) as progress:
        tuned = train_network(
            made,
            data.table.paths,
            splits[0].train,
            splits[0].validation,
            network.out,
            settings=FineTuneSettings(**vars(training)),
            seed=network.seed,
            device=networks.device,
            overwrite=network.overwrite,
            progress=progress,
            message=message_to(quiet=quiet),
        )
    typer.echo(tuned.spec)
