"""Find all images that look alike: within a folder, or of one folder in another.

Without labels the score is the cosine of two vectors, or how many standard deviations
that is above the cosines of the two images with others of the folders. With a bundle it
is the score of what was fitted.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError, UsageError
from tllboost.files import large_zeros, write_text
from tllboost.images import find_images
from tllboost.merges import row_blocks, unit_rows
from tllboost.page import make_thumbnails, render
from tllboost.processes import Backend, Progress
from tllboost.references import LEAST, References
from tllboost.scoring import Scorer, joint_score
from tllboost.similar.tiles import (
    Pairs,
    Sought,
    by_cells,
    by_products,
    compare,
    floor_of,
    made_pairs,
    recall_of,
)
from tllboost.store import VectorStore, hash_files
from tllboost.vectorizers import Vectorizer, make_vectorizer
from tllboost.vectorizing import vectorize

Images = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Vectors = NDArray[np.float32]
Tell = Callable[[str], None]
Group = list[tuple[int, float]]
"""Each image of it, with its best score to another one."""

DEFAULT = "classic+pocket"
"""The vectorizer that finds most copies: ``results/similar``."""

USUAL = {"classic": 0.46, "pocket": 0.86, DEFAULT: 0.63}
"""Cosine that one in 10,000 pairs of unrelated images reaches, as
``benchmarks/similar_quality.py`` measured it on three sets of images."""

COLUMNS: tuple[str, ...] = (
    *("left", "right", "score", "cosine", "normalised", "probability", "same_bytes"),
)
_MOST_GROUPS, _MOST_IMAGES = 400, 12  # of a page, and of a group on it
_PAIRS = 2**17  # random ones that tell what is usual
_SHORTEST = 256  # images whose pairs heads score in one go


@dataclass(frozen=True, eq=False)
class Similar:
    """Pairs of images that look alike.

    Attributes
    ----------
    paths : list of Path
        Images on the left; where another folder is searched, then those on the right.
    names : list of str
        What they are called: below their folder.
    n_left : int
        How many are on the left.
    pairs : Pairs
        Rows of `names`, and scores: the best first, or those of each image together
        where the best of each are asked for.
    told : dict of str to ndarray of shape (n_pairs,)
        What else is told of each: ``same_bytes``, whether the two files are equal;
        without a bundle ``cosine``; ``normalised``, how many standard deviations that
        is above those of unrelated images, if that is the score; with a bundle
        ``probability``.
    least : float
        The lowest score that was asked for, or what unrelated images seldom reach.
    failures : dict of str to str
        Path of each image that could not be read, and why.
    """

    paths: list[Path]
    names: list[str]
    n_left: int
    pairs: Pairs
    told: dict[str, NDArray[Any]]
    least: float
    failures: dict[str, str]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row a pair, whose names are `COLUMNS`."""
        told = [self.told[one].tolist() if one in self.told else () for one in COLUMNS]
        for row, (left, right, score) in enumerate(self.pairs.tolist()):
            names = self.names[left], self.names[right], score
            more = (one[row] if one else None for one in told[3:])
            yield dict(zip(COLUMNS, (*names, *more), strict=True))

    def groups(self, *, chained: bool = False) -> list[Group]:
        """Return the groups of images that look alike, as :func:`groups_of` does.

        Copies of a file are in the group of that file.
        """
        is_one_folder = self.n_left == len(self.names)
        is_copy = (self.told["same_bytes"] == 1) & is_one_folder
        n_left = None if is_one_folder else self.n_left
        groups = groups_of(self.pairs[~is_copy], n_left, chained=chained)
        home = {image: group for group in groups for image, _ in group}
        for first, copy, score in self.pairs[is_copy].tolist():
            if first not in home:
                home[first] = [(first, score)]
                groups.append(home[first])
            home[first].append((copy, score))
        return groups

    def write_page(
        self,
        path: str | os.PathLike[str],
        groups: Sequence[Group],
        *,
        progress: Progress | None = None,
    ) -> None:
        """Write groups as one HTML file that opens from disk, without a network.

        The 400 best of them with 12 images each, as large as 15 MB allow.
        """
        shown = groups[:_MOST_GROUPS]
        images = {one[0] for group in shown for one in group[:_MOST_IMAGES]}
        paths = {image: self.paths[image] for image in sorted(images)}
        page = render(
            "similar/groups.html",
            title="Images that look alike",
            styles=["page/base.css", "report/page/gallery.css", "similar/groups.css"],
            scripts=[
                *("report/page/dom.js", "report/page/enlarge.js", "similar/groups.js"),
            ],
            groups=shown,
            n_groups=len(groups),
            most=_MOST_IMAGES,
            names=self.names,
            thumbnails=make_thumbnails(paths, progress=progress),
        )
        write_text(path, page)


def groups_of(
    pairs: Pairs, n_left: int | None = None, *, chained: bool = False
) -> list[Group]:
    """Return groups of images that look alike.

    From the best pair on, two groups become one where each image of one is a pair with
    each of the other, as in complete linkage: no chain of near pairs ties strangers.

    Parameters
    ----------
    pairs : Pairs
    n_left : int, optional
        So many images are on the left, and only compared with those on the right; by
        default all are compared with all.
    chained : bool, default=False
        Whether one pair is enough to make two groups one: single linkage.

    Returns
    -------
    list of list of (int, float)
        Each image of a group with its best score to another one of it: groups and
        images the best first.

    Examples
    --------
    >>> pairs = made_pairs([0, 1], [1, 2], [0.9, 0.8])
    >>> [[image for image, _ in group] for group in groups_of(pairs)]
    [[0, 1]]
    >>> [[image for image, _ in group] for group in groups_of(pairs, chained=True)]
    [[0, 1, 2]]
    """
    scores: dict[tuple[int, int], float] = {}
    for left, right, score in pairs[
        np.argsort(-pairs["score"], kind="stable")
    ].tolist():
        scores.setdefault((min(left, right), max(left, right)), score)
    group: dict[int, list[int]] = {}
    for two in scores:
        one, other = (group.setdefault(image, [image]) for image in two)
        across = ((min(a, b), max(a, b)) for a in one for b in other)
        if one is not other and (
            chained
            or all(
                both in scores or (n_left and (both[0] < n_left) == (both[1] < n_left))
                for both in across
            )
        ):
            one += other
            group |= dict.fromkeys(other, one)
    best: dict[int, float] = {}
    for two, score in scores.items():
        if group[two[0]] is group[two[1]]:
            for image in two:
                best.setdefault(image, score)
    groups: dict[int, Group] = {}
    for image, score in best.items():
        groups.setdefault(id(group[image]), []).append((image, score))
    return [*groups.values()]


def _named(images: Images, tell: Tell | None) -> tuple[list[Path], list[str]]:
    """Return the images of a folder, or of a list, and their names."""
    if not isinstance(images, str | os.PathLike):
        return [*map(Path, images)], [*map(str, images)]
    found = find_images(images, tell=tell)
    if not found:
        msg = f"no images in {str(images)!r}"
        raise DataError(msg)
    return found, [one.relative_to(images).as_posix() for one in found]


class _Cosines:
    """Cosines of vectors, and what they are among those of unrelated images.

    Normalised, the cosine of two images is told less the mean of what each has to the
    references, over the geometric mean of both standard deviations: S-norm with a
    product where it has a sum, so that all scores are one matrix product.
    """

    def __init__(
        self, vectors: Vectors, n_left: int | None, label: str, *, normalised: bool
    ) -> None:
        n_images, n_dims = vectors.shape
        self.label, self.is_normalised, self.cut = label, normalised, n_left or 0
        both = large_zeros((n_images, n_dims + 2 * normalised))
        for rows in row_blocks(n_images, n_dims):
            both[rows, :n_dims] = unit_rows(vectors[rows])
        self.left = self.right = both
        if n_left is not None:
            self.left, self.right = both[:n_left], both[n_left:]
        if normalised:
            images = np.arange(n_images)
            references = References.drawn(vectors, images, seed=0, whitened=False)
            if len(references.vectors) < LEAST:
                msg = (
                    f"{n_images} images are too few for --normalised: {LEAST} at least"
                )
                raise UsageError(msg)
            self.mean, self.spread = references.mean_and_spread(vectors)
            both[:, -2], both[:, -1] = -self.mean / 2, 1
            both /= np.sqrt(self.spread)[:, None]
            turned = large_zeros(self.right.shape)
            turned[:, :-2] = self.right[:, :-2]
            turned[:, -2:] = self.right[:, :-3:-1]
            self.right = turned

    def score(self, left: NDArray[Any], right: NDArray[Any]) -> Vectors:
        """Return the score of some left images with right ones."""
        score = np.empty(len(left), np.float32)
        for rows in row_blocks(len(left), self.left.shape[1]):
            two = self.left[left[rows]], self.right[right[rows]]
            score[rows] = np.einsum("ij,ij->i", *two)
        return score

    def told(self, pairs: Pairs) -> dict[str, Any]:
        """Return what is told of pairs beside their scores."""
        score = pairs["score"]
        if not self.is_normalised:
            return {"cosine": score}
        left, right = pairs["left"], pairs["right"] + self.cut
        scale = np.sqrt(self.spread[left] * self.spread[right])
        cosine = score * scale + (self.mean[left] + self.mean[right]) / 2
        return {"cosine": cosine, "normalised": score}

    def limit(self, least: float | None) -> float:
        """Return the lowest score: by default that of 1 in 10,000 unrelated pairs."""
        if least is not None:
            return least
        if self.label in USUAL and not self.is_normalised:
            return USUAL[self.label]
        rng, n = np.random.default_rng(0), len(self.right)
        left = rng.integers(len(self.left), size=_PAIRS)
        right = (left + rng.integers(1, max(n, 2), size=_PAIRS)) % n  # never itself
        score = self.score(left, right)
        if not self.is_normalised:  # Fisher's z: its tail is about that of a normal one
            score = np.arctanh(np.clip(score, -0.9999, 0.9999))
        # Not the quantile itself: copies are among those.
        lower, upper = np.quantile(score, [0.9, 0.99])
        least = upper + 1.5 * (upper - lower)
        return float(least if self.is_normalised else np.tanh(least))

    def compare(self, sought: Sought, folder: Path, _: Tell, **how: Any) -> Pairs:
        """Return the best pairs."""
        arrays = self.left, self.right, floor_of(self.left, self.right, sought)
        return compare(by_products, arrays, len(self.left), sought, folder, **how)


class _Cells:
    """The scores of fitted cells, of at most `most` images for each where need be."""

    def __init__(
        self,
        scorer: Scorer,
        vectors: list[Vectors],
        n_left: int | None,
        most: int | None,
    ) -> None:
        self.scorer, self.most = scorer, most
        self.left = [one[:n_left] for one in vectors]
        self.right = [one[n_left or 0 :] for one in vectors]

    def score(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
        """Return the score of some left images with right ones."""
        sides = zip(self.left, self.right, strict=True)
        both = [np.append(one[left], other[right], axis=0) for one, other in sides]
        pairs = np.arange(2 * len(left)).reshape(2, -1)
        return joint_score(self.scorer.cells_, both, *pairs)

    def told(self, pairs: Pairs) -> dict[str, Any]:
        """Return the probabilities of scores."""
        score = pairs["score"].astype(np.float64)
        return {"probability": self.scorer.calibration_.probability(score)}

    def limit(self, least: float | None) -> float:
        """Return the score of the lowest probability, by default the threshold."""
        scorer = self.scorer
        return (
            scorer.threshold_ if least is None else scorer.calibration_.score_of(least)
        )

    def compare(self, sought: Sought, folder: Path, tell: Tell, **how: Any) -> Pairs:
        """Return the best pairs; tell how good the shortlist is, where there is one."""
        cells, both, most = self.scorer.cells_, (self.left, self.right), self.most
        recall = None if most is None else recall_of(cells, *both, sought, most)
        if recall is not None:
            held = f"a shortlist of {most} holds {recall:.0%} of the best images"
            tell(f"{held} (for a sample of 20); see --exact")
        nothing: Any = None  # what scores needs no vectorizer, and it may not be sent
        bare = [replace(cell, vectorizer=nothing) for cell in cells]
        find = partial(by_cells, cells=bare, shortlist=most)
        n_left = len(self.left[0])
        return compare(find, both, n_left, sought, folder, shortest=_SHORTEST, **how)


def find_similar(
    images: Images,
    against: Images | None = None,
    *,
    vectorizer: Vectorizer | str = DEFAULT,
    scorer: Scorer | None = None,
    normalised: bool = False,
    top: int | None = None,
    least: float | None = None,
    shortlist: int | None = None,
    own_references: bool = False,
    store: VectorStore | None = None,
    backend: Backend | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    tell: Tell = lambda _: None,
    strict: bool = False,
) -> Similar:
    """Find the pairs of images that look alike.

    Parameters
    ----------
    images : path-like or sequence of path-like
        A folder, with its subfolders, or a list of files.
    against : path-like or sequence of path-like, optional
        Where to look for what looks like them; by default among themselves.
    vectorizer : Vectorizer or str, default="classic+pocket"
        Without a scorer, what turns an image into a vector.
    scorer : Scorer or PairClassifier, optional
        Fitted, as of a bundle: its scores take the place of cosines.
    normalised : bool, default=False
        Whether the score is the cosine in standard deviations above those of unrelated
        images of the folders, instead of the cosine.
    top : int, optional
        How many of each image are wanted; by default all from `least` on.
    least : float, optional
        The lowest score that is wanted, with a scorer the lowest probability. By
        default a scorer's threshold, without one what 1 in 10,000 pairs of unrelated
        images reaches; with `top` there is no limit.
    shortlist : int, optional
        How many are scored for each image where a head is not linear: see
        :func:`~tllboost.rank.best`. By default all.
    own_references : bool, default=False
        See :meth:`~tllboost.scoring.Scorer.among`.
    store : VectorStore, optional
        Where vectors are kept; by default nowhere.
    backend : Processes or Cluster, optional
        What runs the work; by default this process.
    resume : path-like, optional
        Files that are so called, and what was compared, keep what is done, so that the
        same call goes on after a kill. By default nothing is kept.
    progress, strict
        As in :func:`~tllboost.vectorizing.vectorize`.
    tell : callable
        Called with a line about what a user may want to know.

    Returns
    -------
    Similar

    Raises
    ------
    DataError, UsageError
        If there is no image, or more pairs than can be held.
    ImageError
        If an image fails and `strict` is set.

    Examples
    --------
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, angle in [("a", 0), ("b", 1), ("c", 90)]:
    ...         image = Image.linear_gradient("L").rotate(angle)
    ...         image.save(f"{folder}/{name}.png")
    ...     similar = find_similar(folder, vectorizer="classic", top=1)
    >>> [(row["left"], row["right"]) for row in similar.rows()][:2]
    [('a.png', 'b.png'), ('b.png', 'a.png')]
    """
    paths, names = _named(images, tell)
    n_left = len(paths)
    if against is not None:
        more = _named(against, tell)
        paths, names = paths + more[0], names + more[1]
    keys = store.hashes_of(paths) if store is not None else hash_files(paths)
    places, first = np.arange(len(paths)), dict[Any, int]()
    one_by_one: list[Any] = keys if against is None else places.tolist()
    # Of each image, the first with the same bytes: in one folder it stands for all.
    source = np.array([first.setdefault(one, at) for at, one in enumerate(one_by_one)])
    alone = np.flatnonzero(source == places)
    if n := len(paths) - len(alone):
        tell(f"{n} of {len(paths)} files are copies of others, byte by byte")
    files = [paths[at] for at in alone]
    how: dict[str, Any] = {"backend": backend, "progress": progress}
    options = {"store": store, "strict": strict, **how}
    if scorer is None:
        if isinstance(vectorizer, str):
            vectorizer = make_vectorizer(vectorizer)
        label = vectorizer.label
        result = vectorize(vectorizer, files, **options)
        vectors, failed = [result.vectors], result.failures
    else:
        vectors, failed = scorer.vectors_of(files, list(map(str, files)), **options)
    why = dict(zip(alone[list(failed)].tolist(), failed.values(), strict=True))
    failures = {
        str(paths[at]): why[one] for at, one in enumerate(source.tolist()) if one in why
    }
    rows = np.delete(alone, list(failed))
    cut = None if against is None else int(np.searchsorted(rows, n_left))
    if cut in (0, len(rows)) or not len(rows):  # one side has no image to compare
        told = {"same_bytes": np.zeros(0, np.int8)}
        return Similar(paths, names, n_left, made_pairs([], [], []), told, 0, failures)
    if failed:
        vectors = [np.delete(one, list(failed), axis=0) for one in vectors]
    scores: _Cosines | _Cells
    if scorer is None:
        scores = _Cosines(vectors[0], cut, label, normalised=normalised)
    else:
        scorer = scorer.among(vectors) if own_references else scorer
        scores = _Cells(scorer, vectors, cut, shortlist)
    limit = -np.inf if top and least is None else scores.limit(least)
    sought = Sought(top, limit, is_one_folder=against is None)
    digest = hashlib.sha256(repr((sought, cut, shortlist)).encode())
    some = np.arange(min(64, len(rows) if cut is None else min(cut, len(rows) - cut)))
    for one in (*vectors, scores.score(some, some[::-1])):  # the same by these only
        digest.update(np.ascontiguousarray(one).data)
    with tempfile.TemporaryDirectory() as nowhere:
        beside = resume or Path(nowhere, "strips")
        folder = Path(f"{beside}.{digest.hexdigest()[:12]}")
        pairs = scores.compare(sought, folder, tell, **how)
    copies = np.flatnonzero((source < places) & np.isin(source, rows))
    same = np.searchsorted(rows, source[copies])
    pairs = np.append(pairs, made_pairs(same, same, scores.score(same, same)))
    told = scores.told(pairs)
    left, right = rows[pairs["left"]], rows[pairs["right"] + (cut or 0)]
    right[len(right) - len(copies) :] = copies
    pairs = made_pairs(left, right, pairs["score"])
    content = np.unique([str(key) for key in keys], return_inverse=True)[1]
    told["same_bytes"] = (content[left] == content[right]).astype(np.int8)
    order = np.lexsort((right, left, -pairs["score"]))
    if top is not None:
        order = order[np.argsort(left[order], kind="stable")]
    told = {name: column[order] for name, column in told.items()}
    return Similar(paths, names, n_left, pairs[order], told, limit, failures)
