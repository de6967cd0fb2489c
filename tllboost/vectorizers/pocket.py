"""``pocket``: a small network that comes inside the package, trained on made images.

Its weights lie beside this file, and are what is pinned here or nothing at all. How it
was trained, and what it is good for, is in ``docs/pocket.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tllboost.errors import WeightsError
from tllboost.vectorizers.base import library, loaded
from tllboost.vectorizers.exported import on_cores
from tllboost.vectorizers.network import NetworkVectorizer
from tllboost.vectorizers.preprocess import Preprocessing
from tllboost.vectorizers.weights import local_file, sha256_of

FILE = Path(__file__).with_name("pocket.onnx")
SHA256 = "3c13ce3a678818d97b22c9d3844a50dee5ab198500cedf67cf724d1b088c7c2a"
"""Of the weights' file; another one is refused."""


class PocketVectorizer(NetworkVectorizer):
    """Vectors of the network in the package, by ONNX Runtime on the CPU.

    Nothing is downloaded, and torch is not imported. The whole image is scaled to a
    square, whatever its proportions.

    Parameters
    ----------
    trim, flip, views : bool, bool, sequence of str
        See `Looks`; by default the image as it is.

    Examples
    --------
    >>> PocketVectorizer(flip=True).label, PocketVectorizer().preprocessing.size
    ('pocket?flip=true', (128, 128))
    """

    KIND = "pocket"
    N_DIMS = 384
    preprocessing = Preprocessing((128, 128), fit="squash")

    @property
    def fingerprint(self) -> str:
        """Tell what the vectors depend on."""
        return (
            f"pocket|sha256:{SHA256}|{self.preprocessing}|float32"
            f"|{library('onnxruntime')}{self.looks}"
        )

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return the network's vectors of prepared images.

        Raises
        ------
        WeightsError
            If the file of weights is not the one that belongs to this version.
        """
        return self._network(batch)

    @loaded
    def _network(self) -> Callable[[np.ndarray], np.ndarray]:
        remedy = "install tllboost again"
        found = sha256_of(local_file(FILE, what=f"{self.name} ({remedy})"))
        if found != SHA256:
            msg = (
                f"{self.name}: {str(FILE)!r} has sha256 {found[:12]}…, not the "
                f"{SHA256[:12]}… of this version's weights: {remedy}"
            )
            raise WeightsError(msg)
        return on_cores(FILE, what=self.name)
