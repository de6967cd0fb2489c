"""The check of a pair table: what it finds, and what it calls a leak."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import write_image
from PIL import Image, ImageEnhance

from tllboost.check import check_pairs
from tllboost.pairs import PairTable, pairs_from_paths, read_pairs
from tllboost.pairs.groups import read_groups


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Eight images that don't look alike, p0.png to p7.png."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(8):
        write_image(folder / f"p{i}.png", seed=i)
    return folder


def table_of(
    folder: Path | None, pairs: list[str], *, label: str = "", split: str = ""
) -> PairTable:
    """Make a table of pairs such as "p0 p1", labels "110" and splits "xvt"."""
    names = sorted({name for pair in pairs for name in pair.split()})
    codes = np.array([[names.index(name) for name in pair.split()] for pair in pairs])
    sides = {"x": "train", "v": "validation", "t": "test"}
    return PairTable(
        source="pairs.csv",
        ids=tuple(names),
        paths=tuple(folder / f"{name}.png" if folder else None for name in names),
        left=codes[:, 0],
        right=codes[:, 1],
        label=np.array([int(y) for y in label or "1" * len(pairs)], dtype=np.int8),
        query=None,
        split=np.array([sides[side] for side in split]) if split else None,
        lines=np.arange(len(pairs)) + 2,
    )


@pytest.mark.shared
def test_the_real_pairs_are_clean(tll: Path) -> None:
    table = read_pairs(tll / "pairs.csv", left=tll / "left", right=tll / "right")
    told: list[tuple[int, int, str]] = []
    report = check_pairs(table, progress=lambda *step: told.append(step))
    assert (report.n_pairs, report.n_matches, report.n_images) == (1400, 1400, 2800)
    assert (report.n_read, report.n_components, report.n_shared) == (2800, 1400, 0)
    assert (report.unreadable, report.identical, report.leaks) == ((), (), False)
    # Characters that are in the data twice, as two different files.
    near = {found[:2]: found[2] for found in report.near_duplicates}
    assert near["right/ago", "right/pnn"] > 0.9
    assert len(near) < 70  # of 3,918,600 pairs
    assert told[0] == (0, 2800, "classic")
    assert (2800, 2800, "pocket") in told


@pytest.mark.shared
def test_a_split_over_the_pairs_of_real_groups_leaks(shared: Path) -> None:
    table = read_groups(shared / "data" / "ukbench", r"^(\d{4})")
    by_pair = np.where(np.arange(table.n_pairs) % 3 == 0, "test", "train")
    report = check_pairs(replace(table, split=by_pair))
    assert report.leaks
    assert len(report.leaking_components) == 14
    by_group = np.where(np.arange(table.n_pairs) < 42, "test", "train")
    assert not check_pairs(replace(table, split=by_group)).leaks


@pytest.mark.shared
def test_a_truncated_real_image_is_named_and_the_rest_is_read(
    tll: Path, tmp_path: Path
) -> None:
    for name in ("aaa", "aaz"):
        shutil.copy(tll / "left" / f"{name}.jpg", tmp_path)
    cut = tmp_path / "aaz.jpg"
    cut.chmod(0o644)
    cut.write_bytes(cut.read_bytes()[:2000])
    report = check_pairs(pairs_from_paths([[tmp_path / "aaa.jpg", cut]]))
    assert [name for name, _ in report.unreadable] == [str(cut)]
    assert "truncated" in report.unreadable[0][1]
    assert any("aaz.jpg" in line for line in report.lines())


def test_unreadable_files_have_their_reasons(images: Path) -> None:
    (images / "p1.png").write_bytes(b"")
    (images / "p2.png").write_text("no image")
    (images / "p3.png").unlink()
    report = check_pairs(table_of(images, ["p0 p1", "p2 p3"]))
    assert [name for name, _ in report.unreadable] == ["p1", "p2", "p3"]
    assert all(reason for _, reason in report.unreadable)


def test_byte_identical_images_are_grouped_and_tie_components(images: Path) -> None:
    shutil.copy(images / "p0.png", images / "p3.png")
    shutil.copy(images / "p0.png", images / "p5.png")
    table = table_of(images, ["p0 p1", "p2 p3", "p4 p5"])
    report = check_pairs(table)
    assert report.identical == (("p0", "p3", "p5"),)
    assert (report.n_components, report.largest_component) == (1, 6)
    assert not report.leaks
    report = check_pairs(replace(table, split=np.array(["train", "test", "train"])))
    assert report.leaks
    assert report.leaking_images == ()
    assert report.leaking_components == ({"train": "p0", "test": "p2"},)


def test_pairs_of_copies_are_trivial_or_contradict(images: Path) -> None:
    shutil.copy(images / "p0.png", images / "p1.png")
    shutil.copy(images / "p2.png", images / "p3.png")
    report = check_pairs(table_of(images, ["p0 p1", "p2 p3"], label="10"))
    assert report.trivial == (("p0", "p1"),)
    assert report.contradictions == (("p2", "p3"),)


def test_an_image_in_two_sets_is_a_leak_even_in_non_matches(images: Path) -> None:
    pairs = ["p0 p1", "p2 p3", "p0 p4", "p2 p5"]
    report = check_pairs(table_of(images, pairs, label="1100", split="xttt"))
    assert report.leaks
    assert report.leaking_images == (("p0", ("train", "test")),)
    lines = "\n".join(report.lines())
    assert "THE GIVEN SPLIT LEAKS" in lines
    assert "p0: train, test" in lines


def test_a_clean_split_does_not_leak(images: Path) -> None:
    pairs = ["p0 p1", "p2 p3", "p4 p5"]
    report = check_pairs(table_of(images, pairs, split="xvt"))
    assert not report.leaks
    assert "  the given split does not leak" in report.lines()
    assert report.sets["test"] == {"n_pairs": 1, "n_matches": 1, "n_images": 2}


def test_a_recompressed_copy_across_the_split_is_a_leak(images: Path) -> None:
    with Image.open(images / "p0.png") as image:
        small = image.resize((60, 50))
        ImageEnhance.Brightness(small).enhance(1.1).save(images / "p2.png")
    pairs = ["p0 p1", "p2 p3"]
    report = check_pairs(table_of(images, pairs, split="xt"))
    assert [found[:2] for found in report.near_duplicates] == [("p0", "p2")]
    assert report.leaks
    assert check_pairs(table_of(images, pairs, split="xx")).near_duplicates == ()
    report = check_pairs(table_of(images, [*pairs, "p4 p5"], split="xtv"))
    assert [found[:2] for found in report.near_duplicates] == [("p0", "p2")]
    report = check_pairs(table_of(images, pairs))
    assert len(report.near_duplicates) == 1
    assert not report.leaks


def test_without_folders_only_the_table_is_looked_at() -> None:
    report = check_pairs(table_of(None, ["a b", "b c", "d e"], split="xtt"))
    assert (report.n_read, report.n_shared, report.n_components) == (0, 1, 2)
    assert report.leaking_components == ({"train": "a", "test": "b"},)
    assert "no image was read: add --images" in report.notes[0]
    assert not any("unreadable" in line for line in report.lines())


def test_the_report_is_plain_json_and_its_lines_are_lines(images: Path) -> None:
    report = check_pairs(table_of(images, ["p0 p1", "p1 p2"], split="xt"))
    values = json.loads(json.dumps(report.as_dict()))
    assert values["leaks"] is True
    assert values["leaking_images"] == [["p1", ["train", "test"]]]
    assert all("\n" not in line for line in report.lines())
    assert report.lines()[0] == "pairs.csv: 2 pairs of 3 images"


def test_long_findings_are_cut_on_the_terminal_alone(images: Path) -> None:
    for path in images.iterdir():
        path.write_bytes(b"")
    names = [f"p{i}" for i in range(8)]
    report = check_pairs(table_of(images, [" ".join(p) for p in pairwise(names)]))
    assert len(report.unreadable) == 8
    assert "    and 3 more" in report.lines()


# Near-duplicates


def crop(image: Image.Image, share: float) -> Image.Image:
    """Take `share` of both sides away, more on the left and below."""
    width, height = image.size
    x, y = 0.7 * share * width, 0.3 * share * height
    return image.crop((int(x), int(y), int(x + (1 - share) * width), int(height - y)))


@pytest.mark.shared
@pytest.mark.parametrize(
    "change", ["jpeg", "small", "large", "bright", "grey", "crop 8 %", "crop 15 %"]
)
def test_changed_copies_of_real_images_are_near(
    tll: Path, tmp_path: Path, change: str
) -> None:
    paths = sorted((tll / "left").iterdir())[::100]
    pairs = []
    for path in paths:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        other = {
            "small": lambda i: i.resize((120, 147)),
            "large": lambda i: i.resize((400, 490)),
            "bright": lambda i: ImageEnhance.Brightness(i).enhance(1.15),
            "grey": lambda i: i.convert("L"),
            "crop 8 %": lambda i: crop(i, 0.08),
            "crop 15 %": lambda i: crop(i, 0.15),
        }.get(change, lambda i: i)(image)
        copy = tmp_path / f"{path.stem}.jpg"
        other.save(copy, quality=30 if change == "jpeg" else 75)
        pairs.append((path, copy))
    table = pairs_from_paths(pairs)
    apart = replace(table, label=np.zeros(len(pairs), np.int8))
    found = check_pairs(apart).near_duplicates
    assert {frozenset(pair[:2]) for pair in found} == {
        frozenset(map(str, pair)) for pair in pairs
    }
    assert [cosine for *_, cosine in found] == sorted(
        (cosine for *_, cosine in found), reverse=True
    )


def test_plain_images_are_near_no_other(images: Path) -> None:
    for name, colour in (("p0", "black"), ("p1", "white"), ("p2", "red")):
        Image.new("RGB", (50, 40), colour).save(images / f"{name}.png")
    assert check_pairs(table_of(images, ["p0 p1", "p2 p3"])).near_duplicates == ()


def test_non_matches_that_a_chain_of_matches_ties_are_named(images: Path) -> None:
    # p0–p1 and p1–p2 match, p0–p2 is 0; p3–p4 too, but for a copy: p5 is p4.
    shutil.copy(images / "p4.png", images / "p5.png")
    pairs = ["p0 p1", "p1 p2", "p0 p2", "p3 p4", "p3 p5", "p4 p5", "p6 p7", "p0 p3"]
    report = check_pairs(table_of(images, pairs, label="11010000"))
    assert report.tied_non_matches == (("p0", "p2"), ("p3", "p5"))
    assert report.contradictions == (("p4", "p5"),)
    assert "  non-matches that contradict matches: 2" in report.lines()
    assert "    p0 ~ p2" in report.lines()
    # The table alone tells of chains, though not of copies.
    bare = check_pairs(table_of(None, pairs, label="11010000"))
    assert bare.tied_non_matches == (("p0", "p2"),)
    assert "    p0 ~ p2" in bare.lines()
