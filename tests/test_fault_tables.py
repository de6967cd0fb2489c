from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, write_image
from reliability import count

from tllboost.errors import DataError, TableError
from tllboost.files import csv_text
from tllboost.pairs import read_candidates, read_pairs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images a, b and sub/c in a folder, and d beside it."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a.jpg", "b.jpg", "sub/c.jpg", "../d.jpg")):
        write_image(folder / name, seed=seed)
    return folder


def table_of(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "pairs.csv"
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the table is empty"),
        ("left,right\n", "a header and no row"),
        ("left\na\nb\n", ":1: no column 'right'; found 'left'"),
        ("one column\na\n", ":1: no column 'left'; found 'one column'"),
        ("first,second\na,b\n", ":1: no column 'left'; found 'first', 'second'"),
        ("left|right\na|b\n", ":1: no column 'left'; found 'left|right'"),
        ("left,right\na,b\na,b\n", ":3: 'a', 'b' is on line 2 already"),
        ("left,right\na,b\nb,a\na,b\n", ":4: 'a', 'b' is on line 2 already"),
        ("left,right,label\na,b,1\nb,a,0\n", ":3: 'b', 'a' has label 0 here and 1"),
        ("left,right\na,a\n", ":2: 'a' is paired with itself"),
        ("left,right\na,nosuch\n", ":2: right: no image 'nosuch'"),
        ("left,right\na,../d\n", ":2: right: '../d' is outside its folder"),
        ("left,right\nsub/../../d,a\n", "is outside its folder"),
        ("left,right\na,..\\d.jpg\n", "is outside its folder"),
        ("left,right\n/etc/passwd,a\n", "'/etc/passwd' is an absolute path"),
        ("left,right\nC:\\d.jpg,a\n", "is an absolute path"),
        ("left,right\n\\\\host\\share\\d,a\n", "is an absolute path"),
        ("left,right\na\0b,b\n", ":2: "),
        ("left,right\n" + "a" * 5_000 + ",b\n", ":2: left: no image"),
        ("left,right\n" + "sub/" * 5_000 + "c,b\n", ":2: left: no image"),
        ("left,right\na," + "b" * 200_000 + "\n", "field larger than field limit"),
        ("left,right,label\na,b,maybe\n", ":2: label 'maybe' is not legal"),
        (b"left,right\na,b\nb,\xff\n", ":3: byte 0xff is not text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ":1: byte 0x89 is not text"),
        (b"PK\x03\x04 a spreadsheet", "no column 'left'"),
        ('left,right\na,"b\n', "a quote never closes"),
    ],
)
def test_each_wrong_table_is_one_line_that_says_where(
    run: Run, tmp_path: Path, folder: Path, text: str | bytes, said: str
) -> None:
    path = table_of(tmp_path, text)
    done = run("check", path, "--images", folder, "--quiet")
    assert done.returncode == 3
    assert done.stderr.startswith(f"tllboost: {path}:")
    assert said in done.stderr
    assert done.stderr.count("\n") <= 2
    assert len(done.stderr) < 1_200
    assert "\0" not in done.stderr
    count("bad tables tried")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_marks_and_delimiters_are_read_right(
    tmp_path: Path, folder: Path, encoding: str, delimiter: str
) -> None:
    text = delimiter.join(("left", "right")) + "\n" + delimiter.join(("a", "sub/c"))
    table = read_pairs(table_of(tmp_path, text.encode(encoding)), images=folder)
    assert table.ids == ("a", "sub/c")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "first", ["sep=;", "SEP=;\r", '"sep=;"'], ids=["plain", "capitals", "quoted"]
)
def test_excels_own_first_line_is_passed_over(
    tmp_path: Path, folder: Path, first: str, encoding: str
) -> None:
    text = f"{first}\nleft;right\na;sub/c\n"
    table = read_pairs(table_of(tmp_path, text.encode(encoding)), images=folder)
    assert table.ids == ("a", "sub/c")
    assert table.lines.tolist() == [3]
    path = table_of(tmp_path, f"{text}b;nosuch\n".encode(encoding))
    with pytest.raises(TableError, match=":4: right: no image 'nosuch'"):
        read_pairs(path, images=folder)


@pytest.mark.parametrize("name", ["is_match", "Same", "target", "duplicate", "y", "gt"])
def test_a_column_that_looks_like_a_label_is_asked_about(
    run: Run, tmp_path: Path, folder: Path, name: str
) -> None:
    text = f"left,right,{name}\na,b,0\nb,sub/c,1\n"
    path = table_of(tmp_path, text)
    done = run("check", path, "--images", folder)
    asked = f"column {name.lower()!r} is not known; did you mean 'label'? Rename it, or"
    assert done.stderr == f"tllboost: {path}:1: {asked} drop the column\n"
    assert done.returncode == 3
    count("bad tables tried")
    named = table_of(tmp_path, text.replace(f",{name}", ",label"))
    assert read_pairs(named, images=folder).label.tolist() == [0, 1]
    both = table_of(tmp_path, f"left,right,label,{name}\na,b,1,0\n")
    (note,) = read_pairs(both, images=folder).notes
    assert f"columns ignored: {name.lower()!r}" in note


@pytest.mark.parametrize("name", ["target_url", "notes", "year", "same-as-it-ever-was"])
def test_a_column_that_looks_like_none_is_left_alone_with_a_note(
    tmp_path: Path, folder: Path, name: str
) -> None:
    path = table_of(tmp_path, f"left,right,{name}\na,b,0\n")
    (note,) = read_pairs(path, images=folder).notes
    assert f"ignored: {name!r}" in note
    assert "without label every row is a match" in note


def test_names_may_repeat_their_folder(tmp_path: Path, folder: Path) -> None:
    (folder / "images").mkdir()
    write_image(folder / "images" / "e.jpg", seed=5)
    path = table_of(
        tmp_path,
        "left,right\nimages/a.jpg,b\nimages/sub/c,images/b.jpg\n"
        f"{tmp_path.name}/images/a,images/e\n",
    )
    table = read_pairs(path, images=folder)
    assert table.ids == ("a", "b", "images/e", "sub/c")  # what is there comes first
    assert table.left.tolist() == [0, 3, 0]
    missing = table_of(tmp_path, "left,right\nimages/nosuch,a\n")
    with pytest.raises(TableError, match=":2: left: no image 'nosuch' in"):
        read_pairs(missing, images=folder)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_blanks_around_names_are_none_of_theirs(
    tmp_path: Path, folder: Path, encoding: str
) -> None:
    write_image(folder / " e .jpg", seed=5)
    text = 'left , right\n a.jpg," b.jpg "\n e .jpg, sub/c\n'
    table = read_pairs(table_of(tmp_path, text.encode(encoding)), images=folder)
    paths = [str(path.relative_to(folder)) for path in table.paths if path]
    assert sorted(paths) == [" e .jpg", "a.jpg", "b.jpg", "sub/c.jpg"]


def test_a_split_column_without_test_rows_is_named(
    run: Run, tmp_path: Path, folder: Path
) -> None:
    path = table_of(tmp_path, "left,right,split\na,b,train\nb,sub/c,train\n")
    done = run(
        "grid", path, "--images", folder, "-v", "pixels", "--out", tmp_path / "o"
    )
    told = "the split column says train and never test: mark rows as test, or take"
    assert told in done.stderr.splitlines()[-1]
    assert done.returncode == 3
    count("bad tables tried")


def test_twenty_problems_are_shown_and_the_rest_counted(
    tmp_path: Path, folder: Path
) -> None:
    text = "left,right\n" + "".join(f"../{i},/{i}\n" for i in range(30))
    with pytest.raises(TableError) as caught:
        read_pairs(table_of(tmp_path, text), images=folder)
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1].endswith("and 40 more problems")
    count("bad tables tried")


def test_ids_may_lead_anywhere_only_where_that_is_asked_for(
    tmp_path: Path, folder: Path
) -> None:
    outside = tmp_path / "d.jpg"
    written = ["../d", str(outside), "sub/../a", str(folder / "b.jpg"), "sub/c"]
    text = csv_text(
        ["left", "right"], [["a", written[0]], *itertools.pairwise(written)]
    )
    path = table_of(tmp_path, text)
    with pytest.raises(TableError, match="unless --anywhere allows it"):
        read_pairs(path, images=folder)
    with pytest.raises(TableError, match="unless --anywhere allows it"):
        read_pairs(path)
    bare = read_pairs(path, anywhere=True, allow_repeats=True)
    assert "../d" in bare.ids
    table = read_pairs(path, images=folder, anywhere=True, allow_repeats=True)
    wanted = (outside.with_suffix("").as_posix(), "a", "b", "sub/c")
    assert table.ids == wanted  # one id a file, however it was written
    assert [os.path.realpath(one) for one in table.paths] == [
        os.path.realpath(one)
        for one in (outside, folder / "a.jpg", folder / "b.jpg", folder / "sub/c.jpg")
    ]
    missing = table_of(tmp_path, f"left,right\na,{tmp_path}/nosuch\n,b\n")
    with pytest.raises(TableError, match=r"no image .*nosuch'") as caught:
        read_pairs(missing, images=folder, anywhere=True)
    assert ":3: left: an empty id" in str(caught.value)


def test_candidates_may_lead_anywhere_too(tmp_path: Path, folder: Path) -> None:
    path = table_of(tmp_path, "left,c0,c1\na,b,../d\n")
    with pytest.raises(TableError, match=r"c1: '\.\./d' is outside"):
        read_candidates(path, images=folder)
    table = read_candidates(path, images=folder, anywhere=True)
    assert table.ids[0] == (tmp_path / "d").as_posix()


def test_ids_without_folders_are_names_or_with_leave_anything(tmp_path: Path) -> None:
    path = table_of(tmp_path, "left,right\na,/x/y.jpg\n")
    with pytest.raises(TableError, match="absolute path"):
        read_pairs(path)
    assert read_pairs(path, anywhere=True).ids == ("/x/y.jpg", "a")


def test_check_lets_a_table_lead_anywhere_when_told_to(
    run: Run, tmp_path: Path, folder: Path
) -> None:
    path = table_of(tmp_path, "left,right\na,../d\n")
    assert run("check", path, "--images", folder).returncode == 3
    done = run("check", path, "--images", folder, "--anywhere")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_table_that_is_a_pipe_or_a_device_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "device.csv").symlink_to("/dev/zero")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    for name in ("pipe.csv", "device.csv", "loop.csv"):
        with pytest.raises(DataError):
            read_pairs(tmp_path / name)
        count("bad tables tried")


def test_a_table_of_too_many_bytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "endless.csv"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"has 1,099,511,627,776 bytes; a table may"):
        read_pairs(path)
    count("bad tables tried")


def test_a_million_rows_are_read_in_seconds_and_their_faults_found(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    left = np.repeat(np.arange(1_000), 1_000)
    right = np.tile(np.arange(1_000, 2_000), 1_000)
    rows = [f"i{a},i{b}\n" for a, b in zip(left.tolist(), right.tolist(), strict=True)]
    path = table_of(tmp_path, "left,right\n" + "".join(rows))
    table = read_pairs(path)
    assert (table.n_pairs, table.n_images) == (1_000_000, 2_000)
    sample = rng.integers(0, 1_000_000, 50)
    assert [table.ids[i] for i in table.right[sample]] == [
        f"i{b}" for b in right[sample]
    ]
    rows[999_999] = rows[7]
    path.write_text("left,right\n" + "".join(rows))
    with pytest.raises(TableError, match=r":1000001: .* is on line 9 already"):
        read_pairs(path)
