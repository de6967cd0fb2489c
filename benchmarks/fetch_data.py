"""Build the folders of images beside the checkout from the public repositories.

    python benchmarks/fetch_data.py                      ../shared/data, by git
    python benchmarks/fetch_data.py --to elsewhere       another folder
    python benchmarks/fetch_data.py --clones FOLDER      from clones that are there
    python benchmarks/fetch_data.py --check              look whether all are right

Each file has its sha256 in ``data.sha256``, in the form of ``sha256sum``. One that
has another sha256 is named and not written. docs/data.md says more.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("TLLBOOST_SHARED") or ROOT.parent / "shared")
ABSENT = "is not there: python benchmarks/fetch_data.py builds it, see docs/data.md"
LIST = Path(__file__).with_name("data.sha256")


class Source(NamedTuple):
    """A public repository, the commit of it, and the folders that are taken."""

    repository: str
    commit: str
    folders: tuple[str, ...]


LOOKS = Source(
    "yukwang11/Imagine-Recognition-Totally-Looks-Like",
    "d6cf3195f8d46ddcf678ae153f9405966a0ac298",
    ("data",),
)
COVERS = Source(
    "kdatsenko/scalable-vocabulary-tree-image-recognition",
    "d4516d0a0419aab342fa30b5110ea5759d8c5748",
    ("dvd_covers",),
)
OBJECTS = Source(
    "willard-yuan/image-retrieval",
    "40697fb146590a6ed102829bb56636fe7ef39ff2",
    ("bag-of-words-python-dev-version/dataset/train",),
)


def listed() -> dict[str, str]:
    """Return the sha256 of each file, by its path below ``data``."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    return {name: sha256 for sha256, name in (line.split("  ") for line in lines)}


def files_of(source: Source, clones: Path | None) -> Iterator[tuple[str, bytes]]:
    """Give the path and the bytes of each file that is taken of a repository."""
    with tempfile.TemporaryDirectory() as made:
        clone = Path(made, "clone.git")
        if clones is not None:
            clone = clones / source.repository.rpartition("/")[2]
        else:
            url = f"https://github.com/{source.repository}.git"
            print(f"fetching {url}", file=sys.stderr)
            _git(Path(made), "init", "--quiet", "--bare", clone.name)
            _git(clone, "fetch", "--quiet", "--depth", "1", url, source.commit)
        command = ["git", "archive", "--format=tar", source.commit, *source.folders]
        with (
            subprocess.Popen(command, cwd=clone, stdout=subprocess.PIPE) as process,
            tarfile.open(fileobj=process.stdout, mode="r|") as archive,
        ):
            for member in archive:
                if file := archive.extractfile(member):
                    yield member.name, file.read()


def _git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True)


def built(wanted: dict[str, str], clones: Path | None) -> Iterator[tuple[str, bytes]]:
    """Give each file as it should be, in no order."""
    for name, data in files_of(LOOKS, clones):
        place = name.removeprefix("data/")
        if place in ("train.csv", "test_candidates.csv"):
            is_train = place == "train.csv"
            folder = "tll" if is_train else "tll-challenge"
            rows = csv.reader(io.StringIO(data.decode("utf-8")))
            kept = io.StringIO(newline="")
            for row in rows:
                if row[0] == "left" or f"{folder}/left/{row[0]}.jpg" in wanted:
                    csv.writer(kept).writerow(row)
            table = "pairs.csv" if is_train else "candidates.csv"
            yield f"{folder}/{table}", kept.getvalue().encode("utf-8")
        for part, folder in (("train/", "tll/"), ("test/", "tll-challenge/")):
            if place.startswith(part):
                yield place.replace(part, folder, 1), data
    for name, data in files_of(COVERS, clones):
        camera, _, cover = name.removeprefix("dvd_covers/").partition("/")
        place = f"dvd-covers/{Path(cover).stem}/{camera.lower()}.jpg"
        if place in wanted:
            yield place, _cover(data)
    for name, data in files_of(OBJECTS, clones):
        number = int(Path(name).stem.removeprefix("ukbench"))
        yield f"ukbench/{number // 4:04d}{number % 4:02d}.jpg", data


def _cover(data: bytes) -> bytes:
    """Return a photograph upright, its longest side 320."""
    written = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (640, 640))
        upright = ImageOps.exif_transpose(image).convert("RGB")
        upright.thumbnail((320, 320), Image.Resampling.LANCZOS)
        upright.save(written, "JPEG", quality=88)
    return written.getvalue()


def sha256_of(data: bytes) -> str:
    """Return the sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def check(folder: Path) -> list[str]:
    """Return what is absent from a folder of data or not what it should be."""
    wrong = []
    for name, sha256 in listed().items():
        file = folder / name
        if not file.is_file():
            wrong.append(f"{name}: absent")
        elif sha256_of(file.read_bytes()) != sha256:
            wrong.append(f"{name}: not the file that was measured on")
    return wrong


def build(folder: Path, clones: Path | None) -> list[str]:
    """Write the files of a folder of data; return what could not be made right."""
    wanted = listed()
    wrong = dict.fromkeys(wanted, "not in its repository")
    for name, data in built(wanted, clones):
        if name not in wanted:
            continue
        if sha256_of(data) == wanted[name]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
            del wrong[name]
        else:
            wrong[name] = "has another sha256 here"
    return [f"{name}: {why}" for name, why in wrong.items()]


def main() -> None:
    """Build the folders, or look whether they are right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--to", type=Path, default=SHARED / "data", metavar="FOLDER")
    parser.add_argument("--clones", type=Path, metavar="FOLDER")
    parser.add_argument("--check", action="store_true")
    said = parser.parse_args()
    if said.clones:
        said.clones = said.clones.resolve()
    try:
        wrong = check(said.to) if said.check else build(said.to, said.clones)
    except subprocess.CalledProcessError as error:  # git has said why
        sys.exit(f"failed: {' '.join(error.cmd)}; --clones takes clones made by hand")
    for line in wrong[:20]:
        print(line, file=sys.stderr)
    n_right = len(listed()) - len(wrong)
    print(f"{said.to}: {n_right} of {len(listed())} files are right")
    sys.exit(3 if wrong else 0)


if __name__ == "__main__":
    main()
