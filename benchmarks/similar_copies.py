"""Folders of images with planted copies, and how good scored pairs of them are.

Copies of 60 images, changed in 18 ways, lie among 2,000 other images. ``make`` writes
such a folder, the same for the same seed. ``evaluate`` says of scored pairs, wherever
they come from, how many copies they find and how many are right.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fetch_data import SHARED
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from tllboost.demo import make_scenes

FAMILIES = {"tll": 30, "dvd-covers": 10, "ukbench": 5, "scenes": 15}
"""How many originals are of each set."""

N_OTHERS, N_SCENES = 2000, 215
PNG = 0.25
"""Share of files that are PNG."""

COPIES = {
    "left": "ezl jvl kov ndd ozl pkn pky pox qcd rbj uas yca ywk zgz",
    "right": """
        akj alv cca cgg cun cvi dsf dvd ekc eki fgk fmz fye gab gne hac hgu hhu ibw ith
        jrn kbr keb lbw lyk mfh muz ndi nds nnm oom oqp oqv ouh pnn qkl qpr qpy rgf rst
        rwf rxl sau sej svr tad tza uib uvl vac vht vll vsw vtv vux whc whr wkp wtb wua
        xii xua xwa xxp yid ylh ysb zls zmb zzf
    """,
}
"""Images of tll that show another one once more: the same photograph or drawing.

Found by eye among the 600 pairs of tll that are the most alike by the cosine of
`classic+pocket`, of 950 that are among the most alike by `classic`, `pocket`, both,
MobileNetV2, phash or dhash, and among the first 60 that have one image mirrored.
"""

WORDS = "sale new photo of the day look at this who wore it better 2017 before after"

UNRELATED = 1e-3
"""The share of unrelated pairs that `listed` keeps, the most alike."""

Edit = Callable[[Image.Image, Generator], Image.Image]


def resized(image: Image.Image, rng: Generator) -> Image.Image:
    """Scale to 0.3 to 0.8, three times in ten to 1.25 to 2, of the size."""
    scale = rng.uniform(0.3, 0.8) if rng.random() < 0.7 else rng.uniform(1.25, 2)
    width, height = (max(16, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def cropped(share: float) -> Edit:
    """Cut away a share of the area; the window has the image's proportions."""

    def edit(image: Image.Image, rng: Generator) -> Image.Image:
        keep = np.sqrt(1 - share)
        width, height = (max(1, round(side * keep)) for side in image.size)
        left = int(rng.integers(image.width - width + 1))
        top = int(rng.integers(image.height - height + 1))
        return image.crop((left, top, left + width, top + height))

    return edit


def cut(share: float) -> Edit:
    """Cut away a share of the width and of the height."""
    return cropped(1 - (1 - share) ** 2)


def tilted(image: Image.Image, rng: Generator) -> Image.Image:
    """Rotate by 3 to 8 degrees; the corners become black or white."""
    angle = rng.uniform(3, 8) * rng.choice([-1, 1])
    fill = ("black", "white")[int(rng.integers(2))]
    how = Image.Resampling.BICUBIC
    return image.rotate(angle, how, expand=bool(rng.random() < 0.5), fillcolor=fill)


def turned(image: Image.Image, rng: Generator) -> Image.Image:
    """Rotate by 90, 180 or 270 degrees."""
    ways = Image.Transpose
    some = (ways.ROTATE_90, ways.ROTATE_180, ways.ROTATE_270)
    return image.transpose(some[int(rng.integers(3))])


def mirrored(image: Image.Image, _rng: Generator) -> Image.Image:
    """Swap left and right."""
    return ImageOps.mirror(image)


def framed(image: Image.Image, rng: Generator) -> Image.Image:
    """Add a border of one colour, 3 to 10 % of the shorter side."""
    width = max(1, round(min(image.size) * rng.uniform(0.03, 0.1)))
    drawn = tuple(int(one) for one in rng.integers(256, size=3))
    colour = ((0, 0, 0), (255, 255, 255), drawn)[int(rng.integers(3))]
    return ImageOps.expand(image, width, colour)


def brighter(image: Image.Image, rng: Generator) -> Image.Image:
    """Multiply by 1.2 to 1.6."""
    return ImageEnhance.Brightness(image).enhance(float(rng.uniform(1.2, 1.6)))


def with_text(image: Image.Image, rng: Generator) -> Image.Image:
    """Write one or two lines, white with a black edge."""
    image = image.copy()
    height = max(10, round(image.height * rng.uniform(0.07, 0.13)))
    font = ImageFont.load_default(height)
    for line in range(int(rng.integers(1, 3))):
        words = " ".join(rng.choice(WORDS.upper().split(), int(rng.integers(2, 5))))
        top = round(rng.uniform(0.02, 0.1) * image.height)
        x = round(rng.uniform(0, 0.15) * image.width)
        y = top if line else image.height - top - height
        ImageDraw.Draw(image).text(
            (x, y),
            words,
            fill="white",
            font=font,
            stroke_fill="black",
            stroke_width=height // 12,
        )
    return image


def same(image: Image.Image, _rng: Generator) -> Image.Image:
    """Leave the pixels as they are."""
    return image


KINDS: dict[str, Edit] = {
    "resized": resized,
    "recompressed": same,
    **{f"cropped {n} %": cropped(n / 100) for n in (5, 10, 15, 20, 30)},
    **{f"sides cut {n} %": cut(n / 100) for n in (5, 10, 15, 20, 30)},
    "tilted": tilted,
    "turned": turned,
    "mirrored": mirrored,
    "framed": framed,
    "brighter": brighter,
    "with text": with_text,
}


class Truth(NamedTuple):
    """What a folder holds.

    Attributes
    ----------
    files : list of Path
    family : ndarray of shape (n_files,), int64
        The number of an original's family, -1 for the others.
    kind : list of str, length n_files
        A name of `KINDS`, ``original`` or ``other``.
    source : list of str, length n_files
        The set and the image that a file was made of.
    """

    files: list[Path]
    family: NDArray[np.int64]
    kind: list[str]
    source: list[str]


def sources(work: Path) -> dict[str, list[list[Path]]]:
    """Return the images of each set, by group: pair, cover, object or scene."""
    data = SHARED / "data"
    with (data / "tll" / "pairs.csv").open(newline="", encoding="utf-8") as opened:
        pairs = [
            [data / "tll" / side / f"{row[side]}.jpg" for side in ("left", "right")]
            for row in csv.DictReader(opened)
        ]
    views: dict[str, list[Path]] = {}
    for one in sorted((data / "ukbench").iterdir()):
        views.setdefault(one.name[:4], []).append(one)
    scenes = work / "scenes"
    if not (scenes / "pairs.csv").exists():
        make_scenes(scenes, n_scenes=N_SCENES, n_views=2, size=256)
    covers = sorted((data / "dvd-covers").iterdir())
    return {
        "tll": [[one for one in pair if not _is_copy(one)] for pair in pairs],
        "dvd-covers": [sorted(one.iterdir()) for one in covers],
        "ukbench": [*views.values()],
        "scenes": [[one] for one in sorted(scenes.glob("scene_*_0.jpg"))],
    }


def _is_copy(path: Path) -> bool:
    return path.stem in COPIES[path.parent.name].split()


def make(work: Path, seed: int) -> Truth:
    """Write the folder of a seed, and say what it holds.

    The others are one photograph of each cover and one view of each object and scene
    that has no family, and images of tll whose pair has none, without `COPIES`.
    """
    rng = np.random.default_rng([seed, 0])
    originals: list[Path] = []
    others: list[Path] = []
    for name, groups in reversed(sources(work).items()):
        known = [one for one in groups if one]
        drawn = [known[i] for i in rng.permutation(len(known))]
        n = FAMILIES[name]
        originals += [one[int(rng.integers(len(one)))] for one in drawn[:n]]
        if name == "tll":
            rest = [one for group in drawn[n:] for one in group]
            n_rest = N_OTHERS - len(others)
            others += [rest[i] for i in rng.permutation(len(rest))[:n_rest]]
        else:
            others += [one[int(rng.integers(len(one)))] for one in drawn[n:]]
    folder = work / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[Path, int, str, str]] = []
    for number, path in enumerate(others):
        one_rng = np.random.default_rng([seed, 1, number])
        file = _as_it_is(path, folder / f"other-{number:04d}", one_rng)
        rows.append((file, -1, "other", _source(path)))
    for number, path in enumerate(originals):
        one_rng = np.random.default_rng([seed, 2, number])
        stem = folder / f"family-{number:02d}-original"
        rows.append((_as_it_is(path, stem, one_rng), number, "original", _source(path)))
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        for at, (kind, edit) in enumerate(KINDS.items()):
            one_rng = np.random.default_rng([seed, 3, number, at])
            name = kind.replace(" %", "").replace(" ", "-")
            stem = folder / f"family-{number:02d}-{name}"
            file = saved(edit(image, one_rng), stem, one_rng, kind)
            rows.append((file, number, kind, _source(path)))
    rows.sort()  # as the command finds them: what it draws depends on the order
    files, family, kinds, of = zip(*rows, strict=True)
    return Truth([*files], np.array(family), [*kinds], [*of])


def _source(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _as_it_is(path: Path, stem: Path, rng: Generator) -> Path:
    """Write an image as it is, or the same pixels as a PNG."""
    if rng.random() >= PNG:
        file = stem.with_suffix(".jpg")
        file.write_bytes(path.read_bytes())
        return file
    file = stem.with_suffix(".png")
    with Image.open(path) as image:
        image.convert("RGB").save(file, compress_level=1)
    return file


def saved(image: Image.Image, stem: Path, rng: Generator, kind: str) -> Path:
    """Write a copy: a poor JPEG if that is its kind, else a good one or a PNG."""
    if kind != "recompressed" and rng.random() < PNG:
        file = stem.with_suffix(".png")
        image.save(file, compress_level=1)
        return file
    file = stem.with_suffix(".jpg")
    low, high = (15, 45) if kind == "recompressed" else (75, 96)
    image.save(file, quality=int(rng.integers(low, high)))
    return file


class Scored(NamedTuple):
    """Pairs of files with their scores; higher is more alike.

    Attributes
    ----------
    ends : ndarray of shape (n_pairs, 2), int64
        Numbers of files, each pair once.
    score : ndarray of shape (n_pairs,)
    """

    ends: NDArray[np.int64]
    score: NDArray[Any]


def of_one_family(truth: Truth, ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which pairs are two of one family: (n_pairs,)."""
    left, right = truth.family[ends].T
    return (left == right) & (left >= 0)


def some_of(truth: Truth, rows: NDArray[np.int64]) -> Truth:
    """Return what a folder with some of the files would hold."""
    files, kind, source = (
        [values[row] for row in rows.tolist()]
        for values in (truth.files, truth.kind, truth.source)
    )
    return Truth(files, truth.family[rows], kind, source)  # type: ignore[arg-type]


def listed(scores: NDArray[Any], truth: Truth, least: float = np.inf) -> Scored:
    """Return the pairs of a square of scores that can matter.

    All pairs of one family, and of the others those that are the most alike: enough
    for any precision that is worth a name, and all from `least` on.
    """
    ends = np.column_stack(np.triu_indices(len(scores), 1))
    score = scores[ends[:, 0], ends[:, 1]]
    right = of_one_family(truth, ends)
    wrong = score[~right]
    place = len(wrong) - max(1, round(UNRELATED * len(wrong)))
    lowest = min(least, np.partition(wrong, place)[place])
    kept = right | (score >= lowest)
    return Scored(ends[kept], score[kept])


class Found(NamedTuple):
    """How good the pairs from a threshold on are.

    Attributes
    ----------
    threshold : float
        Infinite where no threshold is good enough.
    precision : float
        Share of the pairs that are two of one family; 1 where there is no pair.
    recall : float
        Share of all pairs of two of one family that are found.
    wrong : float
        Share of all other pairs that are found, too.
    by_kind : dict of str to float
        Of each kind, the share of copies that are found with their original.
    """

    threshold: float
    precision: float
    recall: float
    wrong: float
    by_kind: dict[str, float]


def evaluate(
    pairs: Scored,
    truth: Truth,
    *,
    threshold: float | None = None,
    precision: float | None = None,
    wrong: float | None = None,
) -> Found:
    """Say how good scored pairs are: from a threshold on, or from where they should.

    Parameters
    ----------
    pairs : Scored
        A pair that is not there is never found.
    truth : Truth
    threshold, precision, wrong : float
        One of them: the threshold itself, the lowest one from which the precision is
        at least this, or from which at most this share of the unrelated pairs passes.
        Pairs of one score are found together.
    """
    sizes = np.bincount(truth.family[truth.family >= 0])
    n_right = int((sizes * (sizes - 1) // 2).sum())
    n_files = len(truth.files)
    n_wrong = n_files * (n_files - 1) // 2 - n_right
    order = np.argsort(-pairs.score, kind="stable")
    ends, score = pairs.ends[order], pairs.score[order]
    right = np.cumsum(of_one_family(truth, ends))
    found = np.arange(1, len(order) + 1)
    last = np.append(np.diff(score) != 0, True)[: len(order)]
    if threshold is None:
        good = right / found >= (precision or 0)
        if wrong is not None:
            good &= found - right <= wrong * n_wrong
        places = np.flatnonzero(good & last)
        threshold = float(score[places[-1]]) if len(places) else np.inf
    n_found = int((score >= threshold).sum())
    n_good = int(right[n_found - 1]) if n_found else 0
    return Found(
        threshold=threshold,
        precision=n_good / n_found if n_found else 1.0,
        recall=n_good / n_right,
        wrong=(n_found - n_good) / n_wrong,
        by_kind=_by_kind(ends[:n_found], truth),
    )


def _by_kind(found: NDArray[np.int64], truth: Truth) -> dict[str, float]:
    kinds = np.array(truth.kind)
    originals = np.flatnonzero(kinds == "original")
    original_of = np.empty(len(originals), np.int64)
    original_of[truth.family[originals]] = originals
    known = _codes(found, len(kinds))
    recall: dict[str, float] = {}
    for kind in KINDS:
        copies = np.flatnonzero(kinds == kind)
        if len(copies):
            pairs = np.column_stack([original_of[truth.family[copies]], copies])
            recall[kind] = float(np.isin(_codes(pairs, len(kinds)), known).mean())
    return recall


def _codes(ends: NDArray[np.int64], n_files: int) -> NDArray[np.int64]:
    """Return a number for each pair, the same either way round."""
    codes: NDArray[np.int64] = ends.min(axis=1) * n_files + ends.max(axis=1)
    return codes
