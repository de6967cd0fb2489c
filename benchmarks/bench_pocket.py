"""The network inside the package: images a second, and how long it takes to load.

From JPEG files to vectors in the store, and from a process that has only just imported
numpy and Pillow to the first vector.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from bench import limit, options
from bench_vectorize import Ours

from tllboost.demo import make_scenes

A_SECOND = 150  # images, at least
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


def main() -> None:
    """Measure both."""
    said = options(__doc__)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make_scenes(folder / "scenes", n_scenes=4 if said.quick else 200, n_views=3)
        paths = sorted((folder / "scenes").glob("*.jpg"))
        ours = Ours("pocket", folder, paths)
        limit(
            "pocket_vectorize",
            ours,
            at_most=len(paths) / A_SECOND,
            runs=said.runs,
            what=f"`pocket`: {len(paths)} JPEGs of 160 pixels to stored vectors",
            notes=[f"The limit is {A_SECOND} images a second."],
            folder=said.folder,
        )
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
