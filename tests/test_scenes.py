"""The demo set: real regions, no overlap, hard but not hopeless."""

from __future__ import annotations

import hashlib
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tllboost import demo as scenes
from tllboost.demo import make_scenes
from tllboost.errors import DataError, UsageError
from tllboost.pairs import PairTable, read_pairs


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> PairTable:
    """The whole demo set, made once."""
    path = make_scenes(tmp_path_factory.mktemp("scenes"))
    return read_pairs(path, images=path.parent)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
    }


def test_the_set_is_a_pair_table_of_matches(demo: PairTable) -> None:
    assert (demo.n_pairs, demo.n_images) == (480, 720)
    assert demo.ids[:2] == ("scene_0001_0", "scene_0001_1")
    assert demo.label.min() == 1
    for i, j in zip(demo.left, demo.right, strict=True):
        assert demo.ids[i][:-1] == demo.ids[j][:-1]
        assert demo.ids[i].endswith("_0")


def test_every_image_is_a_small_rgb_jpeg(demo: PairTable) -> None:
    for path in demo.paths[::7]:
        assert path is not None
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (160, 160))


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, [5, 5, 6], strict=True):
        make_scenes(folder, n_scenes=6, size=48, seed=seed)
    first, same, other = (digests(folder) for folder in folders)
    assert first == same
    assert all(first[name] != other[name] for name in first if name != "pairs.csv")


def test_fewer_scenes_are_the_first_of_more(tmp_path: Path) -> None:
    make_scenes(tmp_path / "few", n_scenes=3, size=32)
    make_scenes(tmp_path / "more", n_scenes=9, size=32, n_views=4)
    few, more = digests(tmp_path / "few"), digests(tmp_path / "more")
    assert all(more[name] == few[name] for name in few if name != "pairs.csv")


def test_regions_do_not_overlap_and_stay_inside_their_photograph() -> None:
    regions = scenes._draw_regions(350, seed=3)
    sizes = {path: scenes._open(path).size for path in scenes._photographs()}
    for path, (left, upper, right, lower) in regions:
        width, height = sizes[path]
        assert (right - left, lower - upper) == (scenes._SIDE, scenes._SIDE)
        assert 0 <= left <= width - scenes._SIDE
        assert 0 <= upper <= height - scenes._SIDE
    for (path, a), (other, b) in combinations(regions, 2):
        apart = max(abs(a[0] - b[0]), abs(a[1] - b[1])) >= scenes._SIDE
        assert path != other or apart


def test_regions_come_from_all_photographs_and_none_dominates() -> None:
    regions = scenes._draw_regions(240, seed=0)
    names = [path.name for path, _ in regions]
    assert len(set(names)) == 18
    assert max(names.count(name) for name in names) <= 20


def test_blank_tiles_are_dropped() -> None:
    noise = np.random.default_rng(0).normal(128, 3, (96, 96)).astype(np.float32)
    stripes = np.tile(np.repeat([40, 200], 8), (96, 6)).astype(np.float32)
    assert scenes._detail(noise) < scenes._LEAST_DETAIL < scenes._detail(stripes)


def test_views_of_a_scene_differ(demo: PairTable) -> None:
    seen = set()
    for path in demo.paths:
        assert path is not None
        seen.add(path.read_bytes())
    assert len(seen) == demo.n_images


def test_the_set_is_hard_but_not_hopeless(demo: PairTable) -> None:
    from skimage.feature import hog

    n_images, n_pairs = 240, 160  # of the first third of the scenes
    vectors = []
    for path in demo.paths[:n_images]:
        assert path is not None
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L").resize((128, 128)))
        vectors.append(hog(grey, 9, (16, 16), (2, 2)))
    units = np.array(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    first = []
    for query, match in zip(demo.left[:n_pairs], demo.right[:n_pairs], strict=True):
        scene = demo.ids[query][:-1]
        draws = rng.permutation(n_images)
        others = [i for i in draws if not demo.ids[i].startswith(scene)][:19]
        scores = units[[match, *others]] @ units[query]
        first.append(scores[0] > scores[1:].max())
    assert 0.3 < np.mean(first) < 0.6


def test_an_earlier_run_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    make_scenes(tmp_path, n_scenes=4, size=32)
    (tmp_path / "mine.jpg").touch()
    path = make_scenes(tmp_path, n_scenes=2, n_views=2, size=32)
    assert path == tmp_path / "pairs.csv"
    assert sorted(found.name for found in tmp_path.iterdir()) == [
        "mine.jpg",
        "pairs.csv",
        *(f"scene_000{scene}_{view}.jpg" for scene in (1, 2) for view in (0, 1)),
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_scenes": 0}, "n_scenes=0 is out of range; it must be 1 to 9999"),
        ({"n_scenes": 5000}, "n_scenes=5000 is too many: the photographs"),
        ({"n_views": 1}, "n_views=1 is out of range; it must be 2 to 10"),
        ({"size": 4}, "size=4 is out of range"),
        ({"seed": -1}, "seed=-1 is out of range"),
    ],
)
def test_numbers_out_of_range_are_refused(
    tmp_path: Path, options: dict[str, int], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        make_scenes(tmp_path / "scenes", **options)
    assert not (tmp_path / "scenes").exists()


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="can't write the demo set") as caught:
        make_scenes(tmp_path / "file", n_scenes=1)
    assert "\n" not in str(caught.value)
