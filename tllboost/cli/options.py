"""Options that several commands share, spelled and explained once.

What the commands that use a bundle share: options, opening it, telling failures.

Names of vectorizers from the command line, with ``--weights`` put in its place.

What the commands take as pairs: a table, or a folder whose images form groups.

Where the work is done: processes of this machine, or the workers of a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tllboost.cli.completion import complete_backend, complete_device, complete_groups
from tllboost.errors import printable

if TYPE_CHECKING:
    from tllboost.classifier import PairClassifier
    from tllboost.pairs import PairTable
    from tllboost.processes import Backend as Works
    from tllboost.vectorizers import Vectorizer

__all__ = [
    "MACHINE",
    "Anywhere",
    "Backend",
    "Bundle",
    "Csv",
    "Device",
    "Groups",
    "Images",
    "Json",
    "Large",
    "Left",
    "Offline",
    "Quiet",
    "Right",
    "Scheduler",
    "Seed",
    "Store",
    "Strict",
    "TrustCode",
    "Weights",
    "make_vectorizers",
    "open_bundle",
    "opened",
    "read_input",
    "tell_failures",
    "with_weights",
    "write_out",
]

IMAGES = "Images and pairs"
MACHINE = "Where it runs"
"""Headings of --help; what is of one command alone stands above them."""

Anywhere = Annotated[
    bool,
    typer.Option(
        "--anywhere",
        rich_help_panel=IMAGES,
        help="Let the table name files outside of the folders: absolute paths, '..'.",
    ),
]
Images = Annotated[
    Path | None,
    typer.Option("--images", rich_help_panel=IMAGES, help="Folder of all images."),
]
Left = Annotated[
    Path | None,
    typer.Option("--left", rich_help_panel=IMAGES, help="Folder of the left images."),
]
Right = Annotated[
    Path | None,
    typer.Option("--right", rich_help_panel=IMAGES, help="Folder of the right images."),
]
Groups = Annotated[
    str | None,
    typer.Option(
        "--groups",
        rich_help_panel=IMAGES,
        autocompletion=complete_groups,
        help="Images of one group match, PAIRS being their folder: 'folder' for a "
        "subfolder a group, or a pattern of the file names with one part in "
        "parentheses.",
    ),
]
Store = Annotated[
    Path | None,
    typer.Option(
        "--store",
        rich_help_panel=MACHINE,
        envvar="TLLBOOST_STORE",
        help="Folder of the vector store; by default the user's cache.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        rich_help_panel=MACHINE,
        autocompletion=complete_device,
        help="Where networks run: auto, cpu or cuda.",
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        envvar="TLLBOOST_OFFLINE",
        rich_help_panel=MACHINE,
        help="Never ask a hub for weights.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random choice.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no messages.")]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        rich_help_panel=IMAGES,
        help="Stop at the first image that fails: exit code 3.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]


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
    """Name each image that failed on standard error; return the exit code."""
    for name, reason in failures.items():
        typer.echo(f"tllboost: {printable(name)}: {reason}", err=True)
    return 4 if failures else 0


_TAKES_WEIGHTS = ("clip", "clip-grid", "timm", "timm-grid")


def make_vectorizers(
    names: Sequence[str],
    *,
    weights: Path | None = None,
    device: str = "auto",
    offline: bool = False,
) -> list[Vectorizer]:
    """Return the vectorizers that were asked for; nothing is loaded yet.

    Raises
    ------
    UsageError
        If a name is wrong, or it is not clear whose the weights are.
    """
    from tllboost.vectorizers import make_vectorizer

    if weights is not None:
        names = with_weights(names, weights)
    return [make_vectorizer(name, device=device, offline=offline) for name in names]


def with_weights(names: Sequence[str], weights: Path) -> list[str]:
    """Put ``@FILE`` behind the one network that can take it.

    Examples
    --------
    >>> with_weights(["classic+timm:resnet50?size=160"], Path("net.safetensors"))
    ['classic+timm:resnet50@net.safetensors?size=160']
    """
    from tllboost.errors import UsageError
    from tllboost.vectorizers import VECTORIZERS
    from tllboost.vectorizers.spec import split_fusion

    split = [split_fusion(name, VECTORIZERS) for name in names]
    takers = [part for parts in split for part in parts if _takes(part)]
    if len(takers) != 1:
        found = ", ".join(takers) or "none"
        msg = (
            f"--weights {str(weights)!r} is for one clip: or timm: network without a "
            f"file, found {found}: write NAME@FILE in -v instead"
        )
        raise UsageError(msg)
    return [
        "+".join(_placed(part, weights) if _takes(part) else part for part in parts)
        for parts in split
    ]


def _takes(part: str) -> bool:
    name = part.partition("?")[0]
    return name.partition(":")[0] in _TAKES_WEIGHTS and "@" not in name


def _placed(part: str, weights: Path) -> str:
    name, mark, options = part.partition("?")
    return f"{name}@{weights}{mark}{options}"


def read_input(
    pairs: Path,
    *,
    images: Path | None = None,
    left: Path | None = None,
    right: Path | None = None,
    groups: str | None = None,
    anywhere: bool = False,
) -> PairTable:
    """Return the pair table that a command was given.

    Parameters
    ----------
    pairs : Path
        A table, or the folder of the images where `groups` is given.
    images, left, right : Path, optional
        Folders of the images.
    groups : str, optional
        ``"folder"`` or a pattern, as in `tllboost.pairs.groups.read_groups`.
    anywhere : bool, default=False
        Whether the table may name files outside of the folders.

    Raises
    ------
    UsageError
        If the options contradict each other.
    DataError
        If the table or the images can't be used.
    """
    if groups is None:
        _refuse_folder(pairs)
        from tllboost.pairs import read_pairs

        return read_pairs(
            pairs, images=images, left=left, right=right, anywhere=anywhere
        )
    from tllboost.errors import UsageError
    from tllboost.pairs.groups import read_groups

    for option, value in (("--images", images), ("--left", left), ("--right", right)):
        if value is not None:
            msg = (
                f"{option} {str(value)!r} does not go with --groups: the images are "
                f"those of {str(pairs)!r}"
            )
            raise UsageError(msg)
    return read_groups(pairs, groups)


def _refuse_folder(pairs: Path) -> None:
    if pairs.is_dir():
        from tllboost.errors import UsageError

        msg = (
            f"{str(pairs)!r} is a folder, not a pair table: say how its images form "
            r"groups, by --groups folder or a pattern like --groups '^(\d{4})'"
        )
        raise UsageError(msg)


BACKENDS = ("local", "dask")

Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        autocompletion=complete_backend,
        help="Who works: local processes, or the workers of a Dask cluster: dask.",
        rich_help_panel=MACHINE,
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Of the Dask cluster, as tcp://10.0.0.1:8786 [workers on this machine].",
        rich_help_panel=MACHINE,
    ),
]

Large = Annotated[
    int | None,
    typer.Option(
        "--large",
        min=1,
        help="Training pairs from which all Dask workers train an xgboost cell "
        "together [never].",
        rich_help_panel=MACHINE,
    ),
]


def opened(
    backend: str,
    scheduler: str | None,
    n_jobs: int | None = None,
    large: int | None = None,
    seconds: float | None = None,
    megabytes: float | None = None,
) -> AbstractContextManager[Works]:
    """Return who works, to be opened: processes of this machine, or a Dask cluster.

    Raises
    ------
    UsageError
        If there is no such backend, or what is one's is given to the other.
    """
    from tllboost.errors import UsageError

    if backend not in BACKENDS:
        msg = f"unknown backend {backend!r}: known: {', '.join(sorted(BACKENDS))}"
        raise UsageError(msg)
    if backend == "local":
        from tllboost.processes import Processes

        for name, given in (("scheduler", scheduler), ("large", large)):
            if given is not None:
                msg = f"--{name} needs --backend dask, got {given!r} without it"
                raise UsageError(msg)
        return nullcontext(Processes(n_jobs, seconds=seconds, megabytes=megabytes))
    from tllboost.cluster import Cluster

    if seconds or megabytes:
        msg = (
            "--cell-timeout and --cell-memory are kept by local processes, not by "
            "Dask: give its workers theirs, as in dask worker --memory-limit"
        )
        raise UsageError(msg)
    return Cluster(scheduler, n_workers=n_jobs, large=large)
