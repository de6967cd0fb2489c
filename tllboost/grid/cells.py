"""Which cells a grid has: vectorizers, projections, merges and heads that go together.

A cell is one configuration, and a row of the results. All of a grid's are planned, and
every name is checked, before anything is computed.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tllboost.errors import UsageError
from tllboost.heads import HEADS, READS, make_head
from tllboost.merges import MERGES, SIMILARITY, resolve_merge
from tllboost.projections import CROSSFIT, NONE, PROJECTIONS, make_projection
from tllboost.registry import parse_spec, positive, truth
from tllboost.vectorizers import make_vectorizer

if TYPE_CHECKING:
    from tllboost.finetune import FineTuneSettings


ENSEMBLE = "ensemble"
"""What stands in a cell's place for a vectorizer where it is several cells' mean."""
COSINE = "cosine"
JOINED = "joined"
NORMALISED = "cosine-norm"
DEFAULT_MERGES = tuple(name for name in MERGES if name not in ("concat", SIMILARITY))
# Where somebody asks for them alone.
_ASKED = (NORMALISED, JOINED, "lightgbm", "catboost")
DEFAULT_HEADS = tuple(name for name in HEADS if name not in _ASKED)
RECIPES: Mapping[str, Mapping[str, Any]] = tomllib.loads(
    Path(__file__).with_name("recipes.toml").read_text("utf-8")
)
"""What ``tllboost grid`` tries if no names are given: names by option, as in a file."""

FINETUNE = "finetune"
_SIAMESE_CNN = "siamese-cnn"
_TUNING: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "stages": ("n_stages", positive),
    "epochs": ("n_epochs", positive),
    "patience": ("patience", positive),
    "batch": ("batch_size", positive),
    "rate": ("learning_rate", float),
    "temperature": ("temperature", float),
    "components": ("n_components", int),
    "views": ("n_views", int),
}


@dataclass(frozen=True, order=True)
class Cell:
    """One (vectorizer, projection, merge, head): a row of the results."""

    vectorizer: str
    projection: str
    merge: str
    head: str

    @property
    def name(self) -> str:
        """All four in one line."""
        return " × ".join((self.vectorizer, self.projection, self.merge, self.head))

    @property
    def features(self) -> str:
        """The merge that the head's features come from."""
        return READS.get(self.head, self.merge)


def parts_of(projection: str) -> tuple[str, str]:
    """Return the fine-tuning and the map of vectors that a projection is made of.

    Examples
    --------
    >>> parts_of("finetune?stages=1/infonce"), parts_of("triplet/contrastive")
    (('finetune?stages=1', 'infonce'), ('none', 'triplet/contrastive'))
    """
    first, _, rest = projection.partition("/")
    if first.partition("?")[0] == FINETUNE:
        return first, rest or NONE
    return NONE, projection


def suits(vectorizer: Any, projection: str) -> bool:
    """Tell whether a projection can learn on a vectorizer.

    Fine-tuning needs one network of timm or open_clip, alone or as a part of a fusion;
    a network from scratch needs pixels.

    Examples
    --------
    >>> from tllboost.vectorizers import make_vectorizer
    >>> classic = make_vectorizer("classic")
    >>> suits(classic, "infonce"), suits(classic, "finetune")
    (True, False)
    """
    is_fusion = hasattr(vectorizer, "parts")
    kind = "fusion" if is_fusion else parse_spec(vectorizer.name).kind
    tuning, rest = parts_of(projection)
    first, *others = (parse_spec(one).kind for one in rest.split("/"))
    if tuning != NONE:
        is_one = trainable(vectorizer) is not None
        # A network that was trained on all pairs leaves no fold that it has not met.
        return is_one and not {_SIAMESE_CNN, CROSSFIT} & {first, *others}
    return _SIAMESE_CNN not in others and (kind == "pixels" or first != _SIAMESE_CNN)


def trainable(vectorizer: Any) -> Any:
    """Return the one network that fine-tuning trains, None for none or several.

    The vectorizer, or that part of a fusion.

    Examples
    --------
    >>> from tllboost.vectorizers import make_vectorizer
    >>> trainable(make_vectorizer("timm:resnet50+classic")).label
    'timm:resnet50'
    """
    parts = getattr(vectorizer, "parts", [vectorizer])
    found = [one for one in parts if parse_spec(one.name).kind in ("timm", "clip")]
    return found[0] if len(found) == 1 else None


def tuning_settings(projection: str) -> FineTuneSettings:
    """Return the settings that ``finetune?stages=1&epochs=3`` stands for.

    Raises
    ------
    UsageError
        If an option is unknown or wrong.

    Examples
    --------
    >>> tuning_settings("finetune?stages=1").n_stages
    1
    """
    from tllboost.finetune import FineTuneSettings

    types = {name: convert for name, (_, convert) in _TUNING.items()}
    options = parse_spec(projection).typed_options(types)
    return FineTuneSettings(**{_TUNING[key][0]: one for key, one in options.items()})


def has_joined_network(projection: str) -> bool:
    """Tell whether a projection brings a classification network along.

    Examples
    --------
    >>> has_joined_network("contrastive"), has_joined_network("infonce")
    (True, False)
    """
    last = parse_spec(projection.rpartition("/")[2])
    is_kept = last.kind == "contrastive" and not projection.startswith(CROSSFIT)
    return is_kept and truth(last.options.get("joined", "true"))


class Plan(NamedTuple):
    """What is to be measured.

    Attributes
    ----------
    cells : list of Cell
    names : dict of Cell to str
        What a recipe calls some of them.
    made : dict of str to Vectorizer
        By the label that cells know them under.
    """

    cells: list[Cell]
    names: dict[Cell, str]
    made: dict[str, Any]


def make_plan(
    vectorizers: Sequence[Any],
    merges: Sequence[str],
    heads: Sequence[str],
    projections: Sequence[str],
    *,
    named: Sequence[Mapping[str, str]],
    aliases: Mapping[str, str],
    device: str,
    offline: bool,
) -> Plan:
    """Make each vectorizer once, and plan the cells; see :func:`~tllboost.run_grid`."""
    made: dict[str, Any] = {}
    known: dict[Any, str] = {}
    labels = []
    for choice in [*vectorizers, *(one["vectorizer"] for one in named)]:
        key: Any = choice if isinstance(choice, str) else id(choice)
        if key not in known:
            spec = aliases.get(choice, choice) if choice is key else choice
            vectorizer = make_vectorizer(spec, device=device, offline=offline)
            label = choice if key in aliases else vectorizer.label
            if label in made:
                msg = f"two vectorizers are both called {label!r}: give one an alias"
                raise UsageError(msg)
            made[label], known[key] = vectorizer, label
        labels.append(known[key])
    asked, of_named = labels[: len(vectorizers)], labels[len(vectorizers) :]
    names: dict[Cell, str] = {}
    for one, label in zip(named, of_named, strict=True):
        parts = (one.get("projection", NONE), one.get("merge", NONE), one["head"])
        cell = Cell(label, *parts)
        if cell in names:
            msg = f"cells {names[cell]!r} and {one['name']!r} are the same: {cell.name}"
            raise UsageError(msg)
        names[cell] = one["name"]
    cells = plan_cells(
        asked,
        merges,
        heads,
        projections,
        suits=lambda label, projection: suits(made[label], projection),
        named=names,
    )
    return Plan(cells, names, made)


def plan_cells(
    vectorizers: Sequence[str],
    merges: Sequence[str],
    heads: Sequence[str],
    projections: Sequence[str] = (NONE,),
    *,
    suits: Callable[[str, str], bool] = lambda _vectorizer, _projection: True,
    named: Iterable[Cell] = (),
) -> list[Cell]:
    """Return the product of the names, the cosine of each vectorizer first.

    The frozen cosine is always there: every other cell is compared with it. The cosine
    of projected vectors is, too. Neither reads a merge, and ``joined`` reads the
    network that its projection brings, so each is one cell a projection.

    Parameters
    ----------
    vectorizers, merges, heads, projections : sequence of str
    suits : callable
        Of a vectorizer and a projection: whether they go together.
    named : iterable of Cell
        Cells to add, each with a vectorizer that its projection goes with.

    Raises
    ------
    UnknownNameError
        If a merge or head is not known.
    UsageError
        If there is no vectorizer, a name is given twice, nothing goes with a
        projection, or a named cell is none.

    Examples
    --------
    >>> [cell.name for cell in plan_cells(["classic"], ["dot"], ["logistic"])]
    ['classic × none × none × cosine', 'classic × none × dot × logistic']
    """
    named, crossed = list(named), (NONE, SIMILARITY)  # what reads cross-fitted maps
    for kind, names in (
        ("vectorizer", vectorizers),
        ("merge", merges),
        ("head", heads),
        ("projection", projections),
    ):
        if twice := {name for name in names if list(names).count(name) > 1}:
            msg = f"{kind} {', '.join(sorted(twice))} is given twice"
            raise UsageError(msg)
    for cell in named:
        why = ""
        if (cell.merge == NONE) != (cell.head in READS):
            why = f"{', '.join(READS)} take no merge, others need one"
        elif cell.projection.startswith(CROSSFIT) and cell.merge not in crossed:
            why = f"{CROSSFIT} goes with the merge {SIMILARITY} alone"
        elif cell.head == JOINED and not has_joined_network(cell.projection):
            why = "the head joined needs a contrastive projection"
        elif not suits(cell.vectorizer, cell.projection):
            why = f"projection {cell.projection!r} does not go with that vectorizer"
        if why:
            msg = f"cell {cell.name}: {why}"
            raise UsageError(msg)
    for merge in [*merges, *(cell.merge for cell in named if cell.merge != NONE)]:
        resolve_merge(merge)
    for head in [*heads, *(cell.head for cell in named)]:
        HEADS.check(head) if head in HEADS else make_head(head)
    for projection in [*projections, *(cell.projection for cell in named)]:
        tuning, rest = parts_of(projection)
        if tuning != NONE:
            tuning_settings(tuning)
        make_projection(rest)
        for kind in PROJECTIONS.keys() & {parse_spec(p).kind for p in rest.split("/")}:
            PROJECTIONS.check(kind)  # says which library is missing
    merged = [head for head in heads if head not in READS]
    if not (vectorizers or named) or (merged and not merges):
        msg = "a grid needs at least one vectorizer, and one merge for learned heads"
        raise UsageError(msg)
    cells: list[Cell] = []
    for vectorizer in dict.fromkeys([*vectorizers, *(c.vectorizer for c in named)]):
        cells.append(Cell(vectorizer, NONE, NONE, COSINE))
        for projection in projections if vectorizer in vectorizers else ():
            if suits(vectorizer, projection):
                cells.append(Cell(vectorizer, projection, NONE, COSINE))
                if NORMALISED in heads:
                    cells.append(Cell(vectorizer, projection, NONE, NORMALISED))
                if JOINED in heads and has_joined_network(projection):
                    cells.append(Cell(vectorizer, projection, NONE, JOINED))
                cells += [
                    Cell(vectorizer, projection, merge, head)
                    for merge in merges
                    for head in merged
                    if merge in crossed or not projection.startswith(CROSSFIT)
                ]
    cells += named
    for projection in projections:
        if not any(cell.projection == projection for cell in cells):
            msg = f"projection {projection!r} goes with none of the vectorizers"
            raise UsageError(msg)
    if JOINED in heads and not any(cell.head == JOINED for cell in cells):
        msg = "head 'joined' is the network of a contrastive projection: -p contrastive"
        raise UsageError(msg)
    return list(dict.fromkeys(cells))


def digest(*parts: Any) -> str:
    """Return a short hash of plain values: 16 hexadecimal digits.

    Examples
    --------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
