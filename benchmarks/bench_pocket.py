"""What needs no other weights: images a second, and how long the network takes to load.

From JPEG files to vectors in the store, by the network inside the package and by
`classic`; and from a process that has only just imported numpy and Pillow to the first
vector.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from bench import Bound, limit, options
from bench_vectorize import Ours

from tllboost.demo import make_scenes
from tllboost.images import open_image
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizers.pocket import FILE

A_SECOND = 700  # images, at least
CLASSIC_A_SECOND = 293  # half as many again as the 195 that there were
BATCH = 32
WHY = (
    "the bare network alone, on images that are decoded and scaled already, takes the "
    'time that "Beside what bounds it" tells; decoding, hashing and storing come on top'
)
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


def bare_network(paths: Sequence[Path]) -> Bound:
    """Return ONNX Runtime alone on as many images, prepared before."""
    made = make_vectorizer("pocket")
    few = [made.prepare(open_image(path)) for path in paths[:BATCH]]
    session = onnxruntime.InferenceSession(str(FILE))
    (taken,) = session.get_inputs()
    batch = {taken.name: np.stack(few)}
    n_batches = max(1, len(paths) // len(few))

    def run() -> None:
        for _ in range(n_batches):
            session.run(None, batch)

    what = "the bare network, images decoded and scaled before"
    return Bound(what, "images/s", n_batches * len(few), run)


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
            bounds=[bare_network(paths)],
            profile=WHY,
            notes=[f"The limit is {A_SECOND} images a second."],
            folder=said.folder,
        )
        limit(
            "classic_vectorize",
            Ours("classic", folder, paths),
            at_most=len(paths) / CLASSIC_A_SECOND,
            runs=said.runs,
            what=f"`classic`: {len(paths)} JPEGs of 160 pixels to stored vectors",
            notes=[f"The limit is {CLASSIC_A_SECOND} images a second."],
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
