"""Build what a release would be, look at it, install it, and run the demo with it.

    python benchmarks/release_check.py            what `make release-check` calls
    python benchmarks/release_check.py --no-demo  the demo takes a minute

An archive of the sources, a wheel built from it, ``twine check``, and an environment
that pip makes of the wheel and all that it needs: some minutes and gigabytes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"


def run(*words: object, **how: object) -> None:
    """Run a command, and say which."""
    print("$", *words, file=sys.stderr)
    subprocess.run([*map(str, words)], check=True, **how)  # type: ignore[call-overload]


def look_inside() -> Path:
    """Return the wheel, once it and the archive hold what they should and no more."""
    (archive,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "docs/commands.md"):
        if name not in names:
            sys.exit(f"{archive.name} lacks {name}")
    if extra := [name for name in names if name.startswith(("tests", "results"))]:
        sys.exit(f"{archive.name} holds {extra[0]}: all tests or none")
    with zipfile.ZipFile(wheel) as opened_wheel:
        held = set(opened_wheel.namelist())
    if extra := [one for one in held if not one.startswith("tllboost")]:
        sys.exit(f"{wheel.name} holds {extra[0]}")
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tllboost").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    if lacking := sorted(package - held):
        sys.exit(f"{wheel.name} lacks {lacking[0]}")
    return wheel


def main() -> None:
    """Check all of it; the first thing that is wrong ends it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-demo", action="store_true")
    parser.add_argument(
        "--no-deps", action="store_true", help="install the wheel alone"
    )
    said = parser.parse_args()
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as made:
        for name in ("tools", "fresh"):
            venv.create(Path(made, name), with_pip=True)
        bin_folder = "Scripts" if os.name == "nt" else "bin"
        tools, fresh = (Path(made, one, bin_folder) for one in ("tools", "fresh"))
        run(tools / "python", "-m", "pip", "install", "--quiet", "build", "twine")
        run(tools / "python", "-m", "build", "--outdir", DIST, ROOT)
        wheel = look_inside()
        run(tools / "python", "-m", "twine", "check", "--strict", *DIST.iterdir())
        how = ["--no-deps"] * said.no_deps
        run(fresh / "python", "-m", "pip", "install", "--quiet", *how, wheel)
        if not said.no_deps:
            run(fresh / "python", "-m", "pip", "check")
            run(fresh / "tllboost", "--version", cwd=made)
        if not (said.no_demo or said.no_deps):
            run(fresh / "tllboost", "demo", "--out", Path(made, "demo"), cwd=made)
    print(f"ready: {', '.join(sorted(path.name for path in DIST.iterdir()))}")


if __name__ == "__main__":
    main()
