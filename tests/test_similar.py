"""What looks alike in whole folders: all pairs, groups of them, and the command."""

from __future__ import annotations

import csv
import errno
import io
import os
import shutil
import signal
import tempfile
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser import DESKTOP, PHONE, is_sideways
from bundles import make_classifier, save
from conftest import Run, write_image
from hypothesis import given
from hypothesis import strategies as st
from killed_work import N_IMAGES, comparing, strips_of_four
from killing import N_MOMENTS, kill_at_moments

from tllboost.errors import DataError, UsageError
from tllboost.merges import unit_rows
from tllboost.processes import Processes
from tllboost.references import References
from tllboost.scoring import joint_score
from tllboost.similar import USUAL, _Cosines, find_similar, groups_of
from tllboost.similar import tiles as engine
from tllboost.similar.tiles import (
    Pairs,
    Sought,
    by_cells,
    by_products,
    floor_of,
    made_pairs,
)
from tllboost.store import VectorStore
from tllboost.vectorizing import vectorize

if TYPE_CHECKING:
    from browser import OpenPage


def vectors_of(n: int, seed: int, n_dims: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_dims)).astype(np.float32)


def pairs_of(found: Pairs) -> dict[tuple[int, int], float]:
    """Return the scores by pairs, of which none may be there twice."""
    told = {(left, right): score for left, right, score in found.tolist()}
    assert len(told) == len(found)
    return told


def compare(
    left: np.ndarray, right: np.ndarray, sought: Sought, folder: Path, **how: Any
) -> Pairs:
    arrays = [left, right, floor_of(left, right, sought)]
    return engine.compare(by_products, arrays, len(left), sought, folder, **how)


def wanted_of(scores: np.ndarray, sought: Sought) -> dict[tuple[int, int], float]:
    """Return what is sought, one image after the other."""
    wanted = {}
    for i, row in enumerate(scores):
        others = [
            j
            for j in np.argsort(-row, kind="stable").tolist()
            if row[j] >= sought.least and not (sought.is_one_folder and i == j)
        ]
        if sought.top is None and sought.is_one_folder:
            others = [j for j in others if j > i]
        wanted |= {(i, j): row[j] for j in others[: sought.top]}
    return wanted


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut few images into many strips and tiles, and know little of them before."""

    def strips(n: int, _: int) -> Any:
        for first in range(0, n, 17):
            yield f"{first}.npz", (first, min(first + 17, n))

    monkeypatch.setattr(engine, "_TALL", 7)
    monkeypatch.setattr(engine, "_WIDE", 11)
    monkeypatch.setattr(engine, "_SAMPLE", 16)
    monkeypatch.setattr(engine, "_strips", strips)


SOUGHT = st.builds(
    Sought,
    top=st.one_of(st.none(), st.integers(1, 60)),
    least=st.sampled_from([-np.inf, -0.5, 1.0, 50.0]),
    is_one_folder=st.booleans(),
)


@pytest.mark.usefixtures("small_tiles")
@given(st.integers(1, 50), st.integers(1, 50), SOUGHT, st.integers(0, 99))
def test_all_pairs_are_those_of_comparing_one_by_one(
    n_left: int, n_right: int, sought: Sought, seed: int
) -> None:
    left = vectors_of(n_left, seed)
    right = left if sought.is_one_folder else vectors_of(n_right, seed + 1)
    with tempfile.TemporaryDirectory() as folder:
        found = compare(left, right, sought, Path(folder, "strips"))
        assert not list(Path(folder).iterdir())
    wanted = wanted_of(left @ right.T, sought)
    assert pairs_of(found) == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    of = found["left"] if sought.top else np.zeros(len(found))
    order = np.lexsort((-found["score"], of))
    assert (found["score"][order] == found["score"]).all()


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("top", [1, 5])
def test_equal_images_are_told_up_to_the_number_asked_for(
    tmp_path: Path, top: int
) -> None:
    """All that is alike ties, and any of those may be told."""
    vectors = np.ones((60, 4), np.float32)
    found = compare(vectors, vectors, Sought(top, -np.inf, True), tmp_path / "s")
    assert np.bincount(found["left"]).tolist() == [top] * 60
    assert set(pairs_of(found).values()) == {4.0}
    assert (found["left"] != found["right"]).all()


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("head", ["logistic", "random-forest"])
@pytest.mark.parametrize("merge", ["dot", "concat"])
@pytest.mark.parametrize(("top", "shortlist"), [(None, None), (3, None), (3, 8)])
def test_cells_give_the_pairs_that_they_score_highest(
    tmp_path: Path, head: str, merge: str, top: int | None, shortlist: int | None
) -> None:
    model = make_classifier("pixels?size=2", head, merge)
    vectors = vectors_of(40, 1, model.cells_[0].vectorizer.n_dims)
    every = np.repeat(np.arange(40), 40), np.tile(np.arange(40), 40)
    scores = joint_score(model.cells_, [vectors], *every).reshape(40, 40)
    sought = Sought(top, -np.inf if top else float(np.median(scores)), True)
    find = partial(by_cells, cells=model.cells_, shortlist=shortlist)
    both = [[vectors], [vectors]]
    found = engine.compare(find, both, 40, sought, tmp_path / "s")
    if top is None:
        scores = np.maximum(scores, scores.T)
    wanted = wanted_of(scores, sought)
    if head != "random-forest":  # a linear head needs no shortlist
        assert pairs_of(found) == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    elif shortlist is None:
        assert sorted(found["score"]) == pytest.approx(
            sorted(wanted.values()), abs=1e-5
        )
    else:
        near = unit_rows(vectors) @ unit_rows(vectors).T
        for i, j in pairs_of(found):
            assert (near[i] > near[i, j]).sum() <= shortlist
    for (i, j), score in pairs_of(found).items():
        assert score == pytest.approx(scores[i, j], rel=1e-4, abs=1e-4)


def test_strips_that_are_there_are_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_STRIPS", 4)
    vectors, folder = vectors_of(64, 0), tmp_path / "strips"
    sought, done = Sought(2, -np.inf, True), []
    wanted = compare(vectors, vectors, sought, tmp_path / "other")

    def killed(*arguments: Any) -> Pairs:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments)
        return by_products(*arguments)

    def counted(*arguments: Any) -> Pairs:
        done.append(arguments)
        return by_products(*arguments)

    arrays = [vectors, vectors, floor_of(vectors, vectors, sought)]
    with pytest.raises(KeyboardInterrupt):
        engine.compare(killed, arrays, 64, sought, folder, shortest=8)
    assert len([*folder.iterdir()]) == len(done) == 2
    found = engine.compare(counted, arrays, 64, sought, folder, shortest=8)
    assert len(done) == len([*engine._strips(64, 8)]) > 2
    assert (found == wanted).all()


def test_processes_find_what_this_one_finds(tmp_path: Path) -> None:
    vectors, told = vectors_of(5000, 0, 8), []
    sought = Sought(4, -np.inf, True)
    alone = compare(vectors, vectors, sought, tmp_path / "a")
    found = compare(
        *(vectors, vectors, sought, tmp_path / "b"),
        backend=Processes(2),
        progress=lambda *step: told.append(step),
    )
    assert pairs_of(found) == pytest.approx(pairs_of(alone))
    assert told[-1] == (5, 5, "comparing")
    assert not list(tmp_path.iterdir())


def die(*_: Any) -> Pairs:
    os._exit(3)


def test_a_process_that_dies_is_told_in_one_line(tmp_path: Path) -> None:
    vectors = vectors_of(5000, 0, 2)
    arrays = [vectors, vectors, np.zeros(5000, np.float32)]
    with pytest.raises(DataError, match=r"comparing images failed: its process died"):
        engine.compare(
            *(die, arrays, 5000, Sought(1, 0.0, True), tmp_path / "s"),
            backend=Processes(2),
        )


def test_more_pairs_than_can_be_held_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_MOST", 100)
    vectors = np.ones((50, 2), np.float32)
    message = r"more than 100 pairs: .*--min.*--top"
    sought = Sought(None, -1e9, True)
    with pytest.raises(UsageError, match=message):
        compare(vectors, vectors, sought, tmp_path)
    # Not in one strip, but in all of them together.
    monkeypatch.setattr(
        engine, "_strips", lambda n, _: [(f"{i}", (i, i + 1)) for i in range(n)]
    )
    with pytest.raises(UsageError, match=message):
        compare(vectors, vectors, sought, tmp_path / "s")
    cells = make_classifier("pixels?size=2", "random-forest").cells_
    images = vectors_of(50, 0, cells[0].vectorizer.n_dims)
    monkeypatch.setattr(engine, "_SCORES", 50)
    with pytest.raises(UsageError, match=message):
        by_cells([images], [images], 0, 50, sought, cells=cells)


def test_the_bar_moves_while_a_bundle_compares(tmp_path: Path) -> None:
    for i in range(600):
        write_image(tmp_path / f"{i}.png", seed=i, size=(4, 4))
    model, told = make_classifier("pixels?size=2", "random-forest", "l1"), []
    how = {"progress": lambda *step: told.append(step), "top": 1, "shortlist": 3}
    find_similar(tmp_path, scorer=model, **how)
    assert [step for step in told if step[2] == "comparing"] == [
        (n, 3, "comparing") for n in (1, 2, 3)
    ]


# Groups

PAIRS = st.dictionaries(
    st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda two: two[0] < two[1]),
    st.floats(0, 1),
    max_size=30,
)


def found_of(pairs: dict[tuple[int, int], float]) -> Pairs:
    left, right = np.array([*pairs], dtype=int).reshape(-1, 2).T
    return made_pairs(left, right, [*pairs.values()])


@given(PAIRS)
def test_every_two_images_of_a_group_are_a_pair(
    pairs: dict[tuple[int, int], float],
) -> None:
    groups = groups_of(found_of(pairs))
    images = [image for group in groups for image, _ in group]
    assert len(images) == len(set(images))
    for group in groups:
        members = sorted(image for image, _ in group)
        assert all(two in pairs for two in combinations(members, 2))
        for image, score in group:
            own = [one for two, one in pairs.items() if image in two]
            inside = [
                one
                for two, one in pairs.items()
                if image in two and set(two) <= set(members)
            ]
            assert score == np.float32(max(inside)) <= np.float32(max(own))
    # No two groups, and no two images alone, could be one.
    alone = [[one] for one in range(10) if one not in images]
    sets = [[image for image, _ in group] for group in groups] + alone
    for one, other in combinations(sets, 2):
        cross = [tuple(sorted((a, b))) for a in one for b in other]
        assert not all(two in pairs for two in cross)


@given(PAIRS)
def test_a_chain_is_one_group_where_one_link_is_enough(
    pairs: dict[tuple[int, int], float],
) -> None:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups = groups_of(found_of(pairs), chained=True)
    i, j = np.array([*pairs], dtype=int).reshape(-1, 2).T
    _, label = connected_components(coo_array((np.ones(len(i)), (i, j)), (10, 10)))
    wanted = {
        frozenset(np.flatnonzero(label == one).tolist())
        for one in set(label.tolist())
        if (label == one).sum() > 1
    }
    assert {frozenset(image for image, _ in group) for group in groups} == wanted


def test_images_of_two_folders_are_a_group_where_all_across_are_pairs() -> None:
    pairs = {(0, 3): 0.9, (1, 3): 0.8, (2, 3): 0.7, (2, 4): 0.6}
    groups = groups_of(found_of(pairs), 3)
    assert [[image for image, _ in group] for group in groups] == [[0, 3, 1, 2]]


# Scores


def test_normalised_cosines_are_of_standard_deviations_above_unrelated_images() -> None:
    """The mean of both z-norms, but with the geometric mean of both spreads."""
    vectors = vectors_of(40, 3) + 0.5
    scores = _Cosines(vectors, None, "none", normalised=True)
    left, right = np.array([0, 5]), np.array([1, 9])
    score = scores.score(left, right)
    told = scores.told(made_pairs(left, right, score))
    unit = unit_rows(vectors)
    cosine = (unit[left] * unit[right]).sum(axis=1)
    assert told["cosine"] == pytest.approx(cosine, abs=1e-5)
    assert told["normalised"] == pytest.approx(score, abs=1e-4)
    references = References.drawn(vectors, np.arange(40), seed=0, whitened=False)
    for at, (i, j) in enumerate(zip(left, right, strict=True)):
        both = unit[[i, j]] @ unit_rows(references.vectors.astype(np.float32)).T
        both = [row[row < 1 - 1e-4] for row in both]
        mean, spread = (np.array([f(row) for row in both]) for f in (np.mean, np.std))
        wanted = (cosine[at] - mean.mean()) / np.sqrt(spread.prod())
        assert score[at] == pytest.approx(wanted, abs=0.01)
    plain = _Cosines(vectors, None, "none", normalised=False)
    assert plain.score(left, right) == pytest.approx(cosine, abs=1e-6)
    told = plain.told(made_pairs(left, right, plain.score(left, right)))
    assert [*told] == ["cosine"]


@pytest.mark.parametrize("normalised", [False, True])
def test_the_limit_of_other_vectorizers_lets_few_unrelated_pairs_pass(
    normalised: bool,
) -> None:
    vectors = vectors_of(1500, 5, 64)
    vectors[:60] = vectors[0] + 0.1 * vectors[:60]  # copies, which must not count
    scores = _Cosines(vectors, None, "unknown", normalised=normalised)
    i, j = np.triu_indices(1440, 1)
    passing = scores.score(i + 60, j + 60) >= scores.limit(None)
    assert 2e-6 < passing.mean() < 3e-4
    if not normalised:  # copies among the references make each other usual
        own = scores.score(*np.triu_indices(60, 1))
        assert (own >= scores.limit(None)).mean() > 0.95
    assert scores.limit(0.3) == 0.3
    built = _Cosines(vectors, None, "classic", normalised=normalised)
    assert (built.limit(None) == USUAL["classic"]) == (not normalised)


# Folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in two folders, one copied, one cropped, one broken."""
    top = tmp_path / "archive"
    (top / "née").mkdir(parents=True)
    for i in range(14):
        write_image(top / f"{i:02d}.png", seed=i)
    shutil.copy(top / "03.png", top / "née" / "copy.png")
    (top / "broken.jpg").write_bytes(b"no image")
    return top


def test_copies_are_told_by_their_bytes_and_compared_once(folder: Path) -> None:
    told: list[str] = []
    shutil.copy(folder / "broken.jpg", folder / "also.jpg")
    similar = find_similar(folder, vectorizer="classic", least=0.9, tell=told.append)
    assert told == ["2 of 17 files are copies of others, byte by byte"]
    copies = [row for row in similar.rows() if row["same_bytes"]]
    assert [(row["left"], row["right"]) for row in copies] == [
        ("03.png", "née/copy.png")
    ]
    assert copies[0]["cosine"] == pytest.approx(1)
    assert [Path(one).name for one in similar.failures] == ["also.jpg", "broken.jpg"]
    of_each = find_similar(folder, vectorizer="classic", top=2)
    listed = [row["left"] for row in of_each.rows()]
    assert listed == sorted(listed)
    assert listed.count("03.png") == 3
    assert "née/copy.png" not in listed


def test_of_two_folders_each_image_has_its_own_line(folder: Path) -> None:
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    similar = find_similar(folder, other, vectorizer="classic", top=1)
    rows = [*similar.rows()]
    readable = [name for name in similar.names[:16] if name != "broken.jpg"]
    assert [row["left"] for row in rows] == readable
    for row in rows:
        same = (folder / row["left"]).read_bytes() == (
            other / row["right"]
        ).read_bytes()
        assert (row["same_bytes"] == 1) == same
        assert row["cosine"] == pytest.approx(1)
    vectors = vectorize("classic", similar.paths).vectors
    left, right = similar.pairs["left"], similar.pairs["right"]
    unit = unit_rows(vectors)
    assert similar.told["cosine"] == pytest.approx(
        (unit[left] * unit[right]).sum(axis=1), abs=1e-5
    )


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_images_are_enough(tmp_path: Path, n: int) -> None:
    for i in range(n):
        write_image(tmp_path / f"{i}.png", seed=i)
    if not n:
        with pytest.raises(DataError, match="no images in"):
            find_similar(tmp_path)
        return
    similar = find_similar(tmp_path, vectorizer="classic", top=3)
    assert len([*similar.rows()]) == n * (n - 1)
    assert "normalised" not in similar.told
    with pytest.raises(UsageError, match=f"{n} images are too few for --normalised"):
        find_similar(tmp_path, vectorizer="classic", normalised=True)


def test_all_the_same_image_is_one_group(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_image(tmp_path / "a" / "0.png", seed=0)
    for i in range(1, 30):
        shutil.copy(tmp_path / "a" / "0.png", tmp_path / "a" / f"{i}.png")
    out = tmp_path / "groups.csv"
    done = run("similar", tmp_path / "a", "-v", "classic", "--groups-out", out, "--csv")
    assert done.returncode == 0
    assert "29 of 30 files are copies of others, byte by byte" in done.stderr
    assert [row["same_bytes"] for row in done.table] == ["1"] * 29
    groups = [*csv.DictReader(io.StringIO(out.read_text()))]
    assert [row["group"] for row in groups] == ["1"] * 30


# The command


def test_the_command_writes_pairs_groups_and_a_page(run: Run, folder: Path) -> None:
    out, groups, page = (folder.parent / name for name in ("p.csv", "g.csv", "g.html"))
    words = ("similar", folder, "-v", "classic", "--min", "0.9")
    done = run(*words, "--out", out, "--groups-out", groups, "--html", page)
    assert done.returncode == 4
    assert "broken.jpg: " in done.stderr
    assert "1 of 16 files are copies" in done.stderr
    assert done.stdout.splitlines()[-1] == "1 pairs of 16 images, 1 groups"
    assert out.read_text(encoding="utf-8").splitlines()[0] == (
        "left,right,score,cosine,normalised,probability,same_bytes"
    )
    assert run(*words, "--csv").stdout == out.read_text(encoding="utf-8")
    assert groups.read_text(encoding="utf-8").startswith("group,image,score\n1,03.png,")
    assert "née/copy.png" in page.read_text(encoding="utf-8")
    (row,) = run(*words, "--json").json
    assert (row["left"], row["right"]) == ("03.png", "née/copy.png")
    assert (row["probability"], row["same_bytes"]) == (None, 1)
    strict = run(*words, "--strict", "--out", folder.parent / "no.csv")
    assert (strict.returncode, strict.stdout) == (3, "")
    assert not (folder.parent / "no.csv").exists()


def test_a_bundle_gives_probabilities_at_a_prior(run: Run, folder: Path) -> None:
    (folder / "broken.jpg").unlink()
    model = make_classifier("pixels?size=2", "random-forest", "l1")
    bundle = save(folder.parent / "forest.tllb", model)
    words = ("similar", folder, "--bundle", bundle, "--json", "--top", "3")
    even, rare = run(*words), run(*words, "--prior", "1/20")
    assert even.returncode == rare.returncode == 0
    for row, other in zip(even.json, rare.json, strict=True):
        assert row["score"] == other["score"]
        odds = row["probability"] / (1 - row["probability"]) / 19
        assert other["probability"] == pytest.approx(odds / (1 + odds), rel=1e-6)
        assert row["cosine"] is None
    pair = [folder / even.json[0][side] for side in ("left", "right")]
    scored = run("score", bundle, *pair, "--json").json
    assert scored["probability"] == pytest.approx(even.json[0]["probability"], abs=1e-5)
    least = even.json[0]["probability"] - 1e-6
    above = run("similar", folder, "--bundle", bundle, "--json", "--min", least).json
    apart = [row["probability"] for row in above if not row["same_bytes"]]
    assert apart
    assert min(apart) >= least
    assert len(above) == len(apart) + 1  # a copy is told whatever its score
    short = run(*words, "--shortlist", "4")
    assert "a shortlist of 4 holds " in short.stderr
    assert "of the best images (for a sample of 20); see --exact" in short.stderr
    assert "shortlist" not in run(*words, "--exact").stderr


@pytest.mark.parametrize("command", ["similar", "rank", "vectorize"])
def test_what_can_not_be_read_is_written_to_a_file(
    run: Run, folder: Path, command: str
) -> None:
    out, image = folder.parent / "failures.csv", folder / "00.png"
    bundle = save(folder.parent / "forest.tllb", make_classifier("pixels?size=2"))
    words = {
        "similar": (folder, "-v", "pixels?size=2"),
        "rank": (bundle, image, "--among", folder),
        "vectorize": (folder, "-v", "pixels?size=2"),
    }[command]
    done = run(command, *words, "--failures-out", out)
    assert done.returncode == 4, done.stderr
    head, told = out.read_text(encoding="utf-8").splitlines()
    assert head == "what,where,why"
    assert told.startswith(f"image,{folder / 'broken.jpg'},")
    assert told.split(",", 2)[2].strip('"') in done.stderr
    (folder / "broken.jpg").unlink()
    assert run(command, *words, "--failures-out", out).returncode == 0
    assert out.read_text(encoding="utf-8") == "what,where,why\n"


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("against", [False, True])
def test_many_vectors_lie_in_files_that_are_mapped(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    normalised: bool,
    against: bool,
    is_full: bool,
) -> None:
    """And in memory where a disk has no room for them."""
    (tmp_path / "images").mkdir()
    for i in range(150):
        write_image(tmp_path / "images" / f"{i}.png", seed=i, size=(8, 8))
    store, made = VectorStore(tmp_path / "store"), []
    sides = (tmp_path / "images",) * (1 + against)
    how: Any = {"top": 2, "normalised": normalised, "store": store}
    find = partial(find_similar, *sides, vectorizer="pixels?size=2+pixels?size=3")
    wanted = [*find(**how).rows()]

    def memmap(*arguments: Any, **options: Any) -> Any:
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        made.append(real(*arguments, **options))
        return made[-1]

    real = np.memmap
    monkeypatch.setattr("tllboost.files._MAPPED_FROM", 1)
    monkeypatch.setattr("numpy.memmap", memmap)
    assert [*find(**how).rows()] == wanted
    assert [*find(**how | {"store": None}).rows()] == wanted
    widths = {one.shape[1] for one in made}
    assert widths == (set() if is_full else {12, 27, 39, *[41] * normalised})
    left = [one.name for one in (tmp_path / "store").iterdir()]
    assert [name for name in left if not name.startswith("vectors.sqlite")] == []


@pytest.mark.skipif(
    not (hasattr(signal, "SIGKILL") and hasattr(os, "fork")), reason="no kill -9 here"
)
def test_kill_9_at_any_moment_of_comparing_costs_at_most_one_strip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at_moments("killed_work:comparing", tmp_path, n_moments=N_MOMENTS, seed=6)
    wanted, done = np.load(tmp_path / "whole" / "found.npy"), []

    def counted(*arguments: Any) -> Pairs:
        done.append(arguments)
        return by_products(*arguments)

    monkeypatch.setattr(engine, "_strips", strips_of_four)
    monkeypatch.setattr("tllboost.similar.by_products", counted)
    n_kept = []
    for moment in range(N_MOMENTS):
        folder = tmp_path / str(moment)
        n_kept.append(len([*folder.glob("pairs.*/*.npy")]))
        done.clear()
        comparing(folder)
        assert len(done) == N_IMAGES // 4 - n_kept[-1], moment
        assert (np.load(folder / "found.npy") == wanted).all(), moment
        assert not [*folder.glob("pairs.*")], moment
    assert min(n_kept) < max(n_kept)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--linkage", "average"],
            "'average' is not one of 'complete', 'single'",
        ),
        (["--exact"], "--exact has an effect only with --bundle"),
        (["--prior", "0.1"], "--prior '0.1' has an effect only with --bundle"),
        (["--bundle", "b.tllb", "-v", "classic"], "has no effect with --bundle"),
        (["--bundle", "b.tllb", "--normalised"], "has no effect with --bundle"),
        (["--linkage", "single"], "only with --groups-out or --html"),
        (["--json", "--csv"], "--json and --csv: give one of the two"),
        (["--top", "0"], "at least 1"),
    ],
)
def test_options_without_effect_are_refused(
    run: Run, folder: Path, words: list[str], message: str
) -> None:
    done = run("similar", folder, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_threshold_has_no_effect_beside_min_or_top(run: Run, folder: Path) -> None:
    bundle = save(folder.parent / "b.tllb", make_classifier("pixels?size=2", "cosine"))
    words = ("similar", folder, "--bundle", bundle, "--threshold", "0.9")
    assert run(*words).returncode == 4
    for more in ("--min", "--top"):
        done = run(*words, more, "1")
        assert (done.returncode, done.stdout) == (2, "")
        assert "has no effect with --min or --top" in done.stderr


def test_a_shortlist_holds_as_many_as_are_asked_for(run: Run, folder: Path) -> None:
    (folder / "broken.jpg").unlink()
    model = make_classifier("pixels?size=2", "random-forest", "l1")
    bundle = save(folder.parent / "forest.tllb", model)
    words = ("similar", folder, "--bundle", bundle, "--json", "--shortlist", "2")
    rows = run(*words, "--top", "6").json
    assert sum(row["left"] == "00.png" for row in rows) == 6


def test_one_of_two_folders_may_hold_nothing_that_can_be_read(
    run: Run, folder: Path
) -> None:
    other = folder.parent / "other"
    other.mkdir()
    (other / "broken.jpg").write_bytes(b"no image")
    for two in ((folder, other), (other, folder)):
        done = run("similar", two[0], "--against", two[1], "--csv", "--top", "1")
        assert (done.returncode, len(done.stdout.splitlines())) == (4, 1)
        assert str(other / "broken.jpg") in done.stderr


def test_folders_without_images_are_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("similar", tmp_path / "empty")
    assert (done.returncode, done.stdout) == (3, "")
    assert f"no images in '{tmp_path / 'empty'}'" in done.stderr
    (tmp_path / "empty" / "a.jpg").write_bytes(b"")
    assert run("similar", tmp_path / "empty").returncode == 3


def test_thousands_of_names_are_told_as_they_are(run: Run, tmp_path: Path) -> None:
    """Files with the same bytes, so that one of them is looked at."""
    (tmp_path / "many").mkdir()
    write_image(tmp_path / "many" / "ä 0.png", seed=0)
    for i in range(1, 10_000):
        (tmp_path / "many" / f"ä {i}.png").hardlink_to(tmp_path / "many" / "ä 0.png")
    done = run("similar", tmp_path / "many", "-v", "classic", "--csv")
    assert done.returncode == 0
    assert len(done.table) == 9_999
    assert {row["left"] for row in done.table} == {"ä 0.png"}


@pytest.mark.shared
def test_phone_photos_of_each_cover_are_found(run: Run, shared: Path) -> None:
    """Of 350 images, 4 of each cover; chance is below .01."""
    covers = shared / "data" / "dvd-covers"
    rows = run("similar", covers, "--top", "4", "--json").json
    found = [row["left"][:3] == row["right"][:3] for row in rows]
    assert np.mean(found) > 0.2


def test_the_page_is_walked_by_keys_and_fits_a_phone(
    run: Run, folder: Path, open_page: OpenPage
) -> None:
    page = folder.parent / "groups.html"
    for i in (4, 5, 6):
        shutil.copy(folder / f"0{i}.png", folder / f"again {i}.png")
    run("similar", folder, "-v", "classic", "--min", "0.9", "--html", page)
    shown = open_page(page, size=DESKTOP)
    groups = shown.locator("section.similar")
    assert groups.count() == 4
    shown.keyboard.press("j")
    shown.keyboard.press("j")
    assert shown.evaluate("document.activeElement.ariaLabel") == "Group 2 of 4"
    shown.keyboard.press("k")
    assert shown.evaluate("document.activeElement.ariaLabel") == "Group 1 of 4"
    groups.nth(0).locator("button").nth(1).click()
    dialog = shown.locator("#enlarged")
    assert dialog.locator("img").count() == 2
    assert "image 2 of 2" in dialog.inner_text()
    shown.keyboard.press("ArrowLeft")
    assert "image 1 of 2" in dialog.inner_text()
    shown.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert not is_sideways(open_page(page, size=PHONE))


def test_a_command_that_was_stopped_goes_on_where_it_was(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "broken.jpg").unlink()
    out = folder.parent / "pairs.csv"
    words = ("similar", folder, "-v", "classic", "--min", "0.1", "--csv")
    monkeypatch.setattr(engine, "_strips", lambda n, _: [("a", (0, 5)), ("b", (5, n))])
    wanted = run(*words).stdout
    done: list[int] = []

    def stopped(*arguments: Any) -> Pairs:
        if done:
            raise KeyboardInterrupt
        done.append(arguments[3])
        return by_products(*arguments)

    monkeypatch.setattr("tllboost.similar.by_products", stopped)
    first = run(*words, "--out", out)
    assert (first.returncode, first.stdout) == (130, "")
    assert "interrupted: the same command goes on where it was" in first.stderr
    (beside,) = folder.parent.glob("pairs.csv.*")
    assert [one.name for one in beside.iterdir()] == ["a"]
    done.clear()
    again = run(*words, "--out", out)
    assert done == [5]
    assert again.stdout == out.read_text(encoding="utf-8") == wanted
    assert not beside.exists()
