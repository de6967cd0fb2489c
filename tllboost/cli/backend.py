"""Where the work is done: processes of this machine, or the workers of a cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from tllboost.cli.completion import complete_backend
from tllboost.cli.options import MACHINE

if TYPE_CHECKING:
    from tllboost.cluster import Cluster

__all__ = ["BACKENDS", "Backend", "Large", "Scheduler", "opened"]

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
    n_workers: int | None = None,
    large: int | None = None,
) -> AbstractContextManager[Cluster | None]:
    """Return the cluster to be opened; one that opens to None for local work.

    Raises
    ------
    UsageError
        If there is no such backend, or what is Dask's is given to another.
    """
    from tllboost.errors import UsageError

    if backend not in BACKENDS:
        msg = f"unknown backend {backend!r}: known: {', '.join(sorted(BACKENDS))}"
        raise UsageError(msg)
    if backend == "local":
        for name, given in (("scheduler", scheduler), ("large", large)):
            if given is not None:
                msg = f"--{name} needs --backend dask, got {given!r} without it"
                raise UsageError(msg)
        return nullcontext()
    from tllboost.cluster import Cluster

    return Cluster(scheduler, n_workers=n_workers, large=large)
