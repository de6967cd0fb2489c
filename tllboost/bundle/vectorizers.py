"""A vectorizer out of a bundle: nothing is loaded until an image needs it.

Describe vectorizers so that another machine can make them again.

Where the networks of bundles lie: given, or unpacked into the user's own cache.

Check what a manifest says of vectorizers and merges, before any is made.
"""

from __future__ import annotations

import atexit
import functools
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tllboost.bundle.archive import Archive
from tllboost.bundle.manifest import MAX_NETWORK_BYTES, size_limit
from tllboost.errors import (
    BundleError,
    DataError,
    TllboostError,
    UsageError,
    WeightsError,
)
from tllboost.files import whole_file
from tllboost.merges import MERGES
from tllboost.registry import import_path
from tllboost.vectorizers import VECTORIZERS, make_vectorizer
from tllboost.vectorizers.base import Vectorizer, is_on, loaded
from tllboost.vectorizers.custom import CustomVectorizer
from tllboost.vectorizers.exported import find_exported
from tllboost.vectorizers.fusion import FusionVectorizer
from tllboost.vectorizers.spec import Spec, parse_spec, with_weights
from tllboost.vectorizers.torch import TorchVectorizer, is_for_cpu
from tllboost.vectorizers.weights import local_file, sha256_of
from tllboost.vectorizing import space_of

__all__ = [
    "BundledVectorizer",
    "check_code",
    "describe_vectorizers",
    "distinct_parts",
    "network_files",
    "parts_of",
]

_OF_TORCH = ("clip", "clip-grid", "timm", "timm-grid")
_OF_A_HUB = _OF_TORCH  # unless a file is named


def _recorded(field: str) -> Any:
    """Return a property that is what the record says."""
    return property(lambda self: self.record[field])


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

    name = _recorded("spec")  # its file without folder
    label = _recorded("label")
    fingerprint = _recorded("fingerprint")
    n_dims = _recorded("n_dims")
    input_size = _recorded("input_size")
    needs_images = _recorded("needs_images")

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
    """
    parsed = parse_spec(spec)
    if parsed.kind not in VECTORIZERS:
        return make_vectorizer(spec, device=device, offline=offline)
    kind = VECTORIZERS.resolve(parsed.kind)
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


def describe_vectorizers(
    vectorizers: Sequence[Vectorizer], n_dims: Sequence[int]
) -> tuple[list[dict[str, Any]], dict[str, Path]]:
    """Return the manifest's records of vectorizers, and the networks to carry.

    What two of them share, the whole or a part, has one record and one network.

    Parameters
    ----------
    vectorizers : sequence of Vectorizer, length n_vectorizers
        Any that have a name: built in, a fusion, or importable without arguments.
    n_dims : sequence of int, length n_vectorizers
        Width of the vectors of each.

    Returns
    -------
    records : list of dict
        ``spec``, ``label``, ``fingerprint``, ``n_dims``, ``parts``; no folder of this
        machine is in it.
    files : dict of str to Path
        Members to be, and where they lie now.

    Raises
    ------
    UsageError
        If one can't be made again from its name, or its vectors are not that wide.
    WeightsError
        If its network is not there.
    """
    files: dict[str, Path] = {}
    known: dict[str, dict[str, Any]] = {}
    records = [
        _describe_whole(vectorizer, width, files, known)
        for vectorizer, width in zip(vectorizers, n_dims, strict=True)
    ]
    return records, files


def parts_of(vectorizer: Vectorizer) -> list[Vectorizer]:
    """Return the parts of a fusion, and of any other itself."""
    return list(getattr(vectorizer, "parts", None) or [vectorizer])


def _describe_whole(
    vectorizer: Vectorizer,
    n_dims: int,
    files: dict[str, Path],
    known: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    parts = parts_of(vectorizer)
    records = []
    for part in parts:
        space = space_of(part)
        if space not in known:
            width = n_dims if len(parts) == 1 else part.n_dims
            known[space] = _describe(part, width, files)
        records.append(known[space])
    width = sum(one["n_dims"] for one in records)
    if width != n_dims:
        msg = (
            f"golden vectors of {vectorizer.label!r} have {n_dims} numbers, its own "
            f"have {width}: give those that it makes"
        )
        raise UsageError(msg)
    weights = getattr(vectorizer, "weights", None)
    return {
        "spec": "+".join(with_weights([one["spec"] for one in records], weights)),
        "label": "+".join(with_weights([one["label"] for one in records], weights)),
        "fingerprint": vectorizer.fingerprint,
        "n_dims": width,
        "parts": records,
        **({} if weights is None else {"weights": list(weights)}),
    }


def _describe(part: Vectorizer, n_dims: int, files: dict[str, Path]) -> dict[str, Any]:
    file = getattr(part, "file", None)
    network, name = None, ""
    if file is not None:
        path = local_file(file, what=part.label)
        network, name = _describe_file(path, part.fingerprint, files)
    return {
        "spec": _spec_of(part, name),
        "label": part.label,
        "fingerprint": part.fingerprint,
        "n_dims": n_dims,
        "input_size": part.input_size,
        "needs_images": part.needs_images,
        "file": network,
    }


def _describe_file(
    path: Path, fingerprint: str, files: dict[str, Path]
) -> tuple[dict[str, Any], str]:
    """Return the record of a network's file, and its name in the bundle.

    Carried if it is not too large, is no pickle, and has no data files beside it.
    """
    sha256, size = sha256_of(path), path.stat().st_size
    if f"sha256:{sha256}" not in fingerprint:
        msg = f"{str(path)!r} is not the file that the vectors came from any more"
        raise UsageError(msg)
    name = _safe_name(path.name)
    held = {sha256_of(other): member for member, other in files.items()}
    member = f"network/{name}"
    if sha256 in held:
        member = held[sha256]
    elif member in files:
        member = f"network/{sha256[:8]}-{name}"
    name = member.removeprefix("network/")
    embedded = (
        size <= MAX_NETWORK_BYTES
        and size_limit(member) > 0
        and f"sha256:{sha256}+" not in fingerprint
    )
    if embedded:
        files[member] = path
    record = {"name": name, "sha256": sha256, "size": size, "embedded": embedded}
    return record, name


def _safe_name(name: str) -> str:
    """Return a file's name without what could mean something elsewhere.

    Examples
    --------
    >>> _safe_name("my net+v2?.onnx")
    'my_net_v2_.onnx'
    """
    plain = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII).lstrip(".-")
    return plain[-80:].lstrip(".-") or "network"


def _spec_of(part: Vectorizer, name: str) -> str:
    """Return the spelling of a part, its file by `name` alone."""
    if isinstance(part, BundledVectorizer):
        return part.name
    if part.source is not None:
        msg = (
            f"vectorizer {part.label!r} can't go into a bundle: give its base as the "
            "vectorizer and what is learned as the projection; a bundle holds both"
        )
        raise UsageError(msg)
    path = f"{type(part).__module__}:{type(part).__qualname__}"
    kinds = {entry.path: kind for kind, entry in VECTORIZERS.items()}
    if path not in kinds:
        return _import_spec(part, path)
    spec = part.short_name
    if name:
        alone = part.name == f"{kinds[path]}:{part.file}"  # type: ignore[attr-defined]
        spec = f"{kinds[path]}:{name}" if alone else f"{part.short_name}@{name}"
    spec += part._options_text()
    again = build_part(spec, None, device="cpu", offline=True)
    seen = part.get_params().keys() - {"device", "offline", "file"}
    if any(getattr(again, name) != getattr(part, name) for name in seen):
        msg = f"vectorizer {part.label!r} can't go into a bundle: {spec!r} is another"
        raise UsageError(msg)
    return spec


def _import_spec(part: Vectorizer, path: str) -> str:
    """Return the import path of a vectorizer of the user's own."""
    if isinstance(part, CustomVectorizer):
        if isinstance(part.target, str):
            return part.target
    else:
        try:
            if import_path(path) is type(part) and not list(part._changed()):
                return path
        except TllboostError:
            pass
    msg = (
        f"vectorizer {part.label!r} can't go into a bundle: it is an object; give it "
        "by name, package.module:Class, of a class that is made without arguments"
    )
    raise UsageError(msg)


FilePath = str | PathLike[str]


def network_files(
    archive: Archive,
    parts: Iterable[Mapping[str, Any]],
    weights: FilePath | Iterable[FilePath] | None,
) -> list[Path | None]:
    """Return where the network of each part lies, None where that is not known.

    Parameters
    ----------
    archive : Archive
        The bundle.
    parts : iterable of mapping
        The parts of its vectorizers, as the manifest has them.
    weights : path-like or several, or None
        Files of this machine, told apart by their sha256.

    Raises
    ------
    WeightsError
        If a file of `weights` is none that the parts name.
    BundleError
        If a network should be in the bundle and is not.
    """
    files = [part["file"] for part in parts]
    wanted = {file["sha256"]: file["name"] for file in files if file is not None}
    given = {}
    several = [weights] if isinstance(weights, str | PathLike) else weights or ()
    for one in several:
        path = local_file(Path(one), what=archive.what)
        sha256 = sha256_of(path)
        if sha256 not in wanted:
            names = ", ".join(f"{n} ({s[:12]}…)" for s, n in wanted.items()) or "none"
            msg = (
                f"{archive.what}: {str(one)!r} (sha256 {sha256[:12]}…) is no network "
                f"of this bundle; it has: {names}"
            )
            raise WeightsError(msg)
        given[sha256] = path
    return [_network(archive, file, given) for file in files]


def _network(
    archive: Archive, file: Mapping[str, Any] | None, given: Mapping[str, Path]
) -> Path | None:
    """Return where a network lies: given, or unpacked unless it was before."""
    if file is None:
        return None
    if file["sha256"] in given or not file["embedded"]:
        return given.get(file["sha256"])
    member = f"network/{file['name']}"
    record = archive.manifest["members"].get(member)
    if record is None or record["sha256"] != file["sha256"]:
        msg = f"{archive.what}: network {file['name']!r} is not in it: not to be used"
        raise BundleError(msg)
    sha256, name = file["sha256"], file["name"]
    for folder in (_cache, _temporary):
        try:
            target = folder() / sha256 / name
            if not (target.is_file() and sha256_of(target) == sha256):
                with whole_file(target) as unpacked:
                    unpacked.writelines(archive.verified_chunks(member))
        except (OSError, DataError) as error:
            reason = str(error)
        else:
            return target
    msg = f"can't unpack the network {name!r} of the bundle ({reason})"
    raise DataError(msg)


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("tllboost") / "networks"


@functools.cache
def _temporary() -> Path:
    """Return a folder that ends with this process, for homes that can't be written."""
    folder = tempfile.mkdtemp(prefix="tllboost-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


Record = Mapping[str, Any]


def check_code(manifest: Record, what: str, *, trust_code: bool) -> None:
    """Refuse names that would be imported, unless the caller trusts them.

    Raises
    ------
    UsageError
        If it is code, and not trusted.
    ValueError
        If it is neither code nor a name that is known.
    """
    code = list(dict.fromkeys(_unknown_names(manifest)))
    for name in code:
        module, colon, attribute = name.partition(":")
        legal = colon and all(map(str.isidentifier, (*module.split("."), attribute)))
        if not legal:
            msg = f"{name!r} is no vectorizer or merge that is known"
            raise ValueError(msg)
    if code and not trust_code:
        msg = (
            f"{what}: runs code of {', '.join(code)}: if you trust it, say "
            "--trust-code (trust_code=True)"
        )
        raise UsageError(msg)


def _unknown_names(manifest: Record) -> Iterator[str]:
    for vectorizer in manifest["vectorizers"]:
        for part in vectorizer["parts"]:
            if parse_spec(part["spec"]).kind not in VECTORIZERS:
                yield part["spec"]
    for cell in manifest["cells"]:
        for name in map(str.strip, cell["merge"].split("+")):
            if name not in MERGES:
                yield name


def distinct_parts(manifest: Record) -> dict[str, Record]:
    """Return the parts of all vectorizers, each once, by what they are stored under.

    Raises
    ------
    ValueError
        If a record contradicts itself or another.
    """
    distinct: dict[str, Record] = {}
    for vectorizer in manifest["vectorizers"]:
        _check_vectorizer(vectorizer)
        for part in vectorizer["parts"]:
            space = space_of(BundledVectorizer(part))
            if distinct.setdefault(space, part) != part:
                msg = f"two vectorizers of the fingerprint of {part['label']!r} differ"
                raise ValueError(msg)
    return distinct


def _check_vectorizer(vectorizer: Record) -> None:
    parts = vectorizer["parts"]
    for part in parts:
        network = part["file"]
        if parse_spec(part["spec"]).kind in VECTORIZERS:
            check_spec(part["spec"], has_file=network is not None)
        if (
            network is not None
            and f"sha256:{network['sha256']}" not in part["fingerprint"]
        ):
            msg = f"the fingerprint of {part['label']!r} is not that of its network"
            raise ValueError(msg)
    if len(vectorizer.get("weights", parts)) != len(parts):
        msg = "the weights of its vectorizer are not those of its parts"
        raise ValueError(msg)
    whole = parts[0]["fingerprint"]
    if len(parts) > 1:
        own = [BundledVectorizer(one) for one in parts]
        whole = FusionVectorizer(own, vectorizer.get("weights")).fingerprint
    if vectorizer["fingerprint"] != whole:
        msg = "the fingerprint of its vectorizer is not that of its parts"
        raise ValueError(msg)
    if vectorizer["n_dims"] != sum(part["n_dims"] for part in parts):
        msg = "the width of its vectors is not that of its parts"
        raise ValueError(msg)
