"""Options that several commands share, spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tllboost.cli.completion import complete_device, complete_groups

__all__ = [
    "MACHINE",
    "PICTURES",
    "Anywhere",
    "Device",
    "Groups",
    "Images",
    "Json",
    "Left",
    "Offline",
    "Quiet",
    "Right",
    "Seed",
    "Store",
    "Strict",
]

PICTURES = "Pictures and pairs"
MACHINE = "Where it runs"
"""Headings of --help; what is of one command alone stands above them."""

Anywhere = Annotated[
    bool,
    typer.Option(
        "--anywhere",
        rich_help_panel=PICTURES,
        help="Let the table name files outside of the folders: absolute paths, '..'.",
    ),
]
Images = Annotated[
    Path | None,
    typer.Option("--images", rich_help_panel=PICTURES, help="Folder of all pictures."),
]
Left = Annotated[
    Path | None,
    typer.Option(
        "--left", rich_help_panel=PICTURES, help="Folder of the left pictures."
    ),
]
Right = Annotated[
    Path | None,
    typer.Option(
        "--right", rich_help_panel=PICTURES, help="Folder of the right pictures."
    ),
]
Groups = Annotated[
    str | None,
    typer.Option(
        "--groups",
        rich_help_panel=PICTURES,
        autocompletion=complete_groups,
        help="Pictures of one group match, PAIRS being their folder: 'folder' for a "
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
        rich_help_panel=PICTURES,
        help="Stop at the first picture that fails: exit code 3.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
