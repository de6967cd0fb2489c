"""The recipes in benchmarks/: each can be read, planned, and names its experiments."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tllboost.cli.app import app
from tllboost.grid.cells import DEFAULT_HEADS, DEFAULT_MERGES, Cell, plan_cells, suits
from tllboost.vectorizers import Vectorizer, make_vectorizer
from tllboost.vectorizers.clip import recipe_of
from tllboost.vectorizers.timm import catalogue_name, data_config

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "benchmarks").glob("*.toml"))
# ../shared/EXPERIMENTS.md; B1 to B3 are the product of the lists.
EXPERIMENTS = {
    "tll": [f"A{number}" for number in range(1, 10)],
    "holidays": [f"B{number}" for number in range(4, 8)],
    "dvd-covers": [f"B{number}" for number in range(4, 8)],
}

of_every_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


def options_of(path: Path) -> dict[str, Any]:
    """Read a recipe as the command does."""
    command = get_command(app).get_command(None, "grid")  # type: ignore[attr-defined]
    context = command.make_context("grid", ["--config", str(path)])
    tables = {key: context.default_map.get(key) for key in ("cell", "alias")}
    return {**context.params, **tables}


def cells_of(options: dict[str, Any]) -> list[dict[str, str]]:
    return options["cell"] or []


def vectorizers_of(options: dict[str, Any]) -> dict[str, Vectorizer]:
    """Make every vectorizer of a recipe, by the name that it stands under."""
    named = [cell["vectorizer"] for cell in cells_of(options)]
    names = dict.fromkeys([*(options["vectorizer"] or []), *named])
    alias = options["alias"] or {}
    return {name: make_vectorizer(alias.get(name, name)) for name in names}


def parts_of(path: Path) -> Iterator[Vectorizer]:
    for vectorizer in vectorizers_of(options_of(path)).values():
        yield from getattr(vectorizer, "parts", None) or [vectorizer]


def test_the_recipes_are_there() -> None:
    assert {path.stem for path in RECIPES} >= set(EXPERIMENTS)


@of_every_recipe
def test_a_recipe_is_read_without_complaint(path: Path) -> None:
    options = options_of(path)
    assert options["out"].parts[0] == "results"
    assert options["pairs"] is not None
    assert options["seeds"] >= 5


@of_every_recipe
def test_every_cell_can_be_planned_and_goes_with_its_vectorizer(path: Path) -> None:
    options = options_of(path)
    made = vectorizers_of(options)
    named = {
        Cell(
            cell["vectorizer"],
            cell.get("projection", "none"),
            cell.get("merge", "none"),
            cell["head"],
        ): cell["name"]
        for cell in cells_of(options)
    }
    planned = plan_cells(
        options["vectorizer"] or [],
        options["merge"] or DEFAULT_MERGES,
        options["head"] or DEFAULT_HEADS,
        options["projection"] or ["none"],
        suits=lambda name, projection: suits(made[name], projection),
        named=named,
    )
    assert set(planned) >= set(named)
    assert (options["ensemble"] or 0) <= len(planned)
    assert len(named) == len(cells_of(options)), "two names of one cell"
    assert len(set(named.values())) == len(named)


@of_every_recipe
def test_every_alias_is_used(path: Path) -> None:
    options = options_of(path)
    assert set(options["alias"] or {}) <= set(vectorizers_of(options))


@of_every_recipe
def test_no_two_aliases_are_one_vectorizer(path: Path) -> None:
    specs = list((options_of(path)["alias"] or {}).values())
    assert len(set(specs)) == len(specs)


@of_every_recipe
def test_networks_are_those_of_the_catalogues(path: Path) -> None:
    for part in parts_of(path):
        kind = part.name.partition(":")[0]
        if kind.startswith("timm"):
            assert data_config(catalogue_name(part.arch))  # type: ignore[attr-defined]
        elif kind.startswith("clip"):
            assert recipe_of(part.arch, part.tag)  # type: ignore[attr-defined]


@of_every_recipe
def test_files_of_networks_lie_beside_the_project(path: Path) -> None:
    for part in parts_of(path):
        file = getattr(part, "file", None)
        assert file is None or Path(file).parent == Path("../shared/weights")


@pytest.mark.shared
@pytest.mark.parametrize("stem", ["tll", "dvd-covers"])
def test_what_a_recipe_reads_is_there(stem: str, shared: Path) -> None:
    path = ROOT / "benchmarks" / f"{stem}.toml"
    options = options_of(path)
    for name in ("pairs", "left", "right"):
        assert options[name] is None or (ROOT / options[name]).exists()
    for part in parts_of(path):
        file = getattr(part, "file", None)
        assert file is None or (ROOT / file).is_file()


@pytest.mark.parametrize("stem", EXPERIMENTS)
def test_every_experiment_of_the_write_ups_has_a_cell_of_its_name(stem: str) -> None:
    recipe = tomllib.loads((ROOT / "benchmarks" / f"{stem}.toml").read_text("utf-8"))
    numbers = {cell["name"].replace(",", " ").split()[0] for cell in recipe["cell"]}
    assert numbers >= set(EXPERIMENTS[stem])


def cells_called(stem: str, number: str) -> list[dict[str, str]]:
    recipe = tomllib.loads((ROOT / "benchmarks" / f"{stem}.toml").read_text("utf-8"))
    return [
        cell
        for cell in recipe["cell"]
        if cell["name"].replace(",", " ").split()[0] == number
    ]


@pytest.mark.parametrize(
    ("number", "projection", "head"),
    [
        ("A1", "triplet", "cosine"),
        ("A2", "triplet/contrastive", "joined"),
        ("A3", "triplet", "mlp"),
        ("A4", "contrastive?depth=0", "joined"),
        ("A5", "contrastive", "joined"),
        ("A6", "contrastive?epochs=", "joined"),
        ("A9", "finetune", "cosine"),
    ],
)
def test_the_cells_of_the_challenge_are_what_its_write_up_describes(
    number: str, projection: str, head: str
) -> None:
    found = cells_called("tll", number)
    assert found
    for cell in found:
        assert cell["projection"].startswith(projection), cell["name"]
        assert cell["head"] == head, cell["name"]


def test_the_challenge_is_run_on_its_own_networks_too() -> None:
    alias = tomllib.loads((ROOT / "benchmarks/tll.toml").read_text("utf-8"))["alias"]
    for number in ("A1", "A5"):
        used = {alias.get(c["vectorizer"]) for c in cells_called("tll", number)}
        networks = ("RN50x4", "RN101", "ViT-B-32")
        assert used >= {f"clip:{name}:openai" for name in networks}
    epochs = {c["projection"].split("epochs=")[1][0] for c in cells_called("tll", "A6")}
    assert epochs == set("2345")
    for number in ("A7", "A8"):
        specs = [alias[cell["vectorizer"]] for cell in cells_called("tll", number)]
        assert all("cells=" in spec or "clip-grid:" in spec for spec in specs)


def test_the_fully_connected_head_is_run_on_each_merge_of_the_holidays_work() -> None:
    found = {(c["vectorizer"], c["merge"]) for c in cells_called("holidays", "B4")}
    networks = ("Inception", "ResNet50")
    merges = ("concat", "dot", "l1", "l2")
    assert found == {(network, merge) for network in networks for merge in merges}
    assert {cell["head"] for cell in cells_called("holidays", "B4")} == {"mlp"}


def test_the_networks_of_the_holidays_work_are_all_there() -> None:
    path = ROOT / "benchmarks" / "holidays.toml"
    names = "vgg16 vgg19 resnet50 inception_v3 xception"
    asked = " ".join(part.name for part in parts_of(path))
    assert all(name in asked for name in names.split())
    heads = {"naive-bayes", "linear-svm", "xgboost", "random-forest", "cosine"}
    assert set(options_of(path)["head"]) == heads
