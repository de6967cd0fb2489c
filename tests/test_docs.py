"""The guides of docs/: all their code runs, and prints what they show."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import pytest
from conftest import Run
from guides import (
    GUIDES,
    ROOT,
    WEIGHTS,
    alike,
    parse_command,
    play,
    prepare,
    shell_lines,
    shown_after,
    text_of,
)
from test_cli_help import COMMANDS
from test_results import script

PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("docs/*.ipynb")])


def needs_weights(page: Path) -> bool:
    return any(name in text_of(page) for name in WEIGHTS)


@pytest.mark.filterwarnings("default")  # what a guide's own code warns of is shown
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.shared] * needs_weights(page))
        for page in GUIDES
    ],
    ids=lambda page: page.stem,
)
def test_all_code_of_a_guide_runs_and_prints_what_it_shows(
    page: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = text_of(page)
    if needs_weights(page):
        request.getfixturevalue("shared")
    modules = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TLLBOOST_STORE", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, value in prepare(page, tmp_path).items():
        monkeypatch.setenv(name, value)
    for block, printed in play(text):
        shown = shown_after(text, block)
        if shown is not None:
            told = f"{page.name} shows\n{shown.text}\nand there was\n{printed}"
            assert alike(shown.text, printed), told
    for name in set(sys.modules) - modules:  # those that the guide wrote itself
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    CHECKS.get(page.stem, lambda folder: None)(tmp_path)


def _protocol(folder: Path) -> None:
    """On noise the old protocol finds something, and ours nothing."""
    leaking, held_out = (
        _row(folder / "results" / run, "random-forest")
        for run in ("leaking", "held-out")
    )
    assert float(leaking["roc_auc_low"]) > 0.55
    assert float(held_out["roc_auc_low"]) < 0.5 < float(held_out["roc_auc_high"])


CHECKS = {"protocol": _protocol}


def _row(run: Path, head: str) -> dict[str, str]:
    with (run / "results.csv").open(newline="", encoding="utf-8") as file:
        return next(row for row in csv.DictReader(file) if row["head"] == head)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_links_to_files_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", text_of(page)):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_stands_in_the_index(page: Path) -> None:
    if page.name != "README.md":
        index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
        assert f"({page.name})" in index


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert text == script("commands_page").page(), "python benchmarks/commands_page.py"


def test_the_page_past_one_machine_is_what_its_figures_make() -> None:
    text = (ROOT / "docs" / "scale-out.md").read_text(encoding="utf-8")
    made = script("scale_out_page").page()
    assert text == made, "python benchmarks/scale_out_page.py"


def test_the_networks_are_the_package_s_and_their_speeds_those_of_records() -> None:
    text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    page = script("networks_page")
    for rows in (page.networks(), page.speed()):
        assert "\n".join(rows) in text, "python benchmarks/networks_page.py"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_commands_has_the_options_of_help(name: str, run: Run) -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    section = text.partition(f"## tllboost {name}\n")[2].partition("\n## ")[0]
    table = section[section.rindex("\n| option | what |") :]
    told = run(*name.split(), "--help").stdout
    listed = set(re.findall(r"(?m)^│ (?:\*? {0,4})(--[a-z-]+)", told)) - {"--help"}
    assert listed or name == "list"
    assert listed == set(re.findall(r"(?m)^\| `(--[a-z-]+)", table))


@pytest.mark.parametrize("page", ["commands.md"])
def test_every_example_of_a_page_is_a_command_that_there_is(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    lines = shell_lines(text)
    assert lines
    for line in lines:
        parse_command(line)


def test_the_first_run_needs_the_readme_alone() -> None:
    text = (ROOT / "docs" / "first-run.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    session = re.sub(r" \\\n +", " ", text)
    typed = re.findall(r"(?m)^\$ (tllboost .*)$", session)
    assert {line.split()[1] for line in typed} >= {"grid", "report", "score", "explain"}
    for line in typed:
        parse_command(line)
        for option in re.findall(r" (--?[a-z-]+)", line):
            assert option in readme, option


def test_alike_looks_past_figures_and_not_past_words() -> None:
    shown = " classic dot .736= .743*\nresults in out"
    assert alike(shown, " classic  dot .812*  .800\nresults in out\n")
    assert not alike(shown, " classic l1 .736= .743*\nresults in out")
    assert alike("first\n…\nlast", "first\nsecond\nthird\nlast\n")


def test_the_folder_beside_the_checkout_is_named_in_one_place() -> None:
    """So that one variable hides it: else its absence is tried by nobody."""
    scripts = [*ROOT.glob("tests/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    named = {
        script.name
        for script in scripts
        if re.search(r"/ \"shared\"$|/ \"shared\"\)", script.read_text("utf-8"), re.M)
    }
    assert named == {"guides.py", "fetch_data.py"}


def test_the_list_of_benchmark_data_names_every_file_once() -> None:
    files = script("fetch_data").listed()
    assert len(files) == 3587
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in files.values())
    assert {name.partition("/")[0] for name in files} == {
        *("dvd-covers", "tll", "tll-challenge", "ukbench"),
    }


def test_data_that_is_absent_or_changed_is_named(tmp_path: Path) -> None:
    fetching = script("fetch_data")
    wrong = fetching.check(tmp_path)
    assert len(wrong) == len(fetching.listed())
    (tmp_path / "ukbench").mkdir()
    (tmp_path / "ukbench" / "000000.jpg").write_bytes(b"another")
    changed = "ukbench/000000.jpg: not the file that was measured on"
    assert changed in fetching.check(tmp_path)


@pytest.mark.shared
def test_data_that_is_right_is_told_to_be_so(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetching = script("fetch_data")
    some = dict([*fetching.listed().items()][::40])
    monkeypatch.setattr(fetching, "listed", lambda: some)
    assert fetching.check(shared / "data") == []
