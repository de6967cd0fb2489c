"""A TOML file says all that flags say, and what a run wrote runs again."""

from __future__ import annotations

import csv
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import typer
from conftest import Run
from killed_work import make_image_pairs

from tllboost.cli.app import app
from tllboost.cli.grid_command import Call

GRID = typer.main.get_command(app).get_command(None, "grid")  # type: ignore[attr-defined]
OPTIONS = [str(option.name) for option in GRID.params if option.name != "help"]
# A value of each option, and how a file spells it.
VALUES: dict[str, tuple[list[str], str]] = {
    "pairs": (["p.csv"], '"p.csv"'),
    "images": (["--images", "i"], '"i"'),
    "left": (["--left", "l"], '"l"'),
    "right": (["--right", "r"], '"r"'),
    "groups": (["--groups", "folder"], '"folder"'),
    "groups_from": (["--groups-from", "c.csv"], '"c.csv"'),
    "anywhere": (["--anywhere"], "true"),
    "vectorizer": (["-v", "classic", "-v", "pixels"], '["classic", "pixels"]'),
    "projection": (["-p", "infonce?depth=2"], '["infonce?depth=2"]'),
    "merge": (["-m", "l1"], '"l1"'),
    "head": (["-c", "logistic"], '["logistic"]'),
    "out": (["--out", "o"], '"o"'),
    "protocol": (["--protocol", "kfold"], '"kfold"'),
    "metric": (["--metric", "mrr"], '"mrr"'),
    "seed": (["--seed", "3"], "3"),
    "seeds": (["--seeds", "2"], "2"),
    "negatives": (["--negatives", "4"], "4"),
    "hard_negatives": (["--hard-negatives", "1"], "1"),
    "ensemble": (["--ensemble", "7"], "7"),
    "refit": (["--no-refit"], "false"),
    "distractors": (["--distractors", "9"], "9"),
    "folds": (
        ["--folds", "3", "--protocol", "kfold"],
        '3\nprotocol = "kfold"',
    ),
    "store": (["--store", "s"], '"s"'),
    "jobs": (["--jobs", "1"], "1"),
    "backend": (["--backend", "dask"], '"dask"'),
    "scheduler": (["--scheduler", "tcp://a:1"], '"tcp://a:1"'),
    "device": (["--device", "cpu"], '"cpu"'),
    "offline": (["--offline"], "true"),
    "max_pixels": (["--max-pixels", "9"], "9"),
    "strict": (["--strict"], "true"),
    "cell_timeout": (["--cell-timeout", "9.5"], "9.5"),
    "cell_memory": (["--cell-memory", "2000"], "2000"),
    "report": (["--no-report"], "false"),
    "gallery": (["--gallery", "0"], "0"),
    "mlflow": (["--mlflow", "sqlite:///m.db"], '"sqlite:///m.db"'),
}


def test_a_file_gives_every_option_but_those_of_one_call() -> None:
    said = {*VALUES, "weights"}  # which a test of its own looks at
    assert set(OPTIONS) - {one.name for one in fields(Call)} == said


@pytest.mark.parametrize("option", sorted(set(OPTIONS) & set(VALUES)))
def test_a_file_says_what_the_flag_says(run: Run, tmp_path: Path, option: str) -> None:
    flags, spelled = VALUES[option]
    file = tmp_path / "grid.toml"
    file.write_text(f"{option} = {spelled}\n")
    by_flag = run("grid", *flags, "--print-config")
    by_file = run("grid", "--config", file, "--print-config")
    assert by_flag.returncode == by_file.returncode == 0, by_flag.stderr
    assert by_flag.stdout == by_file.stdout
    assert by_flag.stdout != run("grid", "--print-config").stdout
    # What was printed is a file that says the same.
    file.write_text(by_flag.stdout)
    assert run("grid", "--config", file, "--print-config").stdout == by_flag.stdout


def test_a_byte_order_mark_is_none_of_a_files_words(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text('head = "mlp"\n', encoding="utf-8-sig")
    done = run("grid", "--config", file, "--print-config")
    assert tomllib.loads(done.stdout)["head"] == ["mlp"]


def test_print_config_tells_the_defaults_and_runs_nothing(
    run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run("grid", "not-there.csv", "--out", out, "-c", "mlp", "--print-config")
    assert done.returncode == 0
    assert done.stderr == ""
    assert not out.exists()
    printed = tomllib.loads(done.stdout)
    assert printed["vectorizer"] == ["classic", "pocket"]
    assert printed["merge"] == ["dot", "cosdot", "l1", "l2"]
    assert printed["head"] == ["mlp"]
    sizes = printed["distractors"], printed["metric"], printed["gallery"]
    assert sizes == (19, "top2", 20)
    assert "protocol" in done.stdout.partition("# not set: ")[2]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('vectorizers = ["classic"]', "unknown key 'vectorizers': did you mean"),
        ("overwrite = true", "unknown key 'overwrite': known: alias, anywhere"),
        ("vectorizer = 3", "vectorizer = 3 must be text, or a list of text"),
        ('merge = ["dot", 1]', "must be text, or a list of text"),
        ('seed = "0"', "seed = '0' must be a whole number"),
        ("seed = -1", "seed = -1: must be at least 0"),
        ("seed = true", "seed = True must be a whole number"),
        ("seeds = 0", "seeds = 0: "),
        ("jobs = -1", "jobs = -1: "),
        ("folds = 1.5", "folds = 1.5 must be a whole number"),
        ('cell_timeout = "9"', "cell_timeout = '9' must be a number"),
        ("offline = 1", "offline = 1 must be true or false"),
        ("out = 1", "out = 1 must be text"),
        ("alias = 1", "alias = 1 must be a table [alias]"),
        ("cell = 1", "cell must be tables: write [[cell]] above each"),
        (
            '[[cell]]\nname = "a"\nvectorizer = "b"',
            "number 1: it has no head; known: head, merge",
        ),
        ('[[cell]]\nhaed = "a"', "cell number 1: unknown key 'haed'; known: head, "),
        ('[[cell]]\nname = ""', "cell number 1: name = '' must be text"),
    ],
)
def test_a_wrong_line_of_a_file_is_named(
    run: Run, tmp_path: Path, lines: str, told: str
) -> None:
    file = tmp_path / "grid.toml"
    file.write_text(lines)
    done = run("grid", "--config", file, "--print-config")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"tllboost: {file}: ")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_two_cells_of_one_name_are_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text('[[cell]]\nname = "a"\nvectorizer = "b"\nhead = "cosine"\n' * 2)
    done = run("grid", "--config", file, "--print-config")
    assert done.returncode == 2
    assert "cell number 2: another has the name 'a'" in done.stderr


@pytest.mark.parametrize("data", [b"seed = ", b"\xff\xfe", b'a = "\x00"'])
def test_a_file_that_is_no_toml_is_named(run: Run, tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "grid.toml"
    file.write_bytes(data)
    done = run("grid", "--config", file)
    assert done.returncode == 3
    assert f"{file}: can't be read as TOML" in done.stderr


def test_flags_beat_the_file_and_the_file_beats_the_defaults(
    run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "grid.toml"
    file.write_text('head = ["mlp"]\nseeds = 4\ndistractors = 7\n')
    flags = ("-c", "xgboost", "--seeds", "1")
    done = run("grid", "--config", file, *flags, "--print-config")
    printed = tomllib.loads(done.stdout)
    assert (printed["head"], printed["seeds"]) == (["xgboost"], 1)
    assert (printed["distractors"], printed["negatives"]) == (7, 5)


def test_cells_and_short_names_are_printed_too(run: Run, tmp_path: Path) -> None:
    text = (
        '[alias]\nshort = "pixels?size=16"\n'
        '[[cell]]\nname = "Paper, row 1"\nvectorizer = "short"\nhead = "cosine"\n'
    )
    file = tmp_path / "grid.toml"
    file.write_text(text)
    done = run("grid", "--config", file, "--print-config")
    printed = tomllib.loads(done.stdout)
    assert printed["vectorizer"] == []
    assert printed["alias"] == {"short": "pixels?size=16"}
    assert printed["cell"][0]["name"] == "Paper, row 1"


def test_local_weights_go_into_the_name(run: Run) -> None:
    flags = ("-v", "timm:resnet18", "--weights", "net.safetensors")
    printed = tomllib.loads(run("grid", *flags, "--print-config").stdout)
    assert printed["vectorizer"] == ["timm:resnet18@net.safetensors"]
    assert "weights" not in printed


def test_a_run_is_repeated_by_its_file_to_the_same_numbers(
    run: Run, tmp_path: Path
) -> None:
    pairs = make_image_pairs(tmp_path)
    first, again = tmp_path / "first", tmp_path / "again"
    asked = (
        *("grid", pairs, "--images", pairs.parent, "-v", "pixels?size=8"),
        *("-p", "none", "-p", "infonce?components=16&epochs=5"),
        *("-m", "l1", "-c", "cosine", "-c", "naive-bayes"),
        *("--seed", 3, "--distractors", 9, "--negatives", 3, "--hard-negatives", 1),
        *("--ensemble", 2, "--metric", "mrr", "--no-report", "--jobs", 1),
        *("--store", tmp_path / "store"),
    )
    made = run(*asked, "--out", first)
    assert made.returncode == 0, made.stderr
    kept = tomllib.loads((first / "run.toml").read_text())
    printed = tomllib.loads(run(*asked, "--out", first, "--print-config").stdout)
    of_this_machine = {"store", "jobs", "strict", "backend"}
    assert set(kept) - set(printed) == {"run", "protocol"}
    assert printed == {name: kept.get(name, printed[name]) for name in printed}
    assert set(printed) - set(kept) == of_this_machine
    store = ("--store", tmp_path / "store")
    done = run("grid", "--config", first / "run.toml", "--out", again, *store)
    assert done.returncode == 0, done.stderr
    for name in ("matrix.csv", "splits.csv"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    assert figures(first) == figures(again)
    assert not (again / "report.html").exists()
    assert done.stdout == made.stdout


def figures(out: Path) -> list[dict[str, str]]:
    """Return the rows of results.csv without what time and memory they took."""
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        {name: text for name, text in row.items() if not name.endswith(("_s", "_mb"))}
        for row in rows
    ]
