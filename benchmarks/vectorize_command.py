"""`tllboost vectorize` from start to end, against a plain script of torch and timm.

Each run is a process of its own, on the 1,400 left images of the challenge: with the
network exported before, and with the export. What starting, importing torch and
exporting take is told by runs on a single image. Not a part of ``make bench``: five
pairs of both take over four minutes. Run it as ``python
benchmarks/vectorize_command.py``; its records stand on the page of ``make bench``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench import compare, options, timed, written
from bench_vectorize import images, same_vectors, timm_network
from fetch_data import SHARED

from tllboost.vectorizers import make_vectorizer

ARCH = "mobilenetv2_100"
N_IMAGES = 1400
SIDE = 224  # pixels of the network's input
TLLBOOST = (sys.executable, "-m", "tllboost", "vectorize")

# As the README of timm has it.
PLAIN = """\
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

folder, arch, weights, out = sys.argv[1:]
model = timm.create_model(arch, num_classes=0, checkpoint_path=weights).eval()
data_config = timm.data.resolve_model_data_config(model)
transforms = timm.data.create_transform(**data_config, is_training=False)
vectors = []
with torch.no_grad():
    for path in sorted(Path(folder).glob("*.jpg")):
        image = Image.open(path).convert("RGB")
        vectors.append(model(transforms(image).unsqueeze(0))[0].numpy())
np.savez(out, vectors=np.stack(vectors))
"""
IMPORTS = "import time; t = time.perf_counter(); import torch, timm; \
print(time.perf_counter() - t)"


class Commands:
    """The two commands on one folder of images.

    Parameters
    ----------
    source : Path
        The images.
    spec : str
        Our name of the network.
    made : Path
        Where both write.
    """

    def __init__(self, source: Path, spec: str, made: Path) -> None:
        self.source, self.spec, self.made = source, spec, made

    def plain(self) -> np.ndarray:
        """Return the vectors of the plain script."""
        weights = self.spec.partition("@")[2]
        return self._vectors(sys.executable, "-c", PLAIN, self.source, ARCH, weights)

    def with_export(self) -> np.ndarray:
        """Return ours, into a store that is not there yet."""
        shutil.rmtree(self.made / "store", ignore_errors=True)
        return self.exported()

    def exported(self) -> np.ndarray:
        """Return ours, into a store that has the network, if any, and no vectors."""
        for file in (self.made / "store").glob("vectors.sqlite*"):
            file.unlink()
        command = (*TLLBOOST, self.source, "--quiet", "--vectorizer", self.spec)
        return self._vectors(*command, "--store", self.made / "store", "--out")

    def _vectors(self, *command: str | Path) -> np.ndarray:
        out = self.made / "vectors.npz"
        subprocess.run([*map(str, command), str(out)], check=True, capture_output=True)
        with np.load(out) as archive:
            return archive["vectors"]

    def bare_network(self, n_images: int) -> None:
        """Run the exported network alone on as many images, in this process."""
        vectorizer = make_vectorizer(self.spec, device="cpu", offline=True)
        vectorizer.keep_networks_in(str(self.made / "store" / "networks"))
        batch = np.zeros((min(32, n_images), 3, SIDE, SIDE), np.float32)
        for _ in range(-(-n_images // len(batch))):
            vectorizer.forward(batch)


def least(work: Callable[[], Any], n_runs: int = 3) -> float:
    """Return the fewest seconds that a work takes."""
    return min(timed(work)[1]["wall"] for _ in range(n_runs))


def import_seconds() -> float:
    """Return how long a process imports torch and timm."""
    command = [sys.executable, "-c", IMPORTS]
    return min(
        float(subprocess.run(command, check=True, capture_output=True).stdout)
        for _ in range(3)
    )


def main() -> None:
    """Measure both."""
    said = options(__doc__)
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        spec, *_ = timm_network(ARCH, made)
        source = SHARED / "data" / "tll" / "left"
        if said.quick or not source.is_dir():
            source = made / "images"
            source.mkdir()
            few = images(made / "scenes", 4 if said.quick else N_IMAGES)
            for path in few:
                shutil.copy(path, source)
        commands = Commands(source, spec, made)
        commands.with_export()  # all files are read once before any run counts
        every = sorted(source.glob("*.jpg"))
        what = (
            f"`tllboost vectorize` from start to end, MobileNetV2, {len(every)} JPEGs"
        )
        alone = made / "one"
        alone.mkdir()
        shutil.copy(every[0], alone)
        single = Commands(alone, spec, made / "single")
        single.made.mkdir()
        exporting, start = least(single.with_export), least(single.exported)
        network = least(lambda: commands.bare_network(len(every)), 2)
        imports = import_seconds()
        profile = (
            f"on one image the command takes {start:.2f} s, {exporting:.2f} s where it "
            f"exports the network too, {imports:.2f} s of it to import torch and timm; "
            f"the bare network takes {network:.2f} s on all cores"
        )
        for kind, told, ours, bar, note in (
            (
                *("exported", "exported before", commands.exported, 3.0),
                "No run of ours imports torch.",
            ),
            (
                *("with-export", "exported too", commands.with_export, 2.5),
                "Torch is there only to export the network: importing it and timm "
                f"takes {imports:.1f} s of each of our runs, and of the script's too.",
            ),
        ):
            record = compare(
                f"vectorize-command-{kind}",
                ours,
                commands.plain,
                check=same_vectors,
                warm_up=False,
                runs=said.runs,
                bar=bar,
                what=f"{what}, the network {told}",
                peer_is="plain script of torch and timm",
                notes=[note, f"Alone: {profile}."],
                folder=None,
            )
            written(record | {"profile": profile}, said.folder)


if __name__ == "__main__":
    main()
