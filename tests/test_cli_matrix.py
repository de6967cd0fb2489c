"""The matrix in the terminal: it fits, whatever the names, and loses no digit."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tllboost.grid.cells import DEFAULT_HEADS
from tllboost.report.terminal import print_matrix

ALL_HEADS = [*DEFAULT_HEADS, "joined"]
HEADER = "cosine logit svm bayes forest xgb rank mlp"
LONG_HEADS = ["my.package.heads:AVeryLongClassifierOfMine", "other:AVeryLongClassifier"]
NASTY = [
    "onnx:mobilenetv2_100?views=whole,centre,grey&trim=true",
    "onnx:mobilenetv2_100?views=whole,centre,gray&trim=true",
    "vectors:[bold]x[/bold].npz",
    "vectors:写真写真写真写真写真写真写真写真写真写真.npz",
    "onnx:\x1b[2J\nname",
]


def rows_of(
    vectorizers: Sequence[str],
    heads: Sequence[str],
    *,
    projections: Sequence[str] = ("none",),
    merges: Sequence[str] = ("dot",),
) -> list[dict[str, Any]]:
    """Return rows of results, every value another."""
    products = itertools.product(vectorizers, projections, merges, heads)
    return [
        {
            "vectorizer": vectorizer,
            "projection": projection,
            "merge": merge,
            "head": head,
            "status": "ok",
            "top2": (number + 1) / 1000,
            "tied_with_best": "yes",
            "protocol": "holdout",
        }
        for number, (vectorizer, projection, merge, head) in enumerate(products)
    ]


def printed(rows: list[dict[str, Any]], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_matrix(rows, "top2", console=console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def figures(text: str) -> list[str]:
    return re.findall(r"\.\d{3}(?=[=*])", text)


def test_the_built_in_heads_stand_side_by_side_in_80_columns() -> None:
    rows = rows_of(["classic"], ALL_HEADS[:-1], merges=["dot", "l1"])
    rows[3]["tied_with_best"] = "best"
    lines = printed(rows).splitlines()
    assert lines[0] == "top2, holdout (* best, = tied with it at 95 %)"
    assert " ".join(lines[2].split()[-8:]) == HEADER
    assert lines[4].startswith(" classic dot ")
    assert ".004*" in lines[4]
    assert len([line for line in lines if line]) == 5


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_matrix_fits_and_every_value_is_there_once(width: int) -> None:
    rows = rows_of(
        NASTY,
        [*ALL_HEADS, *LONG_HEADS],
        projections=["none", "infonce?components=256&depth=2/contrastive?margin=0.5"],
        merges=["dot", "dot+l1+cosdot"],
    )
    text = printed(rows, width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert sorted(figures(text)) == [f".{number + 1:03}" for number in range(len(rows))]
    assert "\x1b" not in text
    assert text.replace("\n", "").isprintable()
    flat = re.sub(r"\s+", "", text)
    for name in (*NASTY[:4], rows[-1]["projection"]):
        assert name in flat


@pytest.mark.parametrize("head", LONG_HEADS)
def test_the_name_of_a_class_stands_above_its_column_in_full(head: str) -> None:
    text = printed(rows_of(["classic"], [head])).replace("vectorizer, projection,", "")
    assert head.rpartition(":")[2] in re.sub(r"\s+|merge|─", "", text)


@given(
    st.lists(st.text(min_size=1, max_size=90), min_size=1, max_size=3, unique=True),
    st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=12, unique=True),
    st.integers(30, 120),
)
def test_any_names_fit_any_terminal(
    vectorizers: list[str], heads: list[str], width: int
) -> None:
    rows = rows_of(vectorizers, heads)
    text = printed(rows, width)
    assert max(map(cell_len, text.split("\n"))) <= max(width, 47)  # the title
    assert len(figures(text)) >= len(rows)


def test_names_that_are_almost_the_same_stay_apart() -> None:
    text = printed(rows_of(NASTY[:2], ["a.b:Net", "c.d:Net", "cosine"]), 120)
    for name in (*NASTY[:2], "a.b:Net", "c.d:Net"):
        assert name in text


def test_a_table_below_leaves_out_rows_that_are_empty_there() -> None:
    rows = rows_of(["classic", "pixels"], ALL_HEADS[:-1])
    rows += rows_of(["classic"], ["joined", *LONG_HEADS])
    below = printed(rows).partition("joined")[2]
    assert " classic dot " in below
    assert "pixels" not in below


def test_cells_that_failed_or_were_not_run_say_so() -> None:
    rows = rows_of(["classic"], ["cosine", "logistic", "mlp"])
    rows[1] |= {"status": "failed", "tied_with_best": "no"}
    rows[2]["top2"] = float("nan")
    rows += rows_of(["pixels"], ["cosine"])
    lines = printed(rows).splitlines()
    assert lines[4].split() == ["classic", "dot", ".001=", "failed", "–"]
    assert lines[5].split() == ["pixels", "dot", ".001="]


def test_the_best_is_bold_in_a_terminal_and_plain_without_colour() -> None:
    rows = rows_of(["classic"], ["cosine"])
    rows[0]["tied_with_best"] = "best"
    for environment, is_bold in (({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False)):
        console = Console(
            file=io.StringIO(), force_terminal=True, width=80, _environ=environment
        )
        print_matrix(rows, "top2", console=console)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert bool(re.search(r"\x1b\[1m *\.001\*", text)) == is_bold
        assert ".001*" in text


def test_a_terminal_without_unicode_gets_a_plain_rule() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace")
    print_matrix(rows_of(["classic"], ["mlp"]), "top2", console=Console(file=file))
    file.flush()
    assert b"\n ------" in raw.getvalue()
    assert b"\\u" not in raw.getvalue()
