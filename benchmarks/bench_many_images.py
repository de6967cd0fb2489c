"""Memory of `tllboost vectorize` on 20,000 images, all processes of the command summed.

From a folder of JPEG files, into a new store and a file of vectors, by `pocket`. The
files are a few hundred images of the demo, each many times with another comment in it:
other bytes, so that each is hashed, decoded, vectorized and stored.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from bench import options, peak_memory, spread, timed, written

from tllboost.demo import make_scenes

MOST_MB = 1024
N_IMAGES, N_SCENES = 20_000, 100
VECTORIZER = "pocket"


def make_images(folder: Path, n_images: int, n_scenes: int) -> None:
    """Write so many JPEG files, no two of the same bytes."""
    made = folder.parent / "scenes"
    make_scenes(made, n_scenes=n_scenes, n_views=2)
    scenes = [path.read_bytes() for path in sorted(made.glob("*.jpg"))]
    folder.mkdir()
    for number in range(n_images):
        jpeg = scenes[number % len(scenes)]
        comment = f"{number:06d}".encode()
        # After the two bytes that begin a JPEG: a comment, and how long it is.
        segment = b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment
        (folder / f"{number:06d}.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])


def main() -> None:
    """Measure."""
    said = options(__doc__)
    n_images, n_scenes = (60, 4) if said.quick else (N_IMAGES, N_SCENES)
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        make_images(made / "images", n_images, n_scenes)
        out, store = made / "vectors.npz", made / "store"
        command = [sys.executable, "-m", "tllboost", "vectorize", made / "images"]
        how = ["--vectorizer", VECTORIZER, "--quiet", "--store", store, "--out", out]

        def work() -> None:
            told = list(map(str, [*command, *how]))
            subprocess.run(told, check=True, capture_output=True)

        # One run tells both: looking at the memory takes next to no time.
        peak, cost = timed(lambda: peak_memory(work))
        with np.load(out, allow_pickle=False) as arrays:
            n_rows, n_dims = arrays["vectors"].shape
    assert n_rows == n_images, n_rows
    record = {
        "kind": "limit",
        "name": "many-images-memory",
        "what": f"`tllboost vectorize` of {n_images:,} JPEGs of 160 pixels by "
        f"`{VECTORIZER}`, all processes of the command",
        "unit": "s",
        "at_most": None,
        "memory_at_most_mb": MOST_MB,
        "runs": [cost],
        "wall": spread([cost["wall"]]),
        "peak_mb": {"ours": peak},
        "profile": f"the vectors, {n_dims:,} numbers each, are "
        f"{4 * n_images * n_dims / 2**20:.0f} MiB of it",
        "notes": [],
    }
    written(record, said.folder)


if __name__ == "__main__":
    main()
