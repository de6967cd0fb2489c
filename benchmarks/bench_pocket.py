"""What needs no other weights: images a second, and how long the network takes to load.

From JPEG files to vectors in the store, by the network inside the package, and by
`classic` as it was before it was made faster: its descriptors, which are taken from the
history of this repository, in threads of one process; and from a process that has only
just imported numpy and Pillow to the first vector.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from bench import Bound, compare, limit, options, written
from bench_vectorize import Ours

from tllboost.conventions import usable_cores
from tllboost.demo import make_scenes
from tllboost.images import open_image
from tllboost.vectorizers import classic, make_vectorizer
from tllboost.vectorizers.base import one_blas_thread

A_SECOND = 700  # images, at least
CLASSIC_TIMES = 1.5  # as fast as it was
# The last commit before `classic` was made faster for the first time.
BEFORE = "5d7ddb991416"
BATCH = 32
TO_LOAD = 0.3  # seconds, at most

# Says that it is there, waits for a word, loads, says so again.
WAITS = """\
import sys

import numpy
import PIL.Image

print("here", flush=True)
image = sys.stdin.readline().strip()

from tllboost.vectorizers import make_vectorizer

vectors = make_vectorizer("pocket").transform([image])
assert vectors.shape[0] == 1
assert "torch" not in sys.modules
print("loaded", flush=True)
"""


class Waiting:
    """A process that waits for an image to load the network for."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WAITS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._hear("here")

    def load(self, image: Path) -> None:
        """Let it load the network and vectorize an image."""
        self.process.stdin.write(f"{image}\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        self._hear("loaded")

    def end(self) -> None:
        """Let it end."""
        self.process.communicate()

    def _hear(self, word: str) -> None:
        heard = self.process.stdout.readline().strip()  # type: ignore[union-attr]
        if heard != word:
            msg = f"a process said {heard!r}, not {word!r}: it ended with an error"
            raise RuntimeError(msg)


def bare(paths: Sequence[Path]) -> list[Bound]:
    """Return what must be done of as many images: the network alone, and all of it.

    On all cores both: the network of images that are decoded and scaled; and first
    the decoding and scaling, then the network. Nothing is hashed, waited for, stored.
    """
    made = make_vectorizer("pocket")
    cores = ThreadPoolExecutor(usable_cores())

    def prepared(path: Path) -> np.ndarray:
        return made.prepare(open_image(path, shrink_to=made.input_size))

    few = paths[:BATCH]
    batch = np.stack([prepared(path) for path in few])
    n_batches = max(1, len(paths) // len(few))

    def network() -> None:
        for _ in range(n_batches):
            made.forward(batch)

    def whole() -> None:
        for _ in range(n_batches):
            list(cores.map(prepared, few))
        network()

    n_images = n_batches * len(few)
    return [
        Bound("the bare network alone", "images/s", n_images, network),
        Bound("bare decoding, scaling and network", "images/s", n_images, whole),
    ]


def blocks_before() -> Callable[..., Any] | None:
    """Return the descriptors of `classic` as they were; None without the history."""
    file = Path(classic.__file__)
    shown = subprocess.run(
        ["git", "show", f"{BEFORE}:./{file.name}"],
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if shown.returncode:
        return None
    tree = ast.parse(shown.stdout)
    # The descriptors alone: the classes need this package as it was then.
    tree.body = [
        one
        for one in tree.body
        if not isinstance(one, ast.ClassDef)
        and not (isinstance(one, ast.ImportFrom) and "tllboost" in (one.module or ""))
    ]
    before: dict[str, Any] = {}
    exec(compile(tree, BEFORE, "exec"), before)
    blocks: Callable[..., Any] = before["blocks"]
    return blocks


def same(ours: np.ndarray, peer: np.ndarray) -> None:
    """Refuse vectors that differ in more than the last bit of a 1.

    Processors differ in how they round a sum of products.
    """
    last_bit = np.finfo(np.float32).eps
    np.testing.assert_allclose(ours, peer, rtol=0, atol=last_bit)


def descriptors(paths: Sequence[Path]) -> str:
    """Return what decoding and the descriptors alone take of an image, in words.

    The descriptors in one thread, and in a thread a core: these take turns wherever
    Python itself works, between two calls of numpy. So many images have theirs made
    in the processes that decode.
    """
    made = make_vectorizer("classic")

    def opened(path: Path) -> Any:
        return open_image(path, shrink_to=made.input_size)

    few = [opened(path) for path in paths[: 2 * BATCH]]
    works: dict[str, tuple[int, Callable[[Any], Any], Sequence[Any]]] = {
        "decoding takes": (1, opened, paths[: len(few)]),
        "the descriptors in one thread": (1, made.prepare, few),
        "and in a thread a core": (usable_cores(), made.prepare, few),
    }
    told = []
    for what, (n_threads, work, given) in works.items():
        with ThreadPoolExecutor(n_threads) as threads, one_blas_thread():
            walls = []
            for _ in range(3):
                start = time.perf_counter()
                list(threads.map(work, given))
                walls.append(time.perf_counter() - start)
        told.append(f"{what} {1e3 * min(walls) / len(few):.1f} ms")
    why = "threads share Python's lock, so both are done in a process a core"
    return f"of an image {', '.join(told)}: {why}"


def main() -> None:
    """Measure all three."""
    said = options(__doc__)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make_scenes(folder / "scenes", n_scenes=4 if said.quick else 120, n_views=3)
        paths = sorted((folder / "scenes").glob("*.jpg"))
        ours = Ours("pocket", folder, paths)
        record = limit(
            "pocket_vectorize",
            ours,
            at_most=len(paths) / A_SECOND,
            runs=said.runs,
            what=f"`pocket`: {len(paths)} JPEGs of 160 pixels to stored vectors",
            bounds=bare(paths),
            notes=[f"The limit is {A_SECOND} images a second."],
            folder=None,
        )
        network, whole = (one["bound"]["median"] for one in record["bounds"])
        told = (
            f"on all cores the bare network alone does {network:.0f} images a second, "
            f"and {whole:.0f} where they decode and scale the images too"
        )
        written(record | {"profile": told}, said.folder)
        few = paths[: len(paths) // 2]
        ours, before = Ours("classic", folder, few), blocks_before()

        def as_it_was() -> np.ndarray:
            threads = patch.object(classic.ClassicVectorizer, "HOLDS_LOCK", False)
            with threads, patch.object(classic, "blocks", before):
                return ours()

        if before is None:
            told = f"no commit {BEFORE} here: `classic` is not measured"
            print(told, file=sys.stderr)
        else:
            record = compare(
                "classic_vectorize",
                ours,
                as_it_was,
                check=same,
                bar=None if said.quick else CLASSIC_TIMES,
                runs=said.runs,
                what=f"`classic`: {len(few)} JPEGs of 160 pixels to stored vectors",
                peer_is=f"its descriptors as they were (commit {BEFORE}), in threads",
                folder=None,
            )
            written(record | {"profile": descriptors(few)}, said.folder)
        waiting = [Waiting() for _ in range(said.runs + 1)]
        queue = iter(waiting)
        limit(
            "pocket_load",
            lambda: next(queue).load(paths[0]),
            at_most=TO_LOAD,
            runs=said.runs,
            what="`pocket`: loading it in a new process, its runtime included, to the "
            "first vector",
            folder=said.folder,
        )
        for one in waiting:
            one.end()


if __name__ == "__main__":
    main()
