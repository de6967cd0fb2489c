"""Groups: images that belong together, by folder or by name."""

from __future__ import annotations

import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st
from reliability import count

from tllboost.errors import DataError, TableError, UsageError
from tllboost.pairs import PairTable, groups
from tllboost.pairs.groups import read_groups


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def pairs_of(table: PairTable) -> set[tuple[str, str]]:
    return {
        (table.ids[i], table.ids[j])
        for i, j in zip(table.left, table.right, strict=True)
    }


@pytest.mark.shared
def test_a_folder_a_group_reads_the_real_covers(shared: Path) -> None:
    folder = shared / "data" / "dvd-covers"
    table = read_groups(folder)
    assert (table.n_pairs, table.n_images) == (70 * 10, 350)
    assert all(a.split("/")[0] == b.split("/")[0] for a, b in pairs_of(table))
    assert table.paths[0] == folder / "001" / "canon.jpg"
    assert table.ids[0] == "001/canon"
    assert table.label.tolist() == [1] * 700
    assert (table.query, table.split, table.notes) == (None, None, ())


@pytest.mark.shared
def test_a_name_pattern_reads_the_real_objects(shared: Path) -> None:
    table = read_groups(shared / "data" / "ukbench", r"^(\d{4})")
    assert (table.n_pairs, table.n_images) == (14 * 6, 56)
    assert all(a[:4] == b[:4] for a, b in pairs_of(table))


def test_types_are_those_of_a_pair_table(tmp_path: Path) -> None:
    table = read_groups(touch(tmp_path, "x/a.jpg", "x/b.png"))
    assert table.left.dtype == table.right.dtype == table.lines.dtype == np.int64
    assert table.label.dtype == np.int8
    assert table.lines.tolist() == [0]
    assert table.source == str(tmp_path)


def test_folders_at_any_depth_are_groups_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "s/1/a.jpg", "s/1/b.jpg", "s/2/a.jpg", "s/2/c.jpg", "s/2/n.txt")
    assert pairs_of(read_groups(tmp_path)) == {
        ("s/1/a", "s/1/b"),
        ("s/2/a", "s/2/c"),
    }


def test_images_that_differ_by_extension_keep_it(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.jpg", "x/a.png", "x/b.jpg")
    assert read_groups(tmp_path).ids == ("x/a.jpg", "x/a.png", "x/b")


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.jpg", "x/b.jpg", "y/c.jpg", "stray.jpg")
    table = read_groups(tmp_path)
    assert pairs_of(table) == {("x/a", "x/b")}
    assert table.notes == (
        "left out 1 images in no subfolder, 'stray.jpg' first",
        "left out 1 groups of one image, 'c.jpg' first: a match needs two",
    )


def test_names_that_the_pattern_misses_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "000100.jpg", "000101.jpg", "cover.jpg")
    table = read_groups(tmp_path, r"^(\d{4})")
    assert table.ids == ("000100", "000101")
    assert "1 images with a name that the pattern misses" in table.notes[0]


def test_a_pattern_is_searched_for_anywhere_in_the_name(tmp_path: Path) -> None:
    touch(tmp_path, "a_0001.jpg", "b_0001.jpg", "c_0002.jpg", "d_0002_0001.jpg")
    table = read_groups(tmp_path, r"_(\d{4})")
    assert pairs_of(table) == {("a_0001", "b_0001"), ("c_0002", "d_0002_0001")}


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"^\d{4}", "has 0 groups in parentheses; it must have one"),
        (r"^(\d)(\d)", "has 2 groups in parentheses"),
        (r"^(\d{4}", "is not a regular expression"),
    ],
)
def test_a_pattern_that_makes_no_group_is_refused(
    tmp_path: Path, pattern: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        read_groups(touch(tmp_path, "a.jpg"), pattern)


def classes_of(folder: Path, text: str) -> Path:
    path = folder / "classes.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "header", ["image,class", "Image,Id", "class,image", "f;label"]
)
def test_a_table_of_classes_makes_the_groups(
    tmp_path: Path, run: Run, header: str
) -> None:
    touch(tmp_path, "whales/a.jpg", "whales/b.jpg", "whales/sub/c.png", "whales/d.jpg")
    rows = [["a.jpg", "w_1"], ["sub/c", "w_1"], ["b", "w_2"], ["whales/a.jpg", "w_1"]]
    rows = [row[::-1] if header == "class,image" else row for row in rows]
    comma = ";" if ";" in header else ","
    text = "\n".join([header, *map(comma.join, rows)])
    classes = classes_of(tmp_path, text)
    table = read_groups(tmp_path / "whales", classes=classes)
    assert pairs_of(table) == {("a", "sub/c")}
    assert table.notes == (
        "left out 1 images without a class, 'd.jpg' first",
        "left out 1 groups of one image, 'b.jpg' first: a match needs two",
    )
    done = run("check", tmp_path / "whales", "--groups-from", classes, "--json")
    assert done.json["n_pairs"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,class\na,1\na,2\n", ":3: 'a' has class '1' already; keep one"),
        ("image,class\na,1\nnosuch,1\n", ":3: image: no image 'nosuch'"),
        ("a.jpg,1\nb.jpg,1\n", ":1: ['a.jpg', '1'] names no columns; put a line im"),
        ("file,label,width\na,1,9\n", ":1: no column 'image'; found 'file', 'label'"),
    ],
)
def test_a_table_of_classes_that_can_not_be_used_is_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    folder = touch(tmp_path / "images", "a.jpg", "b.jpg")
    with pytest.raises(TableError) as caught:
        read_groups(folder, classes=classes_of(tmp_path, text))
    assert said in str(caught.value)
    count("bad tables tried")


def test_groups_come_from_names_or_from_a_table(run: Run, tmp_path: Path) -> None:
    done = run("check", tmp_path, "--groups", "folder", "--groups-from", "c.csv")
    assert done.returncode == 2
    assert "--groups and --groups-from: give one of the two" in done.stderr


def test_a_folder_without_groups_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images there to group"):
        read_groups(tmp_path)
    touch(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(DataError, match="none of the 2 images there shares a group"):
        read_groups(tmp_path, r"^(\w)")
    with pytest.raises(DataError) as caught:
        read_groups(tmp_path / "nosuch")
    assert "nosuch" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_group_of_everything_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "_MOST_PAIRS", 2)
    touch(tmp_path, "a1.jpg", "a2.jpg", "a3.jpg")
    with pytest.raises(DataError, match="makes 3 matches, over the limit of 2"):
        read_groups(tmp_path, "^(a)")


@given(st.lists(st.integers(0, 4), min_size=2, max_size=12))
def test_every_pair_inside_a_group_is_a_match_once(members: list[int]) -> None:
    names = [f"{group}-{i:02d}" for i, group in enumerate(members)]
    expected = {
        (a, b) for a, b in combinations(sorted(names), 2) if a[0] == b[0] and a != b
    }
    with tempfile.TemporaryDirectory() as folder:
        touch(Path(folder), *(f"{name}.jpg" for name in names))
        if not expected:
            with pytest.raises(DataError):
                read_groups(folder, r"^(\d)-")
            return
        table = read_groups(folder, r"^(\d)-")
    assert pairs_of(table) == expected
    assert table.n_pairs == len(expected)
