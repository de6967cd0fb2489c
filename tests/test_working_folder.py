"""What lies in the working folder is data: no command and no worker imports it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import write_image
from test_cli_help import COMMANDS
from tuning import ARCH, random_network

import tllboost
from tllboost.processes import Processes, end_idle

STRANGER = "open({path!r}, 'a').write(__name__ + ' ')\n"
# What Python itself has loaded, for `python -m`, before it looks for our package.
PYTHONS_OWN = "import pkgutil, sys; print(*sys.modules)"
# Many commands in one process, which finds modules where the command does. The demo is
# one of few scenes and cells.
COMMAND = """
import json, sys
from tllboost import demo, vectorizers
from tllboost.cli import main
from tllboost.grid import cells

make = demo.make_demo_set
demo.make_demo_set = lambda folder, **_: make(folder, n_scenes=12, n_views=2)
cells.DEFAULT_HEADS = ["cosine"]
vectorizers.DEFAULT_VECTORIZERS = ["pixels?size=4"]

if __name__ == "__main__":
    for arguments in json.loads(sys.argv[1]):
        sys.argv = ["tllboost", *arguments]
        try:
            main()
        except SystemExit as leaving:
            if leaving.code:
                raise RuntimeError(arguments) from leaving
"""
PLUG_IN = """
import numpy as np

def furthest(left, right):
    return np.abs(left - right).max(axis=1, keepdims=True)
"""
SCRIPT = """
import importlib
import own_plugins
from tllboost.processes import Processes

if __name__ == "__main__":
    backend = Processes(1)
    print(backend.call(own_plugins.name))
    try:
        print(backend.call(importlib.import_module, "stranger"))
    except ModuleNotFoundError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images and their table, where a stranger's modules lie.

    They have the name of each module of Python's, and of each package that is
    installed, or that a library looks for though it is not. They write a file if run.
    """
    folder = tmp_path_factory.mktemp("strange")
    for number in range(12):
        for side in "lr":
            write_image(folder / f"{side}{number}.jpg", seed=number, size=(24, 20))
    rows = ["left,right", *(f"l{n}.jpg,r{n}.jpg" for n in range(12))]
    (folder / "pairs.csv").write_text("\n".join(rows))
    pythons_own = python(["-I", "-c", PYTHONS_OWN], folder).split()
    names = {*sys.stdlib_module_names, *packages_distributions()}
    assert {"random", "numpy", "json", "sklearn", "PIL"} <= names
    names |= {"cupy", "dask", "pandas", "torch"}
    text = STRANGER.format(path=str(folder / "was-run"))
    for name in filter(str.isidentifier, names - {*pythons_own, "tllboost"}):
        (folder / f"{name}.py").write_text(text)
        if name not in sys.stdlib_module_names:
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(text)
    return folder


def python(arguments: Sequence[str | Path], folder: Path, *path: Path | str) -> str:
    """Run Python in a folder; return what it printed.

    The package is found, and so are modules of the folders of `path`.
    """
    root = str(Path(tllboost.__file__).parents[1])
    own = {"PYTHONPATH": os.pathsep.join(map(str, (root, *path)))}
    own |= {"TLLBOOST_STORE": "store", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def was_run(folder: Path) -> str:
    """Return the names of the stranger's modules that were run."""
    file = folder / "was-run"
    names = file.read_text() if file.exists() else ""
    file.unlink(missing_ok=True)
    return names


def test_no_command_runs_a_module_of_the_folder_that_it_is_started_in(
    strange: Path, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own_plugins.py").write_text(PLUG_IN)
    (tmp_path / "command.py").write_text(COMMAND)
    table, bundle = ("pairs.csv", "--images", "."), "one/best.tllb"
    grid = ("grid", *table, "-v", "pixels?size=4", "--distractors", "2", "-j", "1")
    dask = ("--backend", "dask") if find_spec("distributed") else ()
    if find_spec("timm"):
        random_network(strange / "net.safetensors")
    commands = [
        ("vectorize", ".", "-v", "pixels?size=2"),
        ("demo", "--out", "three"),
        (
            *("finetune", *table, "-v", f"timm:{ARCH}@net.safetensors?size=32"),
            *("--stages", "1", "--epochs", "1", "--views", "1", "--batch", "4"),
            *("--out", "new.safetensors"),
        ),
        ("check", *table),
        (
            *(*grid, "--out", "one", "-m", "l1", "-m", "own_plugins:furthest"),
            *("-c", "logistic", "-c", "xgboost", "-p", "none"),
            *("-p", "infonce?epochs=1&components=2"),
        ),
        (*grid, "--out", "two", "-c", "cosine", *dask),
        ("compare", "one", "two"),
        ("report", "one"),
        ("score", bundle, "l0.jpg", "r0.jpg"),
        ("rank", bundle, "l0.jpg", "--among", "."),
        ("similar", ".", "--bundle", bundle, "--top", "2"),
        ("explain", bundle, "l0.jpg", "r0.jpg", "--grid", "2"),
        ("bundle", "show", bundle),
        ("bundle", "verify", bundle),
        ("store", "info"),
        ("store", "verify"),
        ("store", "prune"),
        ("list", "heads"),
    ]
    lines = [" ".join(one) + " " for one in commands]
    ran = {name for name in COMMANDS for line in lines if line.startswith(f"{name} ")}
    assert {*COMMANDS} == ran
    if not find_spec("timm"):
        commands = [one for one in commands if one[0] != "finetune"]
    python([tmp_path / "command.py", json.dumps(commands)], strange, tmp_path / "own")
    assert "own_plugins:furthest" in (strange / "one" / "results.csv").read_text()
    assert was_run(strange) == ""


def test_python_m_tllboost_leaves_the_working_folder_before_it_imports(
    strange: Path,
) -> None:
    told = python(["-m", "tllboost", "vectorize", ".", "-v", "pixels?size=3"], strange)
    assert "pixels?size=3" in told
    assert was_run(strange) == ""


def test_workers_know_the_plug_ins_of_a_script_and_nothing_else_beside_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "own_plugins.py").write_text("def name():\n    return __name__\n")
    (tmp_path / "stranger.py").write_text("")
    (tmp_path / "script.py").write_text(SCRIPT)
    told = python(["script.py"], tmp_path)
    assert told.split("\n")[:2] == ["own_plugins", "No module named 'stranger'"]


def test_workers_look_where_pythonpath_says(tmp_path: Path) -> None:
    (tmp_path / "own_plugins.py").write_text("def name():\n    return __name__\n")
    code = "from tllboost.processes import Processes; from importlib import "
    code += "import_module as get; print(Processes().call(get, 'own_plugins'))"
    told = python(["-c", code], tmp_path, ".")
    assert told.startswith("<module 'own_plugins' from")


def test_an_empty_part_of_pythonpath_is_no_folder_of_a_worker(
    strange: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As `export PYTHONPATH=/opt:$PYTHONPATH` leaves it where it was not set.
    monkeypatch.setenv(
        "PYTHONPATH", f"{Path(tllboost.__file__).parents[1]}{os.pathsep}"
    )
    monkeypatch.chdir(strange)
    end_idle()
    assert Processes(1).call(os.getcwd) == str(strange.resolve())
    end_idle()
    assert was_run(strange) == ""
