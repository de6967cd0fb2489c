"""Environments that have the wheel, a few libraries, and no others.

Libraries are linked from the environment that runs the tests, those that they need
too: what is left out can't be imported there, whatever asks for it. ``make
release-check`` installs the wheel with pip.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_NAME = re.compile(r"[\w.-]+")


def build_wheel(folder: Path) -> Path:
    """Build the wheel of the project, as pip would, outside of the checkout."""
    tree = folder / "tree"
    shutil.copytree(
        ROOT / "tllboost",
        tree / "tllboost",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    code = "import sys\nfrom setuptools.build_meta import build_wheel\nbuild_wheel('.')"
    subprocess.run(
        [sys.executable, "-c", code], cwd=tree, check=True, capture_output=True
    )
    (wheel,) = tree.glob("*.whl")
    return wheel


def needed_by(packages: Iterable[str]) -> set[str]:
    """Return the names of distributions, and of all that these need here."""
    found: set[str] = set()
    waiting = [*packages]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for line in distribution(name).requires or ():
            required = _NAME.match(line)
            if required and "extra ==" not in line:
                try:
                    waiting.append(distribution(required[0]).metadata["Name"])
                except PackageNotFoundError:  # of another system or Python
                    continue
    return found


def make_environment(folder: Path, wheel: Path, packages: Iterable[str]) -> Path:
    """Make an environment of the wheel and these packages; return its Python."""
    venv.create(folder, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    for name in needed_by(packages):
        found = distribution(name)
        for file in found.files or ():
            top = file.parts[0]
            place = Path(str(found.locate_file(top)))
            is_library = top not in ("..", "__pycache__") and place.exists()
            if is_library and not (site / top).exists():
                (site / top).symlink_to(place)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return folder / "bin" / "python"
