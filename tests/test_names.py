"""A name has one form in every file that is read or written, on disk its own."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reliability import count

from tllboost.errors import DataError, TableError
from tllboost.files import csv_text, write_text, write_vectors
from tllboost.images.folders import name_images, normal_name
from tllboost.pairs import read_candidates, read_pairs
from tllboost.pairs.groups import read_groups
from tllboost.rank import VectorIndex
from tllboost.vectorizers.arrays import ArrayVectorizer

LINUX = sys.platform.startswith("linux")
needs_linux = pytest.mark.skipif(not LINUX, reason="names like these need Linux")


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def apart(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def touch(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


# Letters that have two forms, quotes and signs of tables, blanks, bytes that are no
# text; a backslash and a dot are names of nothing by themselves.
LETTERS = st.sampled_from([*"aBé\u0301ﬁ가Å,;\"'=+-@#% \t\n\\.", "\udcff", "\udc80"])
NAMES = (
    st.lists(st.text(LETTERS, min_size=1, max_size=6), min_size=1, max_size=2)
    .map("/".join)
    .map(lambda name: f"x{name}")
    .filter(lambda name: not {"", ".", ".."} & {*normal_name(name).split("/")})
    .filter(lambda name: "/." not in name)
)


@needs_linux
@settings(max_examples=60)
@given(
    names=st.lists(NAMES, min_size=2, max_size=5, unique=True),
    suffixes=st.lists(st.sampled_from([".jpg", ".PNG"]), min_size=5, max_size=5),
)
@example(["xé/a", "xe\u0301/b"], [".jpg"] * 5)
@example(["xa\\b", "xa/c"], [".jpg"] * 5)
@example(["xa", "xa.jpg"], [".jpg", ".png"] * 3)
@example(["xa ", "xa"], [".jpg"] * 5)
@example(["xé", "xe\u0301"], [".jpg"] * 5)
def test_random_names_go_round_every_reader_and_writer(
    names: list[str], suffixes: list[str]
) -> None:
    with TemporaryDirectory() as made:
        folder, table = Path(made, "images"), Path(made, "pairs.csv")
        files = [name + of for name, of in zip(names, suffixes, strict=False)]
        try:
            touch(folder, *files)
        except OSError:  # one is a folder of another
            return
        forms = [normal_name(one) for one in files]
        twins = [one for one in files if forms.count(normal_name(one)) > 1]
        if twins:
            for walk in (name_images, lambda given: read_groups(given[0], "([.])")):
                with pytest.raises(
                    DataError, match="have the same name; they differ only in"
                ):
                    walk([folder])
            write_text(table, csv_text(("left", "right"), [twins[:2]]))
            with pytest.raises(
                TableError, match="they differ only in the form of accents"
            ):
                read_pairs(table, images=folder)
            return
        named = name_images([folder])
        ids = [*named]
        assert sorted(map(str, named.values())) == sorted(
            str(folder / f) for f in files
        )
        assert [normal_name(one) for one in ids] == ids
        # Tables of ids, and of the names as they are on disk.
        on_disk = [str(path)[len(str(folder)) + 1 :] for path in named.values()]
        for written in (ids, on_disk):
            rows = [(written[0], one) for one in written[1:]]
            write_text(table, csv_text(("left", "right"), rows))
            for anywhere in (False, True):
                read = read_pairs(table, images=folder, anywhere=anywhere)
                assert dict(zip(read.ids, read.paths, strict=True)) == named
            header = ("left", *(f"c{i}" for i in range(len(written) - 1)))
            write_text(table, csv_text(header, [written]))
            listed = read_candidates(table, images=folder)
            assert dict(zip(listed.ids, listed.paths, strict=True)) == named
        # Vectors by name, found under each form of it.
        vectors = np.arange(len(ids), dtype=np.float32)[:, None]
        npz = Path(made, "v.npz")
        write_vectors(npz, ids, vectors)
        assert VectorIndex.open(npz).ids == ids
        for form in (composed, apart, lambda one: one.replace("/", "\\")):
            found, there = ArrayVectorizer(npz).lookup([form(one) for one in ids])
            assert there.all()
            assert found.tolist() == vectors.tolist()
        as_bytes = [os.fsencode(apart(one)) for one in ids]
        np.savez(npz, ids=np.array(as_bytes), vectors=vectors)
        assert VectorIndex.open(npz).ids == ids
        grouped = read_groups(folder, "([.])")
        assert dict(zip(grouped.ids, grouped.paths, strict=True)) == named


def test_a_name_means_the_same_in_every_form_everywhere(tmp_path: Path) -> None:
    folder, npz = tmp_path / "images", tmp_path / "v.npz"
    names = [f"caf\u00e9/{letter}1.jpg" for letter in "\u00e9a"]
    paths = touch(folder, *map(apart, names))  # as macOS writes them
    table = tmp_path / "pairs.csv"
    for form in (composed, apart, lambda one: composed(one).replace("/", "\\")):
        write_text(table, csv_text(("left", "right"), [[form(one) for one in names]]))
        read = read_pairs(table, images=folder)
        assert sorted(map(str, read.paths)) == sorted(map(str, paths))
        assert [one.isascii() or one == composed(one) for one in read.ids] == [True] * 2
        assert read_pairs(table).ids == tuple(f"{one}.jpg" for one in read.ids)
        np.savez(npz, ids=np.array([form(one) for one in names]), vectors=np.eye(2))
        assert ArrayVectorizer(npz).lookup(read.ids)[1].all()
    touch(folder, apart("caf\u00e9/\u00e92.jpg"))
    group = read_groups(folder, apart("^(\u00e9)"))  # however it is written, too
    assert group.ids == ("caf\u00e9/\u00e91", "caf\u00e9/\u00e92")


def test_vectors_of_one_name_in_two_forms_are_refused(tmp_path: Path) -> None:
    npz = tmp_path / "v.npz"
    for ids in (["\u00e9", "e\u0301"], ["a/b", "a\\b"], ["a", "a "]):
        np.savez(npz, ids=np.array(ids), vectors=np.eye(2))
        with pytest.raises(DataError, match="occurs more than once"):
            ArrayVectorizer(npz).lookup(["a"])
    np.savez(npz, ids=np.array([b"a\xff", b"b"]), vectors=np.eye(2))
    assert ArrayVectorizer(npz).lookup([os.fsdecode(b"a\xff")])[1].all()
    count("bad tables tried", 4)
