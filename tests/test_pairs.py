"""Pair tables: what is read, and what is said about what can't be."""

from __future__ import annotations

import csv
import io
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conftest import write_image
from hypothesis import given
from hypothesis import strategies as st
from pair_tables import folder, problems_of, rows_of, table_of, write

from tllboost.errors import TableError, UsageError
from tllboost.pairs import pairs_from_paths, read_pairs

# Fixtures.
__all__ = ["folder"]


# Reading


@pytest.mark.shared
def test_the_real_challenge_table_is_read_whole(tll: Path) -> None:
    table = read_pairs(tll / "pairs.csv", left=tll / "left", right=tll / "right")
    assert (table.n_pairs, table.n_images) == (1400, 2800)
    assert table.ids[table.left[0]] == "left/aaa"
    assert table.ids[table.right[0]] == "right/osr"
    assert table.paths[table.right[0]] == tll / "right" / "osr.jpg"
    assert table.label.tolist() == [1] * 1400
    assert table.query is None
    assert table.split is None
    assert table.lines[[0, -1]].tolist() == [2, 1401]
    assert table.notes == ()


@pytest.mark.shared
def test_a_wrong_id_on_line_17_is_named_with_its_line(
    tll: Path, tmp_path: Path
) -> None:
    lines = (tll / "pairs.csv").read_bytes().splitlines(keepends=True)
    lines[16] = lines[16].replace(lines[16].split(b",")[1].strip(), b"nosuch")
    path = tmp_path / "pairs.csv"
    path.write_bytes(b"".join(lines))
    with pytest.raises(TableError) as caught:
        read_pairs(path, left=tll / "left", right=tll / "right")
    assert str(caught.value).startswith(f"{path}:17: right: no image 'nosuch' in ")
    assert "\n" not in str(caught.value)


def test_types_and_shapes_are_as_promised(tmp_path: Path, folder: Path) -> None:
    text = "left,right,label,query,split\na,b,1,q,train\na,c,0,q,test\n"
    table = table_of(tmp_path, text, images=folder)
    assert table.ids == ("a", "b", "c")
    assert table.paths == tuple(folder / f"{name}.jpg" for name in "abc")
    assert (table.left.dtype, table.right.dtype) == (np.int64, np.int64)
    assert (table.label.dtype, table.lines.dtype) == (np.int8, np.int64)
    assert table.query is not None
    assert table.query.dtype == np.int64
    assert table.split is not None
    assert table.split.tolist() == ["train", "test"]
    assert table.lines.tolist() == [2, 3]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_delimiter_mark_and_line_ends_make_no_difference(
    tmp_path: Path, delimiter: str, encoding: str, newline: str
) -> None:
    lines = ["left,right,label", "", "a,b,1", "", "  a , c ,0", ",,", "", "d,e,1"]
    text = newline.join(lines).replace(",", delimiter) + newline
    table = read_pairs(write(tmp_path / "pairs.csv", text, encoding))
    assert [row[:3] for row in rows_of(table)] == [
        ("a", "b", 1),
        ("a", "c", 0),
        ("d", "e", 1),
    ]
    assert table.lines.tolist() == [3, 5, 8]


def test_header_may_be_upper_case_in_any_order_among_other_columns(
    tmp_path: Path,
) -> None:
    table = table_of(tmp_path, "Note,RIGHT, Left ,LABEL\nx,b,a,0\ny,c,a,1\n")
    assert [row[:3] for row in rows_of(table)] == [("a", "b", 0), ("a", "c", 1)]
    assert "'note'" in table.notes[0]


def test_a_label_by_another_name_is_pointed_out(tmp_path: Path) -> None:
    table = table_of(tmp_path, "left,right,verdict\na,b,0\n")
    assert "'verdict'" in table.notes[0]
    assert "every row is a match" in table.notes[0]


def test_quoted_cells_may_hold_the_delimiter(tmp_path: Path, folder: Path) -> None:
    (folder / "x, y.jpg").touch()
    table = table_of(tmp_path, 'left,right\n"x, y","a"\n', images=folder)
    assert table.ids == ("a", "x, y")


def test_ids_with_and_without_extension_are_one_image(
    tmp_path: Path, folder: Path
) -> None:
    text = "left,right\na,b\na.jpg,c\n./a,d.jpg\n"
    table = table_of(tmp_path, text, images=folder)
    assert table.ids == ("a", "b", "c", "d")
    assert table.left.tolist() == [0, 0, 0]


def test_ids_without_folders_with_and_without_extension_are_one_image(
    tmp_path: Path,
) -> None:
    table = table_of(tmp_path, "left,right\na,b\na.png,c\nd.png,d.jpg\nd,e\n")
    assert table.ids == ("a.png", "b", "c", "d", "d.jpg", "d.png", "e")
    assert table.paths == (None,) * 7


def test_a_stem_with_two_extensions_must_be_written_out(
    tmp_path: Path, folder: Path
) -> None:
    (folder / "a.png").touch()
    table = table_of(tmp_path, "left,right\na.jpg,a.png\n", images=folder)
    assert table.ids == ("a.jpg", "a.png")
    found = problems_of(tmp_path, "left,right\nb,a\n", images=folder)
    assert len(found) == 1
    assert ":2: right: 'a' may be any of 'a.jpg', 'a.png' in" in found[0]
    assert found[0].endswith("add the extension")


def test_a_file_without_extension_is_told_from_an_image_of_that_stem(
    tmp_path: Path, folder: Path
) -> None:
    (folder / "a").touch()
    table = table_of(tmp_path, "left,right\na,a.jpg\n", images=folder)
    assert table.ids == ("a", "a.jpg")
    assert table.paths == (folder / "a", folder / "a.jpg")


def test_a_dot_in_a_stem_is_no_extension(tmp_path: Path, folder: Path) -> None:
    (folder / "v1.2.jpg").touch()
    (folder / "v1.3.jpg").touch()
    table = table_of(tmp_path, "left,right\nv1.2,v1.3.jpg\n", images=folder)
    assert table.ids == ("v1.2", "v1.3")


def test_ids_may_name_subfolders(tmp_path: Path, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a.jpg").touch()
    text = "left,right\na,sub/a\nb,sub\\a.jpg\n"
    table = table_of(tmp_path, text, images=folder)
    assert table.ids == ("a", "b", "sub/a")
    assert table.paths[2] == folder / "sub" / "a.jpg"
    found = problems_of(tmp_path, "left,right\na,sub\na,other/a\n", images=folder)
    assert ":2: right: no image 'sub' in" in found[0]
    assert ":3: right: no image 'other/a' in" in found[1]


def test_accents_are_compared_composed(tmp_path: Path, folder: Path) -> None:
    (folder / unicodedata.normalize("NFD", "café.jpg")).touch()
    (folder / "naïve.jpg").touch()
    text = "left,right\ncafé," + unicodedata.normalize("NFD", "naïve") + "\n"
    table = table_of(tmp_path, text, images=folder)
    assert table.ids == ("café", "naïve")
    assert all(path is not None and path.exists() for path in table.paths)


def test_separate_folders_keep_equal_names_apart(tmp_path: Path, folder: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.jpg").touch()
    table = table_of(tmp_path, "left,right\na,a\n", left=folder, right=other)
    assert table.ids == ("left/a", "right/a")
    assert table.paths == (folder / "a.jpg", other / "a.jpg")


def test_the_same_folder_for_both_sides_is_one_root(
    tmp_path: Path, folder: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    table = table_of(tmp_path, "left,right\na,b\nb,c\n", left=folder, right=link)
    assert table.ids == ("a", "b", "c")


def test_spellings_of_labels_and_splits_are_normalised(tmp_path: Path) -> None:
    text = (
        "left,right,label,split\na,b,1,TRAIN\na,c,true,val\na,d,1.0,valid\n"
        "b,c,0,dev\nb,d,False,Validation\nc,d,0.0,test\n"
    )
    table = table_of(tmp_path, text)
    assert table.label.tolist() == [1, 1, 1, 0, 0, 0]
    assert table.split is not None
    assert table.split.tolist() == ["train", *["validation"] * 4, "test"]


def test_rows_of_one_query_share_a_number(tmp_path: Path) -> None:
    text = "left,right,query\na,b,q2\na,c,q1\nd,e, q2\n"
    table = table_of(tmp_path, text)
    assert table.query is not None
    assert table.query.tolist() == [1, 0, 1]


def test_the_same_pair_may_stand_in_two_queries(tmp_path: Path) -> None:
    text = "left,right,query\na,b,q1\nb,a,q2\na,b,q2\n"
    assert table_of(tmp_path, text).n_pairs == 3


# Properties

NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=6
).filter(lambda name: "/" not in name and "\\" not in name and ":" not in name)


@st.composite
def tables(draw: st.DrawFn) -> list[tuple[str, str, int, str]]:
    """Rows with distinct ids, no pair twice."""
    names = draw(
        st.lists(
            NAMES.map(lambda name: unicodedata.normalize("NFC", "n" + name)),
            min_size=2,
            max_size=8,
            unique=True,
        )
    )
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    chosen = draw(st.lists(st.sampled_from(pairs), min_size=1, unique=True))
    splits = st.sampled_from(["train", "validation", "test"])
    return [(a, b, draw(st.integers(0, 1)), draw(splits)) for a, b in chosen]


@given(
    rows=tables(),
    delimiter=st.sampled_from(",;\t"),
    mark=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_is_written_is_read(
    rows: list[tuple[str, str, int, str]], delimiter: str, mark: bool, quoting: int
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([("left", "right", "label", "split"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        encoding = "utf-8-sig" if mark else "utf-8"
        table = read_pairs(write(Path(folder, "p.csv"), text.getvalue(), encoding))
    plain = {stem: name for name in table.ids for stem in (name, name.split(".")[0])}
    assert [(row[0], row[1], row[2], row[4]) for row in rows_of(table)] == [
        (plain.get(a, a), plain.get(b, b), y, s) for a, b, y, s in rows
    ]
    assert list(table.ids) == sorted(set(table.ids))


@given(rows=tables(), data=st.data())
def test_the_order_of_rows_changes_nothing_but_the_order(
    rows: list[tuple[str, str, int, str]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(rows))
    with tempfile.TemporaryDirectory() as folder:
        read = []
        for name, some in (("a.csv", rows), ("b.csv", shuffled)):
            path = Path(folder, name)
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("left", "right", "label", "split"), *some])
            read.append(read_pairs(path))
    assert read[0].ids == read[1].ids
    assert sorted(rows_of(read[0])) == sorted(rows_of(read[1]))


# PairTable


def test_take_keeps_the_image_list(tmp_path: Path) -> None:
    text = "left,right,label,query,split\na,b,1,x,train\na,c,0,x,test\nb,c,1,y,test\n"
    table = table_of(tmp_path, text)
    taken = table.take(np.array([2, 0]))
    assert taken.ids == table.ids
    assert rows_of(taken) == [rows_of(table)[2], rows_of(table)[0]]
    assert taken.lines.tolist() == [4, 2]


def test_pairs_from_paths_is_the_inverse_of_the_paths(tmp_path: Path) -> None:
    paths = [write_image(tmp_path / f"{i}.jpg", seed=i) for i in range(4)]
    X = [[paths[3], str(paths[0])], [str(paths[0]), paths[1]], [paths[2], paths[2]]]
    table = pairs_from_paths(X, [True, False, True])
    assert [
        [table.paths[i], table.paths[j]]
        for i, j in zip(table.left, table.right, strict=True)
    ] == [[Path(cell) for cell in row] for row in X]
    assert table.label.tolist() == [1, 0, 1]
    assert pairs_from_paths(np.array(X, dtype=str)).label.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("X", "y", "said"),
    [
        (["a.jpg", "b.jpg"], None, r"X has shape \(2,\); it must be \(n_pairs, 2\)"),
        ([["a.jpg", "b.jpg", "c.jpg"]], None, r"X has shape \(1, 3\)"),
        ([], None, r"X has shape \(0,\)"),
        ([["a.jpg", "b.jpg"], ["c.jpg", 3]], None, r"X\[1, 1\] is 3; it must be a pa"),
        ([["a.jpg", "b.jpg"]], [1, 0], r"y has shape \(2,\); it must be \(1,\)"),
        ([["a.jpg", "b.jpg"]], [2], "y holds 2; a label is 1"),
        ([["a.jpg", "b.jpg"]], ["yes"], "y holds 'yes'; a label is 1"),
    ],
)
def test_pairs_from_paths_says_what_does_not_fit(
    X: object, y: object, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        pairs_from_paths(X, y)


def test_a_large_table_is_read_in_seconds(tmp_path: Path) -> None:
    n_images = 400
    for i in range(n_images):
        (tmp_path / f"{i:03d}.jpg").touch()
    left, right = np.triu_indices(n_images, k=1)
    rows = "".join(
        f"{i:03d},{j:03d}.jpg\n"
        for i, j in zip(left.tolist(), right.tolist(), strict=True)
    )
    table = table_of(tmp_path, "left,right\n" + rows, images=tmp_path)
    assert table.n_pairs == 79_800
    np.testing.assert_array_equal(table.left, left)
    np.testing.assert_array_equal(table.right, right)
