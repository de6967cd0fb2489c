"""Options that several commands share, each declared once.

Options that belong together are the fields of a dataclass, a *group*, which can also do
what they are for: `Folders` reads a table, `Opening` opens a bundle. A command takes a
group as one keyword parameter, and :func:`spread` shows its fields to Typer as options.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

from typer import Argument, Option

from tllboost.cli.streams import message_to, write_json, write_out
from tllboost.errors import UsageError
from tllboost.registry import import_path

if TYPE_CHECKING:
    from tllboost.pairs import PairTable
    from tllboost.processes import Backend
    from tllboost.scoring import Scorer
    from tllboost.vectorizers import Vectorizer

# The names that options take, as shells complete and `tllboost list` shows them.
_REGISTRIES = {
    "vectorizers": "tllboost.vectorizers:VECTORIZERS",
    "projections": "tllboost.projections:PROJECTIONS",
    "merges": "tllboost.merges:MERGES",
    "heads": "tllboost.heads:HEADS",
    "protocols": "tllboost.protocols:PROTOCOLS",
    "metrics": "tllboost.metrics:METRICS",
    "formats": "tllboost.grid.matrix:FORMATS",
}
_NONE = "vectors as the vectorizer gives them"
_FINETUNE = "the last stages of a timm: or clip: network, trained"


def names_of(kind: str) -> Mapping[str, str]:
    """Return the names of a kind as they are typed, with a line of description each.

    No model library is imported.
    """
    registry = import_path(_REGISTRIES[kind])
    names = {name: registry[name].description for name in registry}
    if kind == "projections":
        return {"none": _NONE, **names, "finetune": _FINETUNE}
    if kind == "vectorizers":
        from tllboost.vectorizers import NETWORKS

        alone = {"classic", "pixels", "pocket"}
        names = {k if k in alone else f"{k}:": text for k, text in names.items()}
        names |= {name: one["description"] for name, one in NETWORKS.items()}
    return names


def complete(kind: str) -> Callable[[str], list[tuple[str, str]]]:
    """Return what offers a shell the names of a kind.

    Examples
    --------
    >>> [name for name, _ in complete("merges")("l")]
    ['l1', 'l2']
    """

    def offer(incomplete: str) -> list[tuple[str, str]]:
        known = names_of(kind).items()
        return [(name, text) for name, text in known if name.startswith(incomplete)]

    return offer


Bundle = Annotated[
    Path, Argument(metavar="BUNDLE", help="Bundle (.tllb) that a grid wrote.")
]
Pairs = Annotated[
    Path, Argument(help="Pair table, or with --groups the folder of images.")
]
LEFT = Argument(metavar="LEFT", help="The left image.")
RIGHT = Argument(metavar="RIGHT", help="The right image.")
Json = Annotated[bool, Option("--json", help="Write JSON.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="No progress, no messages.")]
Seed = Annotated[int, Option(min=0, help="Seed of every random choice.")]
FailuresOut = Annotated[
    Path | None,
    Option(help="CSV file for the images that can't be read, each with the reason."),
]
Strict = Annotated[
    bool, Option("--strict", help="Stop at the first image that fails: exit code 3.")
]
Store = Annotated[
    Path | None,
    Option(
        envvar="TLLBOOST_STORE",
        help="Folder of the vector store [one in your cache; if that can't be used, "
        "vectors are not kept].",
    ),
]
VectorizerNames = Annotated[
    list[str] | None,
    Option(
        "--vectorizer",
        "-v",
        autocompletion=complete("vectorizers"),
        help="Vectorizer, repeatable; see `tllboost list` [classic pocket].",
    ),
]
LocalWeights = Annotated[
    Path | None, Option(help="Local weights of the network, as in NAME@FILE.")
]
Metric = Annotated[
    str | None,
    Option(autocompletion=complete("metrics"), help="Metric to show [the run's]."),
]
_PIXELS = "TLLBOOST_MAX_PIXELS"
MaxPixels = Annotated[
    int | None,
    Option(min=1, envvar=_PIXELS, help="Limit of pixels of an image [50 million]."),
]
Gallery = Annotated[
    int,
    Option(
        min=0,
        help="Number of best and of worst queries that report.html shows with images: "
        "so many of the chosen cell, at most 5 of each other; 0 leaves out all images.",
    ),
]
Mlflow = Annotated[
    str | None,
    Option(metavar="URI", help="Also log the run to this MLflow server or folder."),
]


def refuse_if(wrong: object, message: str) -> None:
    """Raise UsageError if options contradict each other."""
    if wrong:
        raise UsageError(message)


def refuse_given(context: Any, why: str, *names: str) -> None:
    """Raise UsageError if the command line gives an option that has no effect.

    A file after --config may: the one that a run wrote gives all options.
    """
    for one in context.command.params:
        source = getattr(context.get_parameter_source(one.name), "name", "")
        value = context.params.get(one.name)
        told = f" {value!r}" if type(value) in (int, float, str) else ""
        given = one.name in names and source == "COMMANDLINE"
        refuse_if(given, f"{one.opts[0]}{told} {why}")


def typed(context: Any, *leave_out: str) -> list[str]:
    """Return the words that the command line gave, without some of its options."""
    words: list[str] = []
    for one in context.command.params:
        source = getattr(context.get_parameter_source(one.name), "name", "")
        value = context.params.get(one.name)
        if source != "COMMANDLINE" or one.name in leave_out:
            continue
        if isinstance(value, bool):
            words.append((one.opts if value else one.secondary_opts)[0])
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            is_option = one.opts[0].startswith("-")
            words += [one.opts[0], str(each)] if is_option else [str(each)]
    return words


def option(
    default: Any, told: str, *flags: str, names: str = "", **settings: Any
) -> Any:
    """Declare an option as a field of a group.

    Parameters
    ----------
    default : object
        Its value where neither flag nor file gives one.
    told : str
        Its line of help.
    *flags : str
        Short ways to spell it, as ``"-v"``, or all ways.
    names : str
        Kind of names that it takes, for completion: see
        :func:`complete`.
    **settings
        More for ``typer.Option``.
    """
    if names:
        settings["autocompletion"] = complete(names)
    settings["help"] = told
    return field(default=default, metadata={"flags": flags, "settings": settings})


@dataclass(frozen=True, kw_only=True)
class Form:
    """How data is written: as text for people, as JSON or as CSV."""

    panel = ""
    as_json: bool = option(False, "Write JSON.", "--json")
    as_csv: bool = option(False, "Write CSV.", "--csv")

    def __post_init__(self) -> None:
        refuse_if(self.as_json and self.as_csv, "--json and --csv: give one of the two")

    def write(self, value: Any, columns: Sequence[str], text: str) -> None:
        """Write a value: a row by column names, or a list of rows."""
        if self.as_json:
            write_json(value)
        elif self.as_csv:
            from tllboost.files import csv_text

            rows = value if isinstance(value, list) else [value]
            cells = ([row[name] for name in columns] for row in rows)
            write_out(csv_text(columns, cells))
        else:
            write_out(text)


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where the images lie that a table names."""

    panel = "Images and pairs"
    images: Path | None = option(None, "Folder of all images.")
    left: Path | None = option(None, "Folder of the left images.")
    right: Path | None = option(None, "Folder of the right images.")
    anywhere: bool = option(
        False, "Allow absolute paths and '..' in names: a table may then name any file."
    )

    def refuse(self, why: str, **more: Any) -> None:
        """Raise UsageError if any of them is given where none is read."""
        for name, value in (vars(self) | more).items():
            told = "" if value is True else f" {str(value)!r}"
            refuse_if(value, f"--{name}{told} {why}")


@dataclass(frozen=True, kw_only=True)
class GroupFolders(Folders):
    """Where the pairs come from: a table, or a folder whose images form groups."""

    groups: str | None = option(
        None,
        "PAIRS is a folder of images, and images of one group match. With 'folder' "
        "each subfolder is a group. A pattern with one part in parentheses takes the "
        "group from the file name.",
    )
    groups_from: Path | None = option(
        None,
        "Table with the columns image and class. PAIRS is a folder of images, and "
        "images of one class match.",
    )

    def read(self, pairs: Path) -> PairTable:
        """Return the pair table.

        Raises
        ------
        UsageError
            If the options contradict each other.
        DataError
            If the table or the images can't be used.
        """
        from tllboost.pairs import read_pairs
        from tllboost.pairs.groups import read_groups

        folders = {one.name: getattr(self, one.name) for one in fields(Folders)}
        if self.groups is None and self.groups_from is None:
            refuse_if(
                pairs.is_dir(),
                f"{str(pairs)!r} is a folder, not a pair table: say how its images "
                "form groups, by --groups folder, a pattern like --groups "
                r"'^(\d{4})', or --groups-from classes.csv",
            )
            return read_pairs(pairs, **folders)
        refuse_if(
            self.groups and self.groups_from,
            "--groups and --groups-from: give one of the two",
        )
        why = f"does not go with --groups: the images are those of {str(pairs)!r}"
        Folders(**folders).refuse(why)
        return read_groups(pairs, self.groups or "folder", classes=self.groups_from)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Where networks run, and whether a hub may be asked for their weights."""

    panel = "Where it runs"
    device: str = option("auto", "Where networks run: auto, cpu or cuda.")
    offline: bool = option(
        False, "Never ask a hub for weights.", envvar="TLLBOOST_OFFLINE"
    )
    max_pixels: MaxPixels = None

    def make(
        self, names: Sequence[str], weights: Path | None = None
    ) -> list[Vectorizer]:
        """Return the vectorizers of these names; nothing is loaded yet."""
        from tllboost.vectorizers import make_vectorizer

        return [
            make_vectorizer(name, device=self.device, offline=self.offline)
            for name in with_weights(names, weights)
        ]


@dataclass(frozen=True, kw_only=True)
class Unbundled:
    """What a bundle may need beside itself."""

    panel = "How the bundle is opened"
    weights: list[Path] | None = option(
        None,
        "Weights of a network that the bundle names but does not hold; repeatable.",
    )
    trust_code: bool = option(
        False, "Import the modules that the bundle names. This runs their code."
    )


@dataclass(frozen=True, kw_only=True)
class Opening(Unbundled, Networks):
    """What scoring with a bundle may need."""

    panel = "How the bundle is opened"
    store: Store = None

    def open(self, bundle: Path, *, quiet: bool = False) -> Scorer:
        """Return what is in a bundle, its vectors kept in the user's store."""
        from tllboost.bundle import read_scorer
        from tllboost.calibration import FLAT
        from tllboost.store import VectorStore

        known = {key: one for key, one in vars(self).items() if key != "max_pixels"}
        known["store"] = self.store or VectorStore()
        scorer = read_scorer(bundle, **known)
        if scorer.calibration_.is_flat:
            message_to(quiet=quiet)(f"{bundle}: {FLAT}; rank pairs by their scores")
        return scorer


@dataclass(frozen=True, kw_only=True)
class Rarity:
    """How rare matches are, and from where on a pair is called one."""

    panel = "How rare matches are"
    prior: str | None = option(
        None,
        "Share of pairs that match, as 0.05 or 1/20. Probabilities depend on it.",
    )
    threshold: str | None = option(
        None, "Lowest probability that is called a match [0.5 with --prior]."
    )

    def of(self, scorer: Scorer, prior: float | None = None) -> Scorer:
        """Return the scorer at this prior, or one's own, and at this threshold."""
        return scorer.at(self.prior or prior, threshold=self.threshold)


@dataclass(frozen=True, kw_only=True)
class Shortlist:
    """Which images a head scores if it is not linear, and by which references."""

    panel = "How images are scored"
    shortlist: int | None = option(
        None,
        "Number of images that a head scores for each query if it is not linear: those "
        "nearest to it by cosine [2000 for rank, 100 for similar].",
        min=1,
    )
    exact: bool = option(False, "Score all images, whatever the head.")
    own_references: bool = option(
        False,
        "Compare normalised similarities with the images that are searched, not with "
        "the bundle's references: for images of another kind than the training set's.",
    )

    def most(self, context: Any, usual: int, top: int | None) -> int | None:
        """Return how many images are scored for each, at least `top`; None for all."""
        if self.exact:
            refuse_given(context, "has no effect with --exact", "shortlist")
            return None
        return max(self.shortlist or usual, top or 0)


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who does the work: processes of this machine, or the workers of a cluster."""

    panel = "Where it runs"
    backend: Literal["local", "dask"] = option(
        "local",
        "What runs the work: local (processes of this machine) or dask (the workers of "
        "a Dask cluster).",
    )
    scheduler: str | None = option(
        None,
        "Address of the Dask cluster, such as tcp://10.0.0.1:8786 [a cluster on this "
        "machine].",
        metavar="ADDRESS",
    )

    def open(
        self, n_jobs: int | None = None, **limits: float | None
    ) -> AbstractContextManager[Backend]:
        """Return who works, to be opened.

        Raises
        ------
        UsageError
            If what is one backend's is given to the other.
        """
        if self.backend == "dask":
            told = f"--jobs {n_jobs} has no effect with --scheduler"
            refuse_if(n_jobs and self.scheduler, told)
            refuse_if(
                any(limits.values()),
                "--cell-timeout and --cell-memory limit local processes only: limit "
                "Dask workers themselves, as in dask worker --memory-limit",
            )
            from tllboost.cluster import Cluster

            return Cluster(self.scheduler, n_workers=n_jobs)
        refuse_if(
            self.scheduler is not None,
            f"--scheduler needs --backend dask, got {self.scheduler!r} without it",
        )
        from tllboost.processes import Processes

        return nullcontext(Processes(n_jobs, **limits))


def with_weights(names: Sequence[str], weights: Path | None) -> list[str]:
    """Put ``@FILE`` behind the one network that can take it.

    Raises
    ------
    UsageError
        If a name is wrong, or it is not clear which network the weights are for.

    Examples
    --------
    >>> with_weights(["classic+timm:resnet50?size=160"], Path("net.safetensors"))
    ['classic+timm:resnet50@net.safetensors?size=160']
    """
    if weights is None:
        return list(names)
    from tllboost.vectorizers import VECTORIZERS, split_fusion

    split = [split_fusion(name, VECTORIZERS) for name in names]
    takers = [part for part in itertools.chain(*split) if _TAKES.match(part)]
    refuse_if(
        len(takers) != 1,
        f"--weights {str(weights)!r} is for one clip: or timm: network without a "
        f"file, found {', '.join(takers) or 'none'}: write NAME@FILE in -v instead",
    )
    name, mark, settings = takers[0].partition("?")
    placed = {takers[0]: f"{name}@{weights}{mark}{settings}"}
    return ["+".join(placed.get(part, part) for part in parts) for parts in split]


# A network that is named without a file: an @ behind the question mark is none.
_TAKES = re.compile(r"(clip|timm)(-grid)?:[^@?]*(\?|$)")


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose groups of options are options of their own.

    Examples
    --------
    >>> def show(name: str, *, networks: Networks) -> None:
    ...     print(name, networks.device)
    >>> list(inspect.signature(spread(show)).parameters)
    ['name', 'device', 'offline', 'max_pixels']
    >>> spread(show)(name="a", device="cpu", offline=True, max_pixels=None)
    a cpu
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: one.annotation
        for name, one in signature.parameters.items()
        if is_dataclass(one.annotation)
    }

    @functools.wraps(command)
    def run(**given: Any) -> None:
        if most := given.get("max_pixels"):  # for all that decodes, in any process
            os.environ[_PIXELS] = str(most)
        for name, group in groups.items():
            options = {one.name: given.pop(one.name) for one in fields(group)}
            given[name] = group(**options)
        command(**given)

    shown: list[inspect.Parameter] = []
    for name, one in signature.parameters.items():
        if name in groups:
            shown += _options_of(groups[name])
        else:
            shown.append(one.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    run.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return run


def _options_of(group: Any) -> list[inspect.Parameter]:
    """Return the fields of a group as parameters, each under its class's heading."""
    hints = get_type_hints(group, include_extras=True)
    found = []
    for one in fields(group):
        home = next(
            base for base in group.__mro__ if one.name in inspect.get_annotations(base)
        )
        kind, flags = hints[one.name], one.metadata.get("flags", ())
        if one.metadata:
            if not any(flag.startswith("--") for flag in flags):
                flags = (f"--{one.name.replace('_', '-')}", *flags)
            told = Option(*flags, **one.metadata["settings"])
        else:
            kind, told = get_args(kind)
            told = copy.copy(told)
        told.rich_help_panel = home.panel or None
        shown = inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY)
        if one.default is not MISSING:
            shown = shown.replace(default=one.default)
        found.append(shown.replace(annotation=Annotated[kind, told]))
    return found
