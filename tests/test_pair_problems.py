"""Every problem of a pair table is named, with its line and value, all at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import write_image
from pair_tables import folder, problems_of, table_of, write

from tllboost.errors import DataError, TableError, UsageError
from tllboost.pairs import read_pairs

# Fixtures.
__all__ = ["folder"]


def test_up_to_twenty_problems_are_told_at_once_in_order(
    tmp_path: Path, folder: Path
) -> None:
    rows = [f"a,x{i}" for i in range(30)]
    found = problems_of(
        tmp_path, "\n".join(["left,right", *rows]) + "\n", images=folder
    )
    assert len(found) == 21
    assert [line.split(":")[1] for line in found[:20]] == [
        str(line) for line in range(2, 22)
    ]
    assert found[20] == ": and 10 more problems"


def test_a_near_miss_is_suggested(tmp_path: Path, folder: Path) -> None:
    (folder / "sunset.jpg").touch()
    found = problems_of(
        tmp_path, "left,right\na,sunsett\na,sunset.png\n", images=folder
    )
    assert found[0].endswith("did you mean 'sunset'?")
    assert found[1].endswith("did you mean 'sunset.jpg'?")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("left,right\n,b\n", 2, "left: an empty id"),
        ("left,right\na,../b\n", 2, "'../b' is outside its folder"),
        ("left,right\na,x/../../b\n", 2, "'x/../../b' is outside its folder"),
        ("left,right\na,..\\b\n", 2, r"'..\\b' is outside its folder"),
        ("left,right\na,/etc/passwd\n", 2, "'/etc/passwd' is an absolute path"),
        ("left,right\na,C:\\b.jpg\n", 2, r"'C:\\b.jpg' is an absolute path"),
        ("left,right\na,a.jpg\n", 2, "'a.jpg' is paired with itself"),
        ("left,right\na,b\nb,a\na,b\n", 4, "'a', 'b' is on line 2 already"),
        (
            "left,right,label\na,b,1\na,b,0\n",
            3,
            "'a', 'b' has label 0 here and 1 on line 2",
        ),
        (
            "left,right,label\na,b,0\n\nb,a,1\n",
            4,
            "'b', 'a' has label 1 here and 0 on line 2",
        ),
        ("left,right,label\na,b,2\n", 2, "label '2' is not legal; it must be 1"),
        ("left,right,label\na,b,\n", 2, "label '' is not legal"),
        ("left,right,split\na,b,all\n", 2, "split 'all' is not legal; it must be"),
        ("left,right,query\na,b,\n", 2, "query '' is empty"),
        ("left,right\na\n", 2, "1 fields where the header has 2: ['a']"),
        ("left,right\na,b,c\n", 2, "3 fields where the header has 2"),
        ("left,rigth\na,b\n", 1, "no column 'right'; found 'left', 'rigth'"),
        ("a,b\nc,d\n", 1, "no column 'left'; found 'a', 'b'"),
        ("Image,Id\na,w\n", 1, "'image', 'id': a table of images and classes is read"),
        ("left,right,labels\na,b,1\n", 1, "did you mean 'label'?"),
        ("left,right,left\na,b,c\n", 1, "column 'left' occurs 2 times"),
        ('left,right\na,b\nc,"d\n', 3, "a quote never closes"),
        ("left,right\na,b\nc," + "x" * 200_000 + "\n", 3, "field larger than"),
    ],
)
def test_every_problem_names_its_line_and_value(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    found = problems_of(tmp_path, text)
    assert found[0].startswith(f":{line}: ")
    assert said in "\n".join(found)


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_an_empty_table_is_refused(tmp_path: Path, text: str) -> None:
    assert problems_of(tmp_path, text) == [": the table is empty"]


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    found = problems_of(tmp_path, "left,right\n,\n\n")
    assert found == [": the table has a header and no row"]


def test_a_table_in_another_encoding_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.csv", "left,right\na,b\ncafé,b\n", "latin-1")
    with pytest.raises(TableError, match=r"pairs\.csv:3: byte 0xe9 is not text"):
        read_pairs(path, images=write_image(tmp_path / "a.png", seed=0).parent)


def test_a_line_number_counts_rows_that_span_lines(tmp_path: Path) -> None:
    text = 'note,left,right\n"two\nlines",a,b\n,a,a\n'
    assert problems_of(tmp_path, text)[0].startswith(":4: ")


def test_problems_of_different_kinds_come_together(
    tmp_path: Path, folder: Path
) -> None:
    text = "left,right,label\na,b,maybe\nc,c,1\nd,nosuch,0\ne\n"
    found = problems_of(tmp_path, text, images=folder)
    assert [line.split(":")[1] for line in found] == ["2", "3", "4", "5"]


def test_repeats_are_accepted_for_scoring(tmp_path: Path) -> None:
    text = "left,right\na,a\na,b\na,b\n"
    table = table_of(tmp_path, text, allow_repeats=True)
    assert table.n_pairs == 3


@pytest.mark.parametrize("name", ["nosuch.csv", "."])
def test_a_missing_table_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"no such file|is a folder") as caught:
        read_pairs(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file"):
        read_pairs(tmp_path / "pipe")


@pytest.mark.parametrize("option", ["images", "left", "right"])
def test_a_missing_folder_is_one_line_with_its_option(
    tmp_path: Path, folder: Path, option: str
) -> None:
    path = write(tmp_path / "pairs.csv", "left,right\na,b\n")
    folders = {"images": None, "left": folder, "right": folder}
    if option == "images":
        folders = {"left": None, "right": None}
    folders[option] = tmp_path / "nosuch"
    with pytest.raises(DataError, match=rf"no such folder \(given as {option}\)"):
        read_pairs(path, **folders)


def test_folders_that_contradict_each_other_are_refused(
    tmp_path: Path, folder: Path
) -> None:
    path = write(tmp_path / "pairs.csv", "left,right\na,b\n")
    with pytest.raises(UsageError, match="left has a folder and right has none"):
        read_pairs(path, left=folder)
    with pytest.raises(UsageError, match="right has a folder and left has none"):
        read_pairs(path, right=folder)
    with pytest.raises(UsageError, match="one folder for both sides"):
        read_pairs(path, images=folder, left=folder, right=folder)
