"""Measure how well copies are found in a folder; write results/similar/README.md.

    pip install imagehash imagededup
    python benchmarks/similar_quality.py [--work DIR] [--part folder|limits|...]

Folders of three seeds (benchmarks/similar_copies.py) are searched by ``tllboost
similar`` and by what others use for that, hashes of images. Then: the cosines that
unrelated images reach, from which the command has its limits; photographs of the same
thing, which are no copies; and what ``tllboost check`` takes for copies. ``--part``
makes one part anew and keeps the others. What was made in ``--work``, vectors, hashes
and runs, is used again.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from fetch_data import ROOT, SHARED
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from similar_copies import (
    COPIES,
    FAMILIES,
    KINDS,
    N_OTHERS,
    PNG,
    Edit,
    Found,
    Scored,
    Truth,
    cut,
    evaluate,
    listed,
    make,
    saved,
    some_of,
    sources,
)
from tables import rows_of, table

from tllboost.check import _LEAST as NEAR
from tllboost.files import write_text
from tllboost.merges import unit_rows
from tllboost.processes import Processes
from tllboost.references import _NEAREST, _SAME, References
from tllboost.similar import DEFAULT, USUAL, _Cosines
from tllboost.vectorizing import vectorize

OUT = ROOT / "results" / "similar"
SEEDS = (0, 1, 2)
MOBILENET, SQUEEZENET = (
    f"onnx:{SHARED / 'weights' / name}"
    for name in ("mobilenetv2.onnx", "squeezenet1_1.onnx")
)
VECTORIZERS = {
    DEFAULT: DEFAULT,
    "classic": "classic",
    "pocket": "pocket",
    "MobileNetV2": MOBILENET,
    "classic?flip=true+pocket?flip=true": "classic?flip=true+pocket?flip=true",
}
FORMS = ("S-norm", "--normalised", "CSLS")
SCORES = (DEFAULT, *(f"{DEFAULT}, {form}" for form in FORMS), *VECTORIZERS)
HASHES = {
    "imagehash": ("phash", "dhash", "whash"),
    "imagededup": ("PHash", "DHash", "WHash", "AHash"),
}
MOST_BITS = 10  # that may differ: the default of imagededup
PRECISION, WRONG, CROPPED, LEAD = 0.95, 1e-4, 15, 0.02
SETS = ("tll", "dvd-covers", "ukbench", "scenes")
LARGE = ("tll", "dvd-covers", "scenes")
LEAST = {"cosine": 0.45, "normalised": 2.5}  # below all that any point asks for
TOP, N_DRAWS = 4, 2000
Figures = dict[str, Any]
Floats = NDArray[np.float32]


def trimmed(image: Image.Image, _rng: Generator) -> Image.Image:
    """Cut away 8 % at each of the four sides."""
    left, top = (round(0.08 * side) for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top))


def grey(image: Image.Image, _rng: Generator) -> Image.Image:
    """Take away the colours."""
    return image.convert("L")


CHECKED: dict[str, Edit] = {
    "grey levels": grey,
    "8 % of width and height cut away": cut(0.08),
    "8 % cut away at each of the four sides": trimmed,
}


class Place:
    """Where the work lies, and the commands that are run there."""

    def __init__(self, work: Path) -> None:
        self.work, self.store = work, work / "store"

    def run(self, *words: str | Path) -> str:
        """Run a command of tllboost and return its output."""
        known = {"TLLBOOST_STORE": str(self.store), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tllboost", *map(str, words)]
        return subprocess.run(
            command, env=os.environ | known, check=True, stdout=subprocess.PIPE
        ).stdout.decode()

    def similar(self, *words: str | Path) -> list[dict[str, str]]:
        """Return the rows that ``tllboost similar`` gives."""
        text = self.run("similar", *words, "--csv", "--quiet")
        return list(csv.DictReader(io.StringIO(text)))

    def vectors(self, vectorizer: str, files: Sequence[Path]) -> Floats:
        """Return the vectors of files."""
        made = vectorize(vectorizer, files, store=self.store, backend=Processes())
        if made.failures:
            raise ValueError(made.failures)
        return unit_rows(made.vectors)


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# Copies in a folder


def forms(vectors: Floats) -> dict[str, Floats]:
    """Return cosines, and what normalises them by other images of the folder."""
    cosine = vectors @ vectors.T
    references = References.drawn(vectors, np.arange(len(vectors)), seed=0)
    mean, spread = references.mean_and_spread(vectors)
    near = vectors @ unit_rows(references.vectors.astype(np.float32)).T
    near[near > _SAME] = -1  # itself
    nearest = np.sort(near, axis=1)[:, -_NEAREST:].mean(axis=1)
    by_one = (cosine - mean[:, None]) / spread[:, None]
    middle = (mean[:, None] + mean) / 2
    values = (
        (by_one + by_one.T) / 2,
        (cosine - middle) / np.sqrt(spread[:, None] * spread),
        2 * cosine - nearest[:, None] - nearest,
    )
    named = (f"{DEFAULT}, {form}" for form in FORMS)
    return {DEFAULT: cosine} | dict(zip(named, values, strict=True))


def hashes_of(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Return the bits of each hash of an image."""
    import imagededup.methods
    import imagehash

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    bits = {
        name: getattr(imagehash, name)(image).hash.ravel().astype(np.uint8)
        for name in HASHES["imagehash"]
    }
    for name in HASHES["imagededup"]:
        method = getattr(imagededup.methods, name)(verbose=False)
        text = method.encode_image(image_array=np.asarray(image))
        bits[name] = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
    return bits


def hashed(work: Path, seed: int, files: Sequence[Path]) -> dict[str, Any]:
    """Return the bits of each hash of files: (n_files, 64)."""
    if not HASHES:
        return {}
    path = work / f"hashes-{seed}.npz"
    if not path.exists():
        with ProcessPoolExecutor() as pool:
            made = [*pool.map(hashes_of, files, chunksize=64)]
        columns: Any = {name: np.array([one[name] for one in made]) for name in made[0]}
        np.savez(path, **columns)
    with np.load(path) as opened:
        return dict(opened)


def equal_bits(bits: NDArray[np.uint8]) -> Floats:
    """Return less the number of bits in which two hashes differ, for all pairs."""
    signs = 2 * bits.astype(np.float32) - 1
    return np.round((signs @ signs.T - bits.shape[1]) / 2)


def scored_by(place: Place, truth: Truth, *words: str) -> Scored:
    """Return the pairs that the command tells of a folder."""
    rows = place.similar(truth.files[0].parent, *words)
    number = {file.name: at for at, file in enumerate(truth.files)}
    ends = [(number[row["left"]], number[row["right"]]) for row in rows]
    return Scored(np.array(ends), np.array([float(row["score"]) for row in rows]))


def of_points(pairs: Scored, truth: Truth) -> dict[str, Found]:
    """Say how good pairs are where a precision, and a share of wrong ones, is kept."""
    return {
        "precision": evaluate(pairs, truth, precision=PRECISION),
        "wrong": evaluate(pairs, truth, wrong=WRONG),
    }


def checked(found: dict[str, Found], pairs: Scored) -> dict[str, Found]:
    """Return the points, if the command was asked for enough pairs."""
    if min(one.threshold for one in found.values()) <= pairs.score.min():
        msg = "the command was asked for too few pairs: lower LEAST"
        raise ValueError(msg)
    return found


def thin(pairs: Scored, truth: Truth, kind: str) -> tuple[Scored, Truth]:
    """Return what is left with one copy of each family, the one of a kind."""
    rows = rows_of_kind(truth, kind)
    place = np.full(len(truth.files), -1)
    place[rows] = np.arange(len(rows))
    ends = place[pairs.ends]
    kept = (ends >= 0).all(axis=1)
    return Scored(ends[kept], pairs.score[kept]), some_of(truth, rows)


def rows_of_kind(truth: Truth, kind: str) -> NDArray[np.int64]:
    """Return the files that are others, originals, or copies of a kind."""
    return np.flatnonzero(np.isin(truth.kind, ["other", "original", kind]))


def folder(place: Place) -> Figures:
    """Measure the folders of all seeds."""
    points: Figures = {
        size: {point: {} for point in ("limit", "precision", "wrong")}
        for size in ("dense", "thin")
    }

    def add(size: str, name: str, found: dict[str, Any]) -> None:
        for point, one in found.items():
            told = one._asdict() if isinstance(one, Found) else one
            points[size][point].setdefault(name, []).append(told)

    others = []
    for seed in SEEDS:
        truth = make(place.work, seed)
        tell(f"seed {seed}: {len(truth.files)} files")
        others.append(
            {
                name: sum(
                    kind == "other" and name in source.split("/")
                    for kind, source in zip(truth.kind, truth.source, strict=True)
                )
                for name in SETS
            }
        )
        for name, found in of_dense(place, truth, seed):
            add("dense", name, found)
        for name, found in of_thin(place, truth, seed):
            add("thin", name, found)
    told = {"seeds": len(SEEDS), "n_files": len(truth.files), "others": others}
    return told | {"usual": USUAL} | points


def of_dense(
    place: Place, truth: Truth, seed: int
) -> Iterator[tuple[str, dict[str, Found]]]:
    """Give the figures of each score in a folder with all copies."""
    for name, form in ((DEFAULT, "cosine"), (f"{DEFAULT}, {FORMS[1]}", "normalised")):
        words = [] if form == "cosine" else ["--normalised"]
        usual = scored_by(place, truth, *words)
        lowest = usual.score.min()
        pairs = scored_by(place, truth, *words, "--min", str(LEAST[form]))
        found = checked(of_points(pairs, truth), pairs)
        least = USUAL[DEFAULT] if form == "cosine" else float(lowest)
        yield name, {"limit": evaluate(usual, truth, threshold=least)} | found
    for name, scores in all_scores(place, truth, seed):
        if name in (DEFAULT, f"{DEFAULT}, {FORMS[1]}"):
            continue  # as the command tells them
        limit = limit_of(name)
        pairs = listed(scores, truth, np.inf if limit is None else limit)
        found = of_points(pairs, truth)
        if limit is not None:
            found["limit"] = evaluate(pairs, truth, threshold=limit)
        yield name, found
    tell("  with all copies")


def limit_of(name: str) -> float | None:
    """Return what a score is compared with by default; None if there is no default."""
    if name in HASHES.get("imagededup", ()):
        return -MOST_BITS
    return USUAL.get(name)


def all_scores(place: Place, truth: Truth, seed: int) -> Iterator[tuple[str, Floats]]:
    """Give all squares of scores."""
    for name, vectorizer in VECTORIZERS.items():
        vectors = place.vectors(vectorizer, truth.files)
        if name == DEFAULT:
            yield from forms(vectors).items()
        else:
            yield name, vectors @ vectors.T
    for name, bits in hashed(place.work, seed, truth.files).items():
        yield name, equal_bits(bits)


def of_thin(
    place: Place, truth: Truth, seed: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the figures of each score in folders with one copy of each family.

    Cosines and hashes of two images are the same whatever else is in the folder, so
    they are taken from the folder with all copies. What normalises is computed anew.
    """
    vectors = place.vectors(DEFAULT, truth.files)
    pairs = scored_by(place, truth, "--min", str(LEAST["cosine"]))
    known: dict[str, dict[str, dict[str, Found]]] = {}

    def add(name: str, kind: str, found: dict[str, Found]) -> None:
        for point, one in found.items():
            known.setdefault(name, {}).setdefault(point, {})[kind] = one

    for kind in KINDS:
        left, some = thin(pairs, truth, kind)
        found = checked(of_points(left, some), left)
        found["limit"] = evaluate(left, some, threshold=USUAL[DEFAULT])
        add(DEFAULT, kind, found)
        for name, scores in forms(vectors[rows_of_kind(truth, kind)]).items():
            if name != DEFAULT:
                add(name, kind, of_points(listed(scores, some), some))
    for name, scores in all_scores(place, truth, seed):
        if name in known:
            continue
        for kind in KINDS:
            rows = rows_of_kind(truth, kind)
            some = some_of(truth, rows)
            square = scores[np.ix_(rows, rows)]
            limit = limit_of(name)
            left = listed(square, some, np.inf if limit is None else limit)
            found = of_points(left, some)
            if limit is not None:
                found["limit"] = evaluate(left, some, threshold=limit)
            add(name, kind, found)
    for name, of_point in known.items():
        yield name, {point: averaged(of) for point, of in of_point.items()}
    tell("  with one copy of each")


def averaged(of: dict[str, Found]) -> dict[str, Any]:
    """Return the recall of each kind in its own folder, and means over the folders."""
    values = of.values()
    return {
        "precision": float(np.mean([one.precision for one in values])),
        "wrong": float(np.mean([one.wrong for one in values])),
        "by_kind": {kind: one.by_kind[kind] for kind, one in of.items()},
    }


# Limits


def grouped(work: Path, name: str) -> tuple[list[Path], NDArray[np.int64]]:
    """Return the images of a set, and the group of each: no two are related."""
    groups = sources(work)[name]
    if name == "scenes":  # of which a folder has one view each
        groups = [
            sorted(one.parent.glob(one.name.replace("_0.jpg", "_*.jpg")))
            for (one,) in groups
        ]
    number = [at for at, group in enumerate(groups) for _ in group]
    return [one for group in groups for one in group], np.array(number)


def limits(place: Place) -> Figures:
    """Measure the cosines of unrelated images, and what is estimated of them."""
    named = {name: VECTORIZERS[name] for name in (*USUAL, "MobileNetV2")}
    named["SqueezeNet"] = SQUEEZENET
    told: Figures = {}
    for set_name in SETS:
        files, group = grouped(place.work, set_name)
        left, right = np.triu_indices(len(files), 1)
        unrelated = group[left] != group[right]
        for name, vectorizer in named.items():
            vectors = place.vectors(vectorizer, files)
            cosine = (vectors @ vectors.T)[left, right]
            wrong, matches = cosine[unrelated], cosine[~unrelated]
            estimate = _Cosines(vectors, None, "", normalised=False).limit(None)
            one = told.setdefault(set_name, {})[name] = {
                "n_images": len(files),
                "n_pairs": len(wrong),
                "quantile": float(np.quantile(wrong, 1 - WRONG)),
                "estimate": estimate,
                "passes": float((wrong >= estimate).mean()),
                "related": float((matches >= estimate).mean()),
            }
            if name == DEFAULT:
                one["near"] = int((wrong >= NEAR).sum())
        tell(f"limits: {set_name}, {len(files)} images")
    return told


# The same thing, photographed again


def covers(place: Place) -> Figures:
    """Measure how many of the other photographs of a cover are among the nearest."""
    data = SHARED / "data" / "dvd-covers"
    names = [one.relative_to(data).as_posix() for one in sorted(data.rglob("*.jpg"))]
    ways: dict[str, list[str]] = {
        f"`{DEFAULT}`": [],
        f"`{DEFAULT} --normalised`": ["--normalised"],
        "MobileNetV2": ["-v", MOBILENET],
        "MobileNetV2 `--normalised`": ["-v", MOBILENET, "--normalised"],
    }
    every = {
        way: found_of(place.similar(data, *words, "--top", str(TOP)), names)
        for way, words in ways.items()
    }
    recall: dict[str, list[float]] = {}
    asked: list[str] = []
    for seed in SEEDS:
        run = place.work / f"covers-{seed}"
        if not (run / "best.tllb").exists():
            options = ["--groups", "folder", "-v", MOBILENET, "-p", "infonce"]
            options += ["-m", "dot", "-c", "cosine", "--no-refit", "--seed", str(seed)]
            place.run("grid", data, *options, "--no-report", "--quiet", "--out", run)
        summary = json.loads((run / "summary.json").read_text("utf-8"))
        if "infonce" not in str(summary["chosen_on_validation"]):
            raise ValueError(summary["chosen_on_validation"])
        tested = {
            row[side].split("/")[0]
            for row in rows_of(run / "splits.csv")
            for side in ("left", "right")
            if row["split"] == "test"
        }
        bundle = ["--bundle", str(run / "best.tllb"), "--top", str(TOP)]
        fitted = found_of(place.similar(data, *bundle), names)
        queries = [name for name in names if name.split("/")[0] in tested]
        asked += queries
        for way, found in (*every.items(), ("MobileNetV2, fitted: `infonce`", fitted)):
            recall.setdefault(way, []).extend(found[name] for name in queries)
    tell(f"covers: {len(asked)} queries")
    return {
        "n_images": len(names),
        "n_all": len({name.split("/")[0] for name in names}),
        "n_tested": len(tested),
        "n_queries": len(asked),
        "n_covers": len({name.split("/")[0] for name in asked}),
        "recall": {
            way: [float(np.mean(one)), *over_covers(asked, one)]
            for way, one in recall.items()
        },
    }


def found_of(rows: Sequence[dict[str, str]], names: Sequence[str]) -> dict[str, float]:
    """Return of each image the share of the others of its folder that were found."""
    hits = dict.fromkeys(names, 0)
    for row in rows:
        hits[row["left"]] += row["left"].split("/")[0] == row["right"].split("/")[0]
    size = dict.fromkeys({one.split("/")[0] for one in names}, 0)
    for name in names:
        size[name.split("/")[0]] += 1
    return {name: n / (size[name.split("/")[0]] - 1) for name, n in hits.items()}


def over_covers(asked: Sequence[str], recall: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a mean, by bootstrap over covers."""
    cover = np.unique([name.split("/")[0] for name in asked], return_inverse=True)[1]
    total, number = np.bincount(cover, recall), np.bincount(cover)
    drawn = np.random.default_rng(0).integers(len(total), size=(N_DRAWS, len(total)))
    means = total[drawn].sum(axis=1) / number[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


# tllboost check


def check(place: Place) -> Figures:
    """Measure how many of other copies have the cosine that `check` asks for."""
    told: dict[str, list[float]] = {}
    for seed in SEEDS:
        truth = make(place.work, seed)
        beside = place.work / f"check-{seed}"
        beside.mkdir(exist_ok=True)
        originals = [
            truth.files[at] for at in np.flatnonzero(np.array(truth.kind) == "original")
        ]
        for at, (kind, edit) in enumerate(CHECKED.items()):
            copies = []
            for number, path in enumerate(originals):
                rng = np.random.default_rng([seed, 4, number, at])
                with Image.open(path) as opened:
                    image = edit(opened.convert("RGB"), rng)
                copies.append(saved(image, beside / f"{number:02d}-{at}", rng, kind))
            two = (place.vectors(DEFAULT, files) for files in (originals, copies))
            cosine = np.einsum("ij,ij->i", *two)
            told.setdefault(kind, []).append(float((cosine >= NEAR).mean()))
    tell("check")
    return {"limit": NEAR, "recall": told}


# The page

TEXT = """# Copies in a folder of images

```sh
pip install imagehash imagededup
python benchmarks/similar_quality.py
```

{verdict}

## What was measured

A folder of {n_files:,} images: {n_families} originals ({families}), {n_kinds} copies of
each, and {n_others:,} others ({others}). The others are one photograph of each DVD
cover and one view of each object and made scene that has no family, and images of tll
whose pair has none. {n_taken} images of tll that show another one once more, the same
photograph or drawing, were found by eye among the pairs that cosines, phash and dhash
call the most alike, and left out: else right answers would count as wrong. About {png}
of the files are PNG. Each figure is a mean over {seeds} folders, of seeds 0 to
{last_seed}, with the lowest and the highest in brackets where they differ.

"Cropped 15 %" cuts away 15 % of the area and keeps the proportions; "sides cut 15 %"
cuts away 15 % of the width and of the height. Copies are JPEG of quality 75 to 95 or
PNG, recompressed ones of quality 15 to 44. Resized: to 0.3 to 2 of the size. Tilted: by
3 to 8 degrees. Turned: by 90, 180 or 270.

A pair is right if its two images are of one family; the recall of a kind is the share
of copies that are found with their original. Of each score two points are shown: the
lowest threshold with a precision of {precision}, and the one that {wrong} of the
unrelated pairs pass. Both are chosen by the answers, alike for all: they say what a
score could do at best. Where no threshold has that precision nothing is found. At the
default limits nothing is chosen on these folders, but the limits of cosines were
measured on the sets that the files are from (below).

The columns `{default}` and `--normalised` are what the command `tllboost similar` gave.
S-norm and CSLS are other ways to normalise the same cosine
([similarities](../similarity/README.md)). phash, dhash and whash are those of
imagehash; PHash, DHash, WHash and AHash those of imagededup. All are of 64 bits.

## All copies in one folder

### Precision {precision}

{dense_precision}

### {wrong} of unrelated pairs pass

{dense_wrong}

### At the default limits

Cosines of {usual}; imagededup: {bits} bits differ at most. What is not in the table has
no default, or one that is estimated (below).

{dense_limit}

## One copy of each

Of each kind a folder of its own: the same others, the originals, and one copy of each,
which is {n_families} right pairs among {n_thin:.1f} million. The cosine and the hashes
of two images depend on no other, so these are the scores of the large folder;
normalised ones are computed anew, by the formula of the command. A precision of
{precision} leaves room for {n_room} wrong pairs. The last rows are means over the
folders.

### Precision {precision}

{thin_precision}

### {wrong} of unrelated pairs pass

{thin_wrong}

### At the default limits

What is found of each kind is what is found above. The precision is lower, since there
are fewer right pairs:

{thin_limit}

## The limits

Without `--min` the command takes the cosine that 1 in 10,000 unrelated pairs reach. For
three vectorizers it is known: the mean of {large}, rounded to two digits.

{usual_table}

For any other vectorizer the command estimates it from pairs drawn by chance: tanh(z99 +
1.5 (z99 − z90)), where z is arctanh of the cosines that 1 % and 10 % of them reach. The
estimate for all, and in brackets how many of 10,000 unrelated pairs pass it, where 1 is
aimed at. In ukbench {related} of all pairs are matches, more than the 1 % that z99
leaves room for, so that the estimate is far too high there.

{limits}

## Photographs of the same cover

dvd-covers has {n_images} images of {n_all} covers: of each a reference and photographs
by phones and a camera, which are no copies. How many of the other images of a cover are
among the {top} that are most alike, searched among all {n_images}? Only covers that the
fitted map has not seen are asked for: the test covers of `tllboost grid
../shared/data/dvd-covers --groups folder -v mobilenetv2 -p infonce -m dot -c cosine
--no-refit`, {n_seen} of the covers for each of the seeds 0 to {last_seed}. These are
{n_queries} queries of {n_covers} covers. Intervals are of 95 %, by bootstrap over
covers.

{covers}

## What `tllboost check` takes for copies

Its limit is a cosine of {near} of `{default}`. Of unrelated pairs reach it:
{near_pairs}. Of the {n_families} originals and a copy of each, it finds:

{check}

[figures.json](figures.json) has all figures.
"""


def percent(share: float) -> str:
    return f"{100 * share:g} %"


def filled(text: str) -> str:
    """Return a page with its paragraphs in lines of 88; tables and code stay."""
    return "\n\n".join(
        part
        if part.startswith(("#", "`" * 3, "|"))
        else fill(part, 88, break_long_words=False, break_on_hyphens=False)
        for part in text.strip().split("\n\n")
    )


def spread(values: Sequence[float]) -> str:
    """Return a mean, and the lowest and highest value where they differ."""
    low, mean, high = (f"{of(values):.2f}" for of in (min, np.mean, max))
    return mean if low == high else f"{mean} ({low} to {high})"


def recall_table(
    of: dict[str, list[Figures]], kinds: Sequence[str] = tuple(KINDS)
) -> str:
    """Return a row for each kind and a column for each score."""
    names = [name for name in (*SCORES, *sum(HASHES.values(), ())) if name in of]
    names = list(dict.fromkeys(names))
    body = [
        [kind, *(spread([one["by_kind"][kind] for one in of[name]]) for name in names)]
        for kind in kinds
    ]
    if "recall" in of[DEFAULT][0]:
        body.append(
            ["*any two*", *(spread([x["recall"] for x in of[n]]) for n in names)]
        )
    body.append(
        ["*precision*", *(spread([x["precision"] for x in of[n]]) for n in names)]
    )
    shares = [np.mean([one["wrong"] for one in of[name]]) for name in names]
    of_million = [1e6 * one for one in shares]
    told = [f"{n:,.0f}" if n >= 10 else f"{n:.1f}" for n in of_million]
    body.append(["*wrong of a million*", *told])
    titles = [name.replace(f"{DEFAULT}, ", "") for name in names]
    return "\n".join(table(["copies", *(f"`{one}`" for one in titles)], body))


def mean_of(of: list[Figures], kind: str) -> float:
    """Return the mean recall of a kind over the seeds."""
    return float(np.mean([one["by_kind"][kind] for one in of]))


def judged(of: dict[str, list[Figures]]) -> tuple[float, float, str]:
    """Return the lowest recall of small crops, and the largest lead of a hash."""
    crops = [
        kind
        for kind in KINDS
        if kind.startswith(("cropped", "sides cut"))
        and int(kind.split()[-2]) <= CROPPED
    ]
    lowest = min(mean_of(of[DEFAULT], kind) for kind in crops)
    lead, which = max(
        (mean_of(of[name], kind) - mean_of(of[DEFAULT], kind), f"{name}, {kind}")
        for name in sum(HASHES.values(), ())
        for kind in KINDS
    )
    return lowest, lead, which


def verdict(figures: Figures) -> str:
    """Return whether the bar is met, and by how much."""
    found = figures["folder"]
    body, met = [], []
    titles = {"dense": "all copies in one folder", "thin": "one copy of each"}
    for size, title in titles.items():
        for point in ("precision", "wrong"):
            lowest, lead, which = judged(found[size][point])
            asked = f"precision {PRECISION}" if point == "precision" else percent(WRONG)
            good = lowest >= PRECISION and lead <= LEAD
            if point == "precision":
                met.append(good)
            told = f"{lead:+.2f} ({which})" if lead > 0 else f"none ({lead:+.2f})"
            body.append([title, asked, f"{lowest:.2f}", told, "yes" if good else "no"])
    columns = ["folder", "at", f"crops up to {CROPPED} %, lowest recall"]
    rows = table([*columns, "largest lead of a hash", "met"], body)
    bar = (
        f"The bar: at a precision of {PRECISION}, `{DEFAULT}` finds at least "
        f"{percent(PRECISION)} of the crops up to {CROPPED} %, and no hash finds "
        f"over {percent(LEAD)} more of the copies of any kind. "
    )
    both = {2: "It is met in both folders.", 1: "It is met in one of two folders."}
    told = bar + both.get(sum(met), "It is not met.")
    means = {kind: mean_of(found["dense"]["limit"][DEFAULT], kind) for kind in KINDS}
    missed = [f"{kind} ({of:.2f})" for kind, of in means.items() if of < PRECISION]
    told += f" At its default limit it finds less than {percent(PRECISION)} of these "
    told += f"kinds, in brackets the share: {', '.join(missed) or 'none'}."
    shares = [
        float(np.mean([one["precision"] for one in found["thin"]["limit"][name]]))
        for name in (DEFAULT, "PHash")
    ]
    told += (
        f" The precision at that limit is {shares[0]:.2f} where there is one copy of "
    )
    told += (
        f"each, that of PHash at its own {shares[1]:.2f}: few copies want a higher one."
    )
    return "\n".join([told, "", *rows])


def usual_of(figures: Figures) -> dict[str, float]:
    """Return the mean of the large sets for each vectorizer that `USUAL` has."""
    found = figures["limits"]
    return {
        name: float(np.mean([found[one][name]["quantile"] for one in LARGE]))
        for name in USUAL
    }


def usual_table(figures: Figures) -> str:
    """Return the table of measured limits."""
    found, means = figures["limits"], usual_of(figures)
    body = [
        [
            f"`{name}`",
            *(f"{found[one][name]['quantile']:.3f}" for one in SETS),
            f"{means[name]:.3f}",
            f"{figures['folder']['usual'][name]:.2f}",
        ]
        for name in USUAL
    ]
    columns = ["vectorizer", *(f"{one} ({pairs_of(found, one)})" for one in SETS)]
    return "\n".join(table([*columns, "mean of the large sets", "taken"], body))


def pairs_of(found: Figures, name: str) -> str:
    return f"{found[name][DEFAULT]['n_pairs']:,} pairs"


def limits_table(figures: Figures) -> str:
    """Return the table of estimates."""
    found = figures["limits"]
    names = [*found[SETS[0]]]
    body = []
    for name in names:
        of = [found[one][name] for one in SETS]
        told = [f"{one['estimate']:.3f} ({1e4 * one['passes']:.1f})" for one in of]
        body.append([name, *told])
    return "\n".join(table(["vectorizer", *SETS], body))


def covers_table(figures: Figures) -> str:
    """Return the table of photographs of the same cover."""
    body = [
        [way, f"{mean:.3f} [{low:.3f}, {high:.3f}]"]
        for way, (mean, low, high) in figures["covers"]["recall"].items()
    ]
    return "\n".join(table(["", f"recall at {TOP}"], body))


def page(figures: Figures) -> str:
    """Return the page that the figures make."""
    found, photos = figures["folder"], figures["covers"]
    of_default = {one: figures["limits"][one][DEFAULT] for one in LARGE}
    near = [
        f"{one['near']:,} of {one['n_pairs']:,} ({name})"
        for name, one in of_default.items()
    ]
    small = figures["limits"]["ukbench"][DEFAULT]
    n_small = small["n_images"]
    n_thin = N_OTHERS + 2 * sum(FAMILIES.values())
    checks = [[kind, spread(of)] for kind, of in figures["check"]["recall"].items()]
    others = {name: sorted({one[name] for one in found["others"]}) for name in SETS}
    kinds = dict.fromkeys(product(("dense", "thin"), found["dense"]), tuple(KINDS))
    kinds["thin", "limit"] = ()
    tables = {
        f"{size}_{point}": recall_table(found[size][point], kinds[size, point])
        for size in ("dense", "thin")
        for point in ("limit", "precision", "wrong")
    }
    text = TEXT.format(
        verdict=verdict(figures),
        n_files=found["n_files"],
        n_families=sum(FAMILIES.values()),
        families=", ".join(f"{n} of {name}" for name, n in FAMILIES.items()),
        n_kinds=len(KINDS),
        n_others=N_OTHERS,
        others=", ".join(
            f"{' or '.join(f'{n:,}' for n in of)} of {name}"
            for name, of in others.items()
        ),
        n_taken=sum(len(of.split()) for of in COPIES.values()),
        png=percent(PNG),
        seeds=found["seeds"],
        precision=PRECISION,
        wrong=percent(WRONG),
        default=DEFAULT,
        usual=", ".join(f"{of:.2f} ({name})" for name, of in found["usual"].items()),
        bits=MOST_BITS,
        usual_table=usual_table(figures),
        large=", ".join(LARGE[:-1]) + f" and {LARGE[-1]}",
        limits=limits_table(figures),
        n_thin=n_thin * (n_thin - 1) / 2e6,
        n_room=int(sum(FAMILIES.values()) * (1 / PRECISION - 1)),
        top=TOP,
        related=f"{100 - 200 * small['n_pairs'] / n_small / (n_small - 1):.1f} %",
        n_images=photos["n_images"],
        n_all=photos["n_all"],
        n_seen=photos["n_tested"],
        last_seed=SEEDS[-1],
        n_queries=photos["n_queries"],
        n_covers=photos["n_covers"],
        covers=covers_table(figures),
        near=NEAR,
        near_pairs=", ".join(near),
        check="\n".join(table(["copies", "found"], checks)),
        **tables,
    )
    return filled(text) + "\n"


PARTS: dict[str, Callable[[Place], Figures]] = {
    "folder": folder,
    "limits": limits,
    "covers": covers,
    "check": check,
}


def rounded(value: Any) -> Any:
    """Return figures of six digits."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    if isinstance(value, float):
        return None if np.isinf(value) else float(f"{value:.6g}")
    return value


def main() -> None:
    """Measure, and write the figures and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    default = Path(tempfile.gettempdir(), "tllboost-similar-quality")
    parser.add_argument("--work", type=Path, default=default, metavar="DIR")
    parser.add_argument("--part", choices=[*PARTS], action="append")
    parser.add_argument("--out", type=Path, default=OUT)
    said = parser.parse_args()
    asked = said.part or [*PARTS]
    lacking = [name for name in HASHES if find_spec(name) is None]
    if "folder" in asked and lacking:
        tell(f"without hashes, and no page: pip install {' '.join(lacking)}")
        HASHES.clear()
    path = said.out / "figures.json"
    figures = json.loads(path.read_text("utf-8")) if path.exists() else {}
    place = Place(said.work)
    said.work.mkdir(parents=True, exist_ok=True)
    for part in asked:
        figures[part] = rounded(PARTS[part](place))
    if "folder" in asked and lacking:
        print(recall_table(figures["folder"]["dense"]["precision"]))
        return
    said.out.mkdir(parents=True, exist_ok=True)
    ordered = {part: figures[part] for part in PARTS if part in figures}
    write_text(path, json.dumps(ordered, indent=1) + "\n")
    if len(ordered) == len(PARTS):
        write_text(said.out / "README.md", page(ordered))


if __name__ == "__main__":
    main()
