"""A vectorizer out of a bundle: nothing is loaded until a picture needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tllboost.errors import BundleError, TllboostError, WeightsError
from tllboost.vectorizers import VECTORIZERS, make_vectorizer
from tllboost.vectorizers.base import Vectorizer, loaded
from tllboost.vectorizers.exported import find_exported
from tllboost.vectorizers.spec import Spec, parse_spec
from tllboost.vectorizers.switches import is_on
from tllboost.vectorizers.torch_network import TorchVectorizer, is_for_cpu

__all__ = ["BundledVectorizer", "build_part"]

_OF_TORCH = ("clip", "clip-grid", "timm", "timm-grid")
_OF_A_HUB = _OF_TORCH  # unless a file is named


class BundledVectorizer(Vectorizer):
    """One vectorizer as a bundle records it.

    Vectors in a store are found under the recorded fingerprint without opening the
    network. Where the store keeps a network that was exported under it, that one makes
    new vectors, without torch. Before any other makes one, what it really is must
    equal the record: a bundle that lies can read the store, but can't write to it under
    a name that is another's.

    Parameters
    ----------
    record : mapping
        The part, as the manifest has it.
    file : Path, optional
        Where its network lies on this machine.
    device : str, default="auto"
    offline : bool, default=False
    """

    def __init__(
        self,
        record: Mapping[str, Any],
        file: Path | None = None,
        *,
        device: str = "auto",
        offline: bool = False,
    ) -> None:
        self.record = record
        self.file = file
        self.device = device
        self.offline = offline

    @property
    def name(self) -> str:
        """The spelling that it was made with, its file without folder."""
        return str(self.record["spec"])

    @property
    def label(self) -> str:
        """Short name for tables."""
        return str(self.record["label"])

    @property
    def fingerprint(self) -> str:
        """What the vectors depend on, as recorded."""
        return str(self.record["fingerprint"])

    @property
    def n_dims(self) -> int:
        """Width of a vector."""
        return int(self.record["n_dims"])

    @property
    def input_size(self) -> int | None:
        """Short side that decoding may shrink to."""
        size: int | None = self.record["input_size"]
        return size

    @property
    def needs_images(self) -> bool:  # type: ignore[override]
        """Whether it looks at pictures."""
        return bool(self.record["needs_images"])

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return one RGB picture as the array that `forward` batches."""
        return self._verified.prepare(image)

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Return vectors (n_images, n_dims), float32, of prepared pictures."""
        vectors = self._verified.forward(batch)
        self._compare("n_dims", vectors.shape[1])
        return vectors

    def lookup(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors of ids, and which were found (``vectors:`` only)."""
        found: tuple[np.ndarray, np.ndarray] = self._verified.lookup(ids)  # type: ignore[attr-defined]
        return found

    def verify(self) -> str | None:
        """Open the network and compare it with the record; say why it can't be done."""
        network = self.record["file"]
        if network is not None and self.file is None:
            return (
                f"names {network['name']!r}, not held: not compared without --weights"
            )
        if network is None and parse_spec(self.name).kind in _OF_A_HUB:
            return f"names {self.name!r}, whose weights come from a hub: not compared"
        self._compare("n_dims", self._verified.n_dims)
        return None

    def keep_networks_in(self, folder: str | Path) -> None:
        """Say where the networks lie that were exported; see TorchVectorizer."""
        self.__dict__["_folder"] = Path(folder)

    @loaded
    def _verified(self) -> Vectorizer:
        """Return the vectorizer itself, once it is known to be the recorded one."""
        vectorizer = self._exported() or self._built()
        for field in ("fingerprint", "input_size", "needs_images"):
            self._compare(field, getattr(vectorizer, field))
        return vectorizer

    def _exported(self) -> Vectorizer | None:
        """Return the network that the store keeps under the fingerprint, if it may."""
        folder = self.__dict__.get("_folder")
        if folder is None or parse_spec(self.name).kind not in _OF_TORCH:
            return None
        if is_on("TLLBOOST_TORCH") or not is_for_cpu(self.device):
            return None
        return find_exported(folder, self.fingerprint)

    def _built(self) -> Vectorizer:
        """Return the vectorizer that the record spells, which reads its own file."""
        network = self.record["file"]
        if network is not None and self.file is None:
            msg = (
                f"the bundle names the network {network['name']!r} and does not hold "
                f"it (sha256 {network['sha256'][:12]}…): say where it lies by "
                "--weights FILE"
            )
            raise WeightsError(msg)
        vectorizer = build_part(
            self.name, self.file, device=self.device, offline=self.offline
        )
        if isinstance(vectorizer, TorchVectorizer) and "_folder" in self.__dict__:
            vectorizer.keep_networks_in(self.__dict__["_folder"])
        return vectorizer

    def _compare(self, field: str, found: object) -> None:
        wanted = self.record[field]
        if found != wanted:
            what = field.replace("_", " ")
            msg = (
                f"{self.label}: the {what} is not what the bundle says "
                f"({_difference(str(wanted), str(found))}): not to be used"
            )
            raise BundleError(msg)


def build_part(
    spec: str, file: Path | None, *, device: str, offline: bool
) -> Vectorizer:
    """Return the vectorizer of one part's spec, reading its network from `file`.

    Raises
    ------
    UsageError
        If the spec or an option is wrong.
    BundleError
        If it sets what is the user's to set.
    """
    parsed = parse_spec(spec)
    if parsed.kind not in VECTORIZERS:
        return make_vectorizer(spec, device=device, offline=offline)
    kind = VECTORIZERS.resolve(parsed.kind)
    if unseen := sorted(kind.UNSEEN & set(parsed.options)):
        msg = f"{spec!r} sets {unseen[0]!r}, which is not a bundle's to say"
        raise BundleError(msg)
    rest = parsed.rest
    if file is not None:
        named, at, _ = rest.partition("@")
        # `onnx:FILE` and `vectors:FILE` are a file alone, others NAME@FILE.
        alone = parsed.kind in ("onnx", "vectors")
        rest = str(file) if alone or not at else f"{named}@{file}"
    where = Spec(spec, parsed.kind, rest, parsed.options)
    vectorizer: Vectorizer = kind.from_spec(where, device=device, offline=offline)
    return vectorizer


def check_spec(spec: str, *, has_file: bool) -> None:
    """Raise ValueError unless a built-in vectorizer can be made of a recorded spec."""
    parsed = parse_spec(spec)
    if has_file != (parsed.kind in ("onnx", "vectors") or "@" in parsed.rest):
        msg = f"vectorizer {spec!r} and its file don't fit"
        raise ValueError(msg)
    try:
        build_part(spec, None, device="cpu", offline=True)
    except TllboostError as error:
        msg = f"vectorizer {spec!r}: {error}"
        raise ValueError(msg) from error


def _difference(wanted: str, found: str) -> str:
    """Return the first fields of two fingerprints that differ."""
    fields = zip(wanted.split("|"), found.split("|"), strict=False)
    first = next((pair for pair in fields if pair[0] != pair[1]), (wanted, found))
    return f"{first[0][:100]!r} there, {first[1][:100]!r} here"
