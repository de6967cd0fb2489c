"""Candidate tables: a query and what is to be ranked for it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tllboost.errors import DataError, TableError, UsageError
from tllboost.pairs import read_candidates


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.shared
def test_the_real_challenge_queries_are_read_whole(shared: Path) -> None:
    data = shared / "data" / "tll-challenge"
    path = data / "candidates.csv"
    table = read_candidates(path, left=data / "left", right=data / "right")
    assert table.candidates.shape == (20, 20)
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert list(table.header) == header
    assert [list(row) for row in table.rows] == rows
    for i, row in enumerate(rows):
        assert table.ids[table.query[i]] == f"left/{row[0]}"
        assert [table.ids[j] for j in table.candidates[i]] == [
            f"right/{name}" for name in row[1:]
        ]
        assert table.paths[table.query[i]] == data / "left" / f"{row[0]}.jpg"
    assert len(table.ids) == len(set(table.ids))


def test_columns_are_taken_by_number_whatever_their_order(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "c1;left;c0;note\nx.jpg;a;y;1\n")
    table = read_candidates(path)
    assert table.header == ("left", "c0", "c1")
    assert table.rows == (("a", "y", "x.jpg"),)
    assert [table.ids[i] for i in table.candidates[0]] == ["y", "x.jpg"]
    assert table.candidates.dtype == table.query.dtype == np.int64


def test_more_than_ten_columns_are_in_numeric_order(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(12)]
    text = ",".join(["left", *names]) + "\n" + ",".join("abcdefghijklm") + "\n"
    table = read_candidates(write(tmp_path / "c.csv", text))
    assert table.header == ("left", *names)
    assert table.rows[0] == tuple("abcdefghijklm")


def test_a_candidate_may_stand_in_many_rows_and_be_the_query(tmp_path: Path) -> None:
    table = read_candidates(write(tmp_path / "c.csv", "left,c0,c1\na,a,b\nb,a,b\n"))
    assert table.ids == ("a", "b")
    assert table.candidates.tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("left,c0,c2\na,x,y\n", r"c\.csv:1: candidates are columns c0, c1"),
        ("left,right\na,x\n", r"c\.csv:1: candidates are .*'left', 'right'"),
        ("left,c00,c01\na,x,y\n", "candidates are columns c0, c1"),
        ("c0,c1\na,x\n", r"c\.csv:1: no column 'left'; found 'c0', 'c1'"),
        ("left,c0,c1\na,x,y\nb,x\n", r"c\.csv:3: 2 fields where the header has 3"),
        ("left,c0,c1\na,x,\n", r"c\.csv:2: c1: an empty id"),
        ("left,c0\na,../x\n", r"c\.csv:2: c0: '../x' is outside"),
        ("left,c0\n", "a header and no row"),
    ],
)
def test_every_problem_names_its_line_and_column(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(TableError, match=said):
        read_candidates(write(tmp_path / "c.csv", text))


def test_a_missing_image_names_its_column(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in "abx":
        (images / f"{name}.jpg").touch()
    path = write(tmp_path / "c.csv", "left,c0,c1\na,x,b\nb,x,q\n")
    with pytest.raises(TableError, match=r"c\.csv:3: c1: no image 'q' in ") as caught:
        read_candidates(path, images=images)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "left,c0\na,x\n")
    with pytest.raises(DataError, match="no such file"):
        read_candidates(tmp_path / "nosuch.csv")
    with pytest.raises(DataError, match=r"no such folder \(given as images\)"):
        read_candidates(path, images=tmp_path / "nosuch")
    with pytest.raises(UsageError, match="left has a folder and right has none"):
        read_candidates(path, left=tmp_path)
