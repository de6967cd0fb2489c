"""Pair tables: what is read, and what is said about what can't be."""

from __future__ import annotations

import csv
import io
import os
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conftest import write_image
from hypothesis import given
from hypothesis import strategies as st

from tllboost.errors import DataError, TableError, UsageError
from tllboost.pairs import PairTable, pairs_from_paths, read_pairs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the images a.jpg to f.jpg, as the reader sees it: by name."""
    images = tmp_path / "images"
    images.mkdir()
    for name in "abcdef":
        (images / f"{name}.jpg").touch()
    return images


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def table_of(tmp_path: Path, text: str, **options: object) -> PairTable:
    return read_pairs(write(tmp_path / "pairs.csv", text), **options)  # type: ignore[arg-type]


def problems_of(tmp_path: Path, text: str, **options: object) -> list[str]:
    """Return what is said about a table, a problem an item, without its path."""
    path = write(tmp_path / "pairs.csv", text)
    with pytest.raises(TableError) as caught:
        read_pairs(path, **options)  # type: ignore[arg-type]
    lines = str(caught.value).splitlines()
    assert all(line.startswith(str(path)) for line in lines)
    return [line.removeprefix(str(path)) for line in lines]


def rows_of(table: PairTable) -> list[tuple[object, ...]]:
    """Return the pairs by id, in a form that doesn't depend on the image list."""
    query = table.query if table.query is not None else [None] * table.n_pairs
    split = table.split if table.split is not None else [None] * table.n_pairs
    return [
        (table.ids[i], table.ids[j], int(y), q, s)
        for i, j, y, q, s in zip(
            table.left, table.right, table.label, query, split, strict=True
        )
    ]


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
    table = table_of(tmp_path, "left,right,is_match\na,b,0\n")
    assert "'is_match'" in table.notes[0]
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


# Problems


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
        ("left,right\na,../b\n", 2, "'../b' climbs out of its folder"),
        ("left,right\na,x/../../b\n", 2, "'x/../../b' climbs out of its folder"),
        ("left,right\na,..\\b\n", 2, r"'..\\b' climbs out of its folder"),
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
        ("left,right\na\n", 2, "1 cells where the header has 2: ['a']"),
        ("left,right\na,b,c\n", 2, "3 cells where the header has 2"),
        ("left,rigth\na,b\n", 1, "no column 'right'; found 'left', 'rigth'"),
        ("a,b\nc,d\n", 1, "no column 'left'; found 'a', 'b'"),
        ("left,right,labels\na,b,1\n", 1, "did you mean 'label'?"),
        ("left,right,left\na,b,c\n", 1, "column 'left' is there 2 times"),
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
        read_pairs(path)


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


def test_take_and_without_images_keep_the_image_list(tmp_path: Path) -> None:
    text = "left,right,label,query,split\na,b,1,x,train\na,c,0,x,test\nb,c,1,y,test\n"
    table = table_of(tmp_path, text)
    taken = table.take(np.array([2, 0]))
    assert taken.ids == table.ids
    assert rows_of(taken) == [rows_of(table)[2], rows_of(table)[0]]
    assert taken.lines.tolist() == [4, 2]
    assert rows_of(table.without_images({0})) == [rows_of(table)[2]]
    assert rows_of(table.without_images(set())) == rows_of(table)


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
