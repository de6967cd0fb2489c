"""`tllboost vectorize` from start to end, against a plain script of torch and timm.

Each run is a process of its own, on the 1,400 left images of the challenge: with the
network exported before, and with the export. Not a part of ``make bench``: five pairs
of both take over four minutes. Run it as ``python benchmarks/vectorize_command.py``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench import compare, options
from bench_vectorize import images, same_vectors, timm_network
from fetch_data import SHARED

ARCH = "mobilenetv2_100"
N_IMAGES = 1400
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


def import_seconds() -> float:
    """Return how long a process imports torch and timm."""
    command = [sys.executable, "-c", IMPORTS]
    return float(subprocess.run(command, check=True, capture_output=True).stdout)


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
        started = time.perf_counter()
        commands.with_export()
        first = time.perf_counter() - started
        n_images = len(list(source.glob("*.jpg")))
        what = f"`tllboost vectorize` from start to end, MobileNetV2, {n_images} JPEGs"
        imports = import_seconds()
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
            compare(
                f"vectorize-command-{kind}",
                ours,
                commands.plain,
                check=same_vectors,
                warm_up=False,
                runs=said.runs,
                bar=bar,
                what=f"{what}, the network {told}",
                peer_is="plain script of torch and timm",
                notes=[note, f"The first run of all took {first:.1f} s."],
                folder=said.folder,
            )


if __name__ == "__main__":
    main()
