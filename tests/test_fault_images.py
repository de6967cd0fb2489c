from __future__ import annotations

import csv
import io
import os
import socket
import sys
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL
import pytest
from bundles import write_npz
from conftest import Run, write_image
from PIL import ExifTags, Image
from reliability import count
from test_decoders import jpeg_of_many_scans
from test_images import png_header

from tllboost.pairs import read_pairs
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizing import vectorize

NEW_PILLOW = int(PIL.__version__.split(".")[0]) >= 13
LINUX = sys.platform.startswith("linux")


def image(mode: str = "RGB", suffix: str = "PNG", **how: object) -> bytes:
    """A small image, one half red (or dark) and one half white."""
    image = Image.new("RGB", (48, 40), "white")
    image.paste("red", (0, 0, 24, 40))
    file = io.BytesIO()
    grey = image.convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(np.asarray(grey).astype(np.float32) / 255)
    else:
        image = image.convert(mode)
    image.save(file, suffix, **how)
    return file.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return image(suffix="JPEG", exif=exif)


def moving(suffix: str) -> bytes:
    frames = [Image.new("RGB", (48, 40), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, suffix, save_all=True, append_images=frames[1:])
    return file.getvalue()


def text_bomb() -> bytes:
    """A small PNG whose comment unpacks to a hundred megabytes."""
    header = png_header(8, 8)
    body = b"Comment\0\0" + zlib.compress(bytes(100_000_000), 1)
    chunk = len(body).to_bytes(4, "big") + b"zTXt" + body
    chunk += zlib.crc32(b"zTXt" + body).to_bytes(4, "big")
    return header[:33] + chunk + header[33:]


# What is read right.
GOOD: dict[str, Callable[[], bytes]] = {
    "turned.jpg": turned,
    "alpha.png": lambda: image("RGBA"),
    "grey-alpha.png": lambda: image("LA"),
    "clear-colour.png": lambda: image("P", transparency=0),
    "palette.gif": lambda: image("P", "GIF"),
    "cmyk.jpg": lambda: image("CMYK", "JPEG"),
    "lab.tif": lambda: image("LAB", "TIFF"),
    "sixteen-bit.png": lambda: image("I;16"),
    "sixteen-bit.tif": lambda: image("I;16", "TIFF"),
    "float.tif": lambda: image("F", "TIFF"),
    "grey.jpg": lambda: image("L", "JPEG"),
    "one-bit.png": lambda: image("1"),
    "moving.gif": lambda: moving("GIF"),
    "moving.png": lambda: moving("PNG"),
    "moving.webp": lambda: moving("WEBP"),
    "really-a-png.jpg": image,
    "really-a-jpeg.png": lambda: image(suffix="JPEG"),
    "quotes'\".png": lambda: image(exif=b"not exif"),
    "=1+1.png": lambda: image("L"),
    **({"two\nlines.png": lambda: image("1", "TIFF")} if LINUX else {}),
    # Older versions take what they wrote for cut off.
    **({"ycbcr.tif": lambda: image("YCbCr", "TIFF")} if NEW_PILLOW else {}),
}  # fmt: skip

# What is said of HEIC depends on what is installed.
HEIC = "is not an image" if find_spec("pillow_heif") else "HEIC needs pillow-heif"
# What can't be read, and what is said of it.
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.jpg": (bytes, "the file is empty"),
    "text.jpg": (lambda: b"left,right\na,b\n", "is not an image"),
    "page.png": (lambda: b"<html><script>", "is not an image"),
    "script.jpg": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", "is not an image"),
    "vector.png": (
        lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "is not an image",
    ),
    "phone.heic": (lambda: b"\0\0\0\x18ftypheic" + bytes(99), HEIC),
    "raw.CR2": (lambda: b"II*\0", ""),
    "cut.jpg": (lambda: image(suffix="JPEG")[:-200], "truncated"),
    "cut.png": (lambda: image()[:-40], "truncated"),
    "head.png": (lambda: image()[:20], ""),
    "bomb.png": (lambda: png_header(30_000, 30_000), "too many pixels"),
    "wide.png": (lambda: png_header(2**31 - 1, 1), "too many pixels"),
    "text-bomb.png": (text_bomb, "can't be decoded"),
    "no-width.png": (lambda: png_header(0, 9), ""),
    **({"\x1b[2Jescape\n=cmd.jpg": (bytes, "the file is empty")} if LINUX else {}),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of every good and every bad kind, files and what is no file."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, make in GOOD.items():
        (folder / name).write_bytes(make())
    for name, (make, _) in BAD.items():
        (folder / name).write_bytes(make())
    with (folder / "too-many-bytes.jpg").open("wb") as file:
        file.truncate(1 << 40)  # reading it would take an hour
    return folder


def add_oddities(folder: Path) -> dict[str, str]:
    """Add what is no file, or has no name in text; return what is said of each."""
    said = {"too-many-bytes.jpg": "has 1,099,511,627,776 bytes"}
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "broken.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "endless.jpg").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.jpg")
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(folder)
    server.bind("socket.jpg")
    os.chdir(here)
    server.close()
    said |= {"loop.jpg": "can't be read (", "broken.jpg": "No such file"}
    special = ("endless.jpg", "pipe.jpg", "socket.jpg")
    said |= dict.fromkeys(special, "not a regular file")
    raw = os.fsdecode(b"no-text-\xff.jpg")
    (folder / raw).write_bytes(b"no image")
    said[raw] = "is not an image"
    (folder / os.fsdecode(b"read-\xfe.jpg")).write_bytes(image("P"))
    (folder / "round").symlink_to(folder)  # a folder that holds itself
    return said


@pytest.mark.skipif(not LINUX, reason="names and files like these need Linux")
def test_every_kind_of_image_is_read_or_reported_once(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    said = {name: reason for name, (_, reason) in BAD.items()} | add_oddities(folder)
    store = ("--store", tmp_path / "store")
    done = run("vectorize", folder, "-v", "pixels?size=4", *store, "--json")
    assert done.returncode == 4, done.stderr
    rows = done.json["failures"]
    assert sorted(row["where"] for row in rows) == sorted(
        str(folder / name) for name in said
    )
    for row in rows:
        reason = said[Path(row["where"]).name]
        assert reason in row["why"]
        assert row["why"].isprintable()
    told = [line for line in done.stderr.splitlines() if line.startswith("tllboost:")]
    assert len(told) == len(said)
    assert all(line.isprintable() for line in told)
    (made,) = done.json["vectorizers"]
    assert (made["n_computed"], made["n_failed"]) == (len(GOOD) + 1, len(said))
    count("bad images tried", len(said))


@pytest.mark.skipif(not LINUX, reason="names and files like these need Linux")
def test_check_reports_every_kind_in_lines_that_can_be_shown(
    run: Run, folder: Path
) -> None:
    said = {name: reason for name, (_, reason) in BAD.items()} | add_oddities(folder)
    group = folder.parent / "groups" / "all"
    group.parent.mkdir()
    folder.rename(group)
    done = run("check", group.parent, "--groups", "folder", "--json", "--quiet")
    assert done.returncode == 3
    unreadable = dict(done.json["unreadable"])
    assert len(unreadable) == len(said)
    for name, why in unreadable.items():
        stems = [
            said[one] for one in said if name in (f"all/{one}", f"all/{Path(one).stem}")
        ]
        assert stems, name
        assert any(reason in why for reason in stems)
    done = run("check", group.parent, "--groups", "folder", "--quiet")
    assert done.returncode == 3
    assert all(line.isprintable() for line in done.stdout.splitlines())
    count("bad images tried", len(said))


def test_every_kind_that_is_read_shows_what_it_should(folder: Path) -> None:
    pixels = make_vectorizer("pixels?size=8")
    names = [name for name in GOOD if not name.startswith(("turned", "moving"))]
    vectors = vectorize(pixels, [folder / name for name in names]).vectors
    shown = vectors.reshape(len(names), 3, 8, 8).mean(axis=2)  # across, by colour
    for name, (red, green, blue) in zip(names, shown, strict=True):
        assert min(red[-1], green[-1], blue[-1]) > 0.95, name  # white on the right
        assert green[0] < 0.6 or name == "clear-colour.png", name
        assert abs(green[0] - blue[0]) < 0.06, name
    paths = [folder / name for name in GOOD if name.startswith("moving")]
    for vector in vectorize(pixels, paths).vectors.reshape(-1, 3, 64):
        assert vector[0].min() > 0.95  # the first frame is red, the second blue
        assert vector[2].max() < 0.1
    (vector,) = vectorize(pixels, [folder / "turned.jpg"]).vectors
    top, bottom = vector.reshape(3, 8, 8)[1, [0, -1]]
    assert top.max() < 0.2 < 0.9 < bottom.min()


def test_strict_stops_at_the_first_image_that_fails(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    options = ("-v", "pixels?size=4", "--store", tmp_path / "store", "--quiet")
    done = run("vectorize", folder, *options, "--strict")
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    for name in (*BAD, "too-many-bytes.jpg"):
        (folder / name).unlink()
    assert run("vectorize", folder, *options, "--strict").returncode == 0
    (folder / "text.jpg").write_bytes(b"no image")
    (folder / "zero.jpg").write_bytes(b"no image")
    done = run("vectorize", folder, *options, "--strict")
    assert done.returncode == 3
    bad = folder / "text.jpg"
    assert done.stderr.startswith(f"tllboost: {bad}: is not an image")
    count("bad images tried", 2)


def test_strict_refuses_an_id_that_has_no_vector(run: Run, tmp_path: Path) -> None:
    vectors = f"vectors:{write_npz(tmp_path / 'own.npz')}"
    names = [write_image(tmp_path / f"{n}.jpg", seed=0) for n in ("left000", "nosuch")]
    options = ("-v", vectors, "--store", tmp_path / "store", "--quiet")
    assert run("vectorize", *names, *options).returncode == 4
    done = run("vectorize", *names, *options, "--strict")
    assert done.returncode == 3
    assert "nosuch" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_image_that_never_ends_takes_no_other_with_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tllboost.images.decoders import DECODERS

    monkeypatch.setattr(DECODERS, "seconds", 1.0)
    paths = [folder / "alpha.png", folder / "slow.jpg", folder / "grey.jpg"]
    paths[1].write_bytes(jpeg_of_many_scans(40_000))
    result = vectorize(make_vectorizer("pixels?size=4"), paths)
    assert result.failures == {1: "took over 1 s to decode"}
    assert result.n_computed == 2
    count("bad images tried")


def test_a_grid_reports_what_it_leaves_out_and_strict_stops_it(
    run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "groups"
    names = [*("=1+1", "-x", "@y", "'=z"), *"abcdefgh"]
    for seed, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for view in range(2):
            write_image(folder / name / f"={view}.jpg", seed=seed)
    bad = [folder / "a" / ("=2\n.jpg" if LINUX else "=2.jpg")]
    bad += [folder / "b" / os.fsdecode(b"\xff.jpg")] if LINUX else []
    bad += [folder / "c" / "=3.heic", folder / "d" / "=4.NEF"]
    for path in bad:
        path.write_bytes(b"no image")
    grid = ("grid", folder, "--groups", "folder", "-v", "pixels?size=4", "-c", "cosine")
    grid += ("--quiet", "--store", tmp_path / "store", "--jobs", 1)
    done = run(*grid, "--out", tmp_path / "strict", "--strict")
    assert done.returncode == 3
    assert done.stdout == ""
    assert "is not an image" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "strict" / "results.csv").exists()
    done = run(*grid, "--out", tmp_path / "out")
    assert done.returncode == 4, done.stderr
    text = (tmp_path / "out" / "failures.csv").read_bytes()
    failures = csv.DictReader(
        io.StringIO(text.decode("utf-8", "surrogateescape"), newline="")
    )
    assert sorted(row["where"] for row in failures) == sorted(map(str, bad))
    splits = tmp_path / "out" / "splits.csv"
    cells = [row[0] for row in csv.reader(splits.read_text("utf-8").splitlines())]
    assert not [cell for cell in cells if cell[0] in "=+-@"]
    table = read_pairs(splits, images=folder)  # the ids that we wrote are read again
    assert sorted(table.ids) == sorted(f"{name}/={v}" for name in names for v in (0, 1))
    count("bad images tried", len(bad))
