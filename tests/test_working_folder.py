"""What lies in the working folder is data: no worker imports it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_image

import tllboost

# Names that Python itself has, and that libraries look for where they are absent.
STRANGERS = ("random.py", "secrets.py", "pandas.py", "cupy.py")
STRANGER = "open({path!r}, 'a').write(__name__)\n"
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


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A folder of images where a stranger's modules lie; they write a file if run."""
    for number in range(12):
        for side in "lr":
            write_image(tmp_path / f"{side}{number}.jpg", seed=number)
    rows = ["left,right", *(f"l{n}.jpg,r{n}.jpg" for n in range(12))]
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    for name in STRANGERS:
        text = STRANGER.format(path=str(tmp_path / "was-run"))
        (tmp_path / name).write_text(text)
    return tmp_path


def environment() -> dict[str, str]:
    """Return variables by which the package is found, and no working folder is."""
    path = str(Path(tllboost.__file__).parents[1])
    own = {"PYTHONPATH": path, "TLLBOOST_STORE": "store", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own}


def test_a_grid_runs_no_module_of_the_folder_that_it_is_started_in(
    strange: Path,
) -> None:
    command = Path(sys.executable).with_name("tllboost")
    if not command.is_file():
        pytest.skip("needs the installed command, not there")
    done = subprocess.run(
        [
            *(command, "grid", "pairs.csv", "--images", ".", "--out", "out"),
            *("-v", "pixels?size=4", "-m", "l1", "-c", "logistic", "-c", "xgboost"),
            *("-p", "none", "-p", "infonce?epochs=1&components=2", "-j", "1"),
            *("--distractors", "2", "--no-report"),
        ],
        cwd=strange,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (strange / "out" / "matrix.csv").is_file()
    assert not (strange / "was-run").exists()


def test_workers_know_the_plug_ins_of_a_script_and_nothing_else_beside_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "own_plugins.py").write_text("def name():\n    return __name__\n")
    (tmp_path / "stranger.py").write_text("")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["own_plugins", "No module named 'stranger'"]


def test_workers_look_where_pythonpath_says(tmp_path: Path) -> None:
    (tmp_path / "own_plugins.py").write_text("def name():\n    return __name__\n")
    code = "from tllboost.processes import Processes; from importlib import "
    code += "import_module as get; print(Processes().call(get, 'own_plugins'))"
    given = environment()
    given["PYTHONPATH"] += os.pathsep + "."
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=given,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("<module 'own_plugins' from"), done.stderr
