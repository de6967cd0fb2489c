"""The vectorizers of a bundle: described for another machine, and made again there.

Each single one has one record, whatever fusions it is a part of. One out of a bundle
loads nothing until an image needs it. Networks lie where the user says, or are unpacked
into the user's own cache.
"""

from __future__ import annotations

import atexit
import functools
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from os.path import expanduser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tllboost.bundle.archive import MAX_NETWORK_BYTES, Archive, size_limit
from tllboost.errors import (
    BundleError,
    DataError,
    StoreError,
    TllboostError,
    UsageError,
    WeightsError,
)
from tllboost.files import whole_file
from tllboost.merges import Width
from tllboost.registry import import_path, parse_spec, path_of
from tllboost.store import user_cache
from tllboost.vectorizers import (
    VECTORIZERS,
    CustomVectorizer,
    FusionVectorizer,
    make_vectorizer,
)
from tllboost.vectorizers.base import Vectorizer, loaded
from tllboost.vectorizers.torch import TorchVectorizer
from tllboost.vectorizers.weights import local_file, sha256_of
from tllboost.vectorizing import space_of

FilePath = str | PathLike[str]
Record = Mapping[str, Any]

_OF_TORCH = ("clip", "clip-grid", "timm", "timm-grid")  # a hub has their weights, too


def _recorded(field: str) -> Any:
    """Return a property that is what the record says."""
    return property(lambda self: self.record[field])


@dataclass(eq=False, repr=False)
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

    record: Record
    file: Path | None = None
    _: KW_ONLY
    device: str = "auto"
    offline: bool = False

    name = _recorded("spec")  # its file without folder
    label = _recorded("label")
    fingerprint = _recorded("fingerprint")
    n_dims = _recorded("n_dims")
    input_size = _recorded("input_size")
    needs_images = _recorded("needs_images")
    named_file = _recorded("file")

    @property
    def blocks(self) -> dict[str, Width]:
        """As the vectorizer has them that the record spells, which is not opened."""
        if parse_spec(self.name).kind not in VECTORIZERS:
            return super().blocks
        return build(self.name, device="cpu", offline=True).blocks

    def check(self) -> None:
        """Raise ValueError where the record contradicts itself, loading nothing."""
        file = self.named_file
        if parse_spec(self.name).kind in VECTORIZERS or ":" not in self.name:
            built = build(self.name, device="cpu", offline=True)
            if (file is None) != (getattr(built, "file", None) is None):
                msg = f"vectorizer {self.name!r} does not fit its file"
                raise ValueError(msg)
        if file is not None and f"sha256:{file['sha256']}" not in self.fingerprint:
            msg = f"the fingerprint of {self.label!r} is not that of its network"
            raise ValueError(msg)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return one RGB image as the array that `forward` batches."""
        return self._verified.prepare(image)

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Return vectors (n_images, n_dims), float32, of prepared images."""
        vectors = self._verified.forward(batch)
        self._compare("n_dims", vectors.shape[1])
        return vectors

    def lookup(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors of ids, and which were found (``vectors:`` only)."""
        found: tuple[np.ndarray, np.ndarray] = self._verified.lookup(ids)  # type: ignore[attr-defined]
        return found

    def verify(self) -> str | None:
        """Open the network and compare it with the record; say why it can't be done."""
        file = self.named_file
        if file is not None and self.file is None:
            return f"does not hold {file['name']!r}: give --weights to compare it"
        if file is None and parse_spec(self.name).kind in _OF_TORCH:
            return f"does not hold {self.name!r}, which comes from a hub: not compared"
        self._compare("n_dims", self._verified.n_dims)
        return None

    def keep_networks_in(self, folder: str | Path) -> None:
        """Say where the networks lie that were exported; see TorchVectorizer."""
        self.__dict__["_folder"] = Path(folder)

    @loaded
    def _verified(self) -> Vectorizer:
        """Return the vectorizer itself, once it is known to be the recorded one.

        It is what the record spells; it reads its own file, unless the store keeps a
        network that was exported under the fingerprint.
        """
        vectorizer = build(self.name, device=self.device, offline=self.offline)
        file = self.named_file
        if file is not None and self.file is not None:
            vectorizer.set_params(file=self.file)
        is_kept = False
        if isinstance(vectorizer, TorchVectorizer) and "_folder" in self.__dict__:
            vectorizer.keep_networks_in(self.__dict__["_folder"])
            is_kept = vectorizer.run_kept(self.fingerprint)
        if file is not None and self.file is None and not is_kept:
            msg = (
                f"the network {file['name']!r} is not in the bundle (sha256 "
                f"{file['sha256'][:12]}…): give its file by --weights FILE"
            )
            raise WeightsError(msg)
        for field in ("fingerprint", "input_size", "needs_images"):
            self._compare(field, getattr(vectorizer, field))
        return vectorizer

    def _compare(self, field: str, found: object) -> None:
        wanted = self.record[field]
        if found != wanted:
            what = field.replace("_", " ")
            msg = (
                f"{self.label}: the {what} is not what the bundle says "
                f"({_difference(str(wanted), str(found))}): do not use it"
            )
            raise BundleError(msg)


def build(spec: str, *, device: str, offline: bool) -> Vectorizer:
    """Return the vectorizer of a spec that is no fusion.

    Raises
    ------
    UsageError
        If the spec or an option is wrong.
    """
    parsed = parse_spec(spec)
    if parsed.kind not in VECTORIZERS and parsed.rest:
        return make_vectorizer(spec, device=device, offline=offline)
    # Its libraries are not needed while all vectors are in the store.
    kind = import_path(VECTORIZERS[parsed.kind].path)
    vectorizer: Vectorizer = kind.from_spec(parsed, device=device, offline=offline)
    return vectorizer


def _difference(wanted: str, found: str) -> str:
    """Return the first fields of two fingerprints that differ."""
    fields = zip(wanted.split("|"), found.split("|"), strict=False)
    first = next((pair for pair in fields if pair[0] != pair[1]), (wanted, found))
    return f"{first[0][:100]!r} there, {first[1][:100]!r} here"


class Described:
    """Vectorizers as a manifest has them, and what else of them a bundle holds.

    What two of them share, the whole or a part, has one record and one network. No
    folder of this machine is in a record.

    Attributes
    ----------
    records : dict of str to dict
        Of each single vectorizer, by what its vectors are stored under.
    members : dict of str to Path
        The networks to carry.
    spellings : dict of str to str
        What names files of this machine, and what stands for it in a bundle.
    """

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.members: dict[str, Path] = {}
        self.spellings: dict[str, str] = {}
        self._names: dict[str, str] = {}  # of networks, by their sha256

    def add(self, vectorizer: Vectorizer, n_dims: int) -> list[dict[str, Any]]:
        """Describe a vectorizer; return its parts, by their place and weight.

        Parameters
        ----------
        vectorizer : Vectorizer
            Any that has a name: built in, a fusion, or importable without arguments.
        n_dims : int
            Width of its vectors.

        Raises
        ------
        UsageError
            If it can't be made again from its name.
        WeightsError
            If its network is not there.
        """
        parts = list(getattr(vectorizer, "parts", None) or [vectorizer])
        spaces = [space_of(part) for part in parts]
        for space, part in zip(spaces, parts, strict=True):
            if space not in self.records:
                width = n_dims if len(parts) == 1 else part.n_dims
                self.records[space] = self._describe(part, width)
        weights = getattr(vectorizer, "weights", None) or [1] * len(parts)
        order = list(self.records)
        return [
            {"index": order.index(space), "weight": weight}
            for space, weight in zip(spaces, weights, strict=True)
        ]

    def _describe(self, part: Vectorizer, n_dims: int) -> dict[str, Any]:
        file = getattr(part, "file", None)
        network = None
        if file is not None:
            network = self._describe_file(local_file(file, what=part.label), part)
            forms = {str(file), str(Path(expanduser(file)).absolute())}
            self.spellings |= dict.fromkeys(forms, network["name"])
        elif isinstance(part, BundledVectorizer) and part.named_file is not None:
            network = {**part.named_file, "embedded": False}
        return {
            "spec": _portable_spec(part, network),
            "label": part.label,
            "fingerprint": part.fingerprint,
            "n_dims": n_dims,
            "input_size": part.input_size,
            "needs_images": part.needs_images,
            "file": network,
        }

    def _describe_file(self, path: Path, part: Vectorizer) -> dict[str, Any]:
        """Return the record of a network's file.

        Carried if it is not too large, is no pickle, and has no data files beside it.
        """
        sha256, size = sha256_of(path), path.stat().st_size
        if f"sha256:{sha256}" not in part.fingerprint:
            msg = f"{str(path)!r} has changed since the vectors were made"
            raise UsageError(msg)
        name = _safe_name(path.name)
        if name in self._names.values():
            name = f"{sha256[:8]}-{name}"
        name = self._names.setdefault(sha256, name)
        embedded = (
            size <= MAX_NETWORK_BYTES
            and size_limit(f"network/{name}") > 0
            and f"sha256:{sha256}+" not in part.fingerprint
        )
        if embedded:
            self.members[f"network/{name}"] = path
        return {"name": name, "sha256": sha256, "size": size, "embedded": embedded}


def not_for_bundles(name: Any, kind: str, why: str) -> UsageError:
    """Return the error for a part that can't be made again elsewhere."""
    return UsageError(f"{kind} {name!r} can't go into a bundle: {why}")


def _safe_name(name: str) -> str:
    """Return a file's name without what could mean something elsewhere.

    Examples
    --------
    >>> _safe_name("my net+v2?.onnx")
    'my_net_v2_.onnx'
    """
    plain = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII).lstrip(".-")
    return plain[-80:].lstrip(".-") or "network"


def _portable_spec(part: Vectorizer, network: Record | None) -> str:
    """Return the spelling of a part, its file by the name that the bundle gives it."""
    if isinstance(part, BundledVectorizer):
        return part.name
    if part.source is not None:
        why = "give its base as the vectorizer and what is learned as the projection"
        raise not_for_bundles(part.label, "vectorizer", f"{why}; a bundle holds both")
    if part.KIND not in VECTORIZERS or VECTORIZERS[part.KIND].path != path_of(part):
        return _import_spec(part)
    params = part.get_params()
    if network is not None:
        params["file"] = network["name"]
    spec = type(part)(**params).spec
    again = build(spec, device="cpu", offline=True)
    seen = params.keys() - {"device", "offline"}
    if any(getattr(again, name) != params[name] for name in seen):
        raise not_for_bundles(part.label, "vectorizer", f"{spec!r} differs")
    return spec


def _import_spec(part: Vectorizer) -> str:
    """Return the import path of a vectorizer of the user's own."""
    if isinstance(part, CustomVectorizer) and isinstance(part.target, str):
        return part.target
    with suppress(TllboostError):
        if import_path(path_of(part)) is type(part) and not part.changed():
            return path_of(part)
    why = "it is an object; give it by name, package.module:Class, of a class that is"
    raise not_for_bundles(part.label, "vectorizer", f"{why} made without arguments")


def restore_vectorizers(
    manifest: Record, *, device: str = "auto", offline: bool = False
) -> tuple[list[BundledVectorizer], list[Vectorizer]]:
    """Return the single vectorizers of a bundle, and that of each cell.

    Cells that share a part, or all of it, share the object.

    Raises
    ------
    ValueError
        If a record contradicts itself or another.
    """
    singles = [
        BundledVectorizer(record, device=device, offline=offline)
        for record in manifest["vectorizers"]
    ]
    for single in singles:
        single.check()
    if len(set(map(space_of, singles))) < len(singles):
        msg = "two of its vectorizers have the same fingerprint"
        raise ValueError(msg)
    made: list[Vectorizer] = []
    for cell in manifest["cells"]:
        own = [singles[part["index"]] for part in cell["vectorizer"]]
        weights = [part["weight"] for part in cell["vectorizer"]]
        made.append(own[0] if len(own) == 1 else FusionVectorizer(own, weights))
    return singles, [made[first] for first in first_alike(manifest["cells"])]


def first_alike(records: Sequence[Record]) -> list[int]:
    """Return, for each cell, the first of the same vectorizer."""
    vectorizers = [record["vectorizer"] for record in records]
    return [vectorizers.index(one) for one in vectorizers]


def code_in(manifest: Record) -> list[str]:
    """Return the import paths of vectorizers and merges that are not built in."""
    specs = [one["spec"] for one in manifest["vectorizers"]]
    names = [one for one in specs if re.split("[?:]", one)[0] not in VECTORIZERS]
    for cell in manifest["cells"]:
        names += map(str.strip, cell["merge"].split("+"))
    return list(dict.fromkeys(name for name in names if ":" in name))


def place_networks(
    archive: Archive,
    vectorizers: Iterable[BundledVectorizer],
    weights: FilePath | Iterable[FilePath] | None,
) -> None:
    """Tell vectorizers where their networks lie: given, or unpacked.

    Parameters
    ----------
    archive : Archive
        The bundle.
    vectorizers : iterable of BundledVectorizer
        Their ``file`` stays None where that is not known.
    weights : path-like or several, or None
        Files of this machine, told apart by their sha256.

    Raises
    ------
    WeightsError
        If a file of `weights` is none that the vectorizers name.
    """
    own = [one for one in vectorizers if one.named_file is not None]
    wanted = {one.named_file["sha256"]: one.named_file for one in own}
    files = {}
    for file in [weights] if isinstance(weights, str | PathLike) else weights or ():
        path = local_file(Path(file), what=archive.what)
        sha256 = sha256_of(path)
        if sha256 not in wanted:
            names = [f"{one['name']} ({key[:12]}…)" for key, one in wanted.items()]
            msg = (
                f"{archive.what}: {str(file)!r} (sha256 {sha256[:12]}…) is not a "
                f"network of this bundle; it has: {', '.join(names) or 'none'}"
            )
            raise WeightsError(msg)
        files[sha256] = path
    for sha256, one in wanted.items():
        if sha256 not in files and one["embedded"]:
            files[sha256] = _unpacked(archive, one["name"], sha256)
    for vectorizer in own:
        vectorizer.file = files.get(vectorizer.named_file["sha256"])


def _unpacked(archive: Archive, name: str, sha256: str) -> Path:
    """Return where a network was unpacked, now or before."""
    for folder in (user_cache, _temporary):
        try:
            target = folder() / "networks" / sha256 / name
            if not (target.is_file() and sha256_of(target) == sha256):
                with whole_file(target) as file:
                    file.writelines(archive.verified_chunks(f"network/{name}"))
        except (OSError, DataError, StoreError) as error:
            reason = str(error)
        else:
            return target
    msg = f"can't unpack the network {name!r} of the bundle ({reason})"
    raise DataError(msg)


@functools.cache
def _temporary() -> Path:
    """Return a folder that ends with this process, for homes that can't be written."""
    folder = tempfile.mkdtemp(prefix="tllboost-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
