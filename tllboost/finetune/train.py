"""`finetune`: from a vectorizer and two sets of a split to a file of weights.

The loss sees the vectors through a projection that is dropped at the end; what is kept
is the epoch whose plain cosine ranks the validation set best.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.conventions import n_threads_of, repeatable, seed_of, usable_cores
from tllboost.dense import own_chance, threads
from tllboost.errors import DataError, ImageError, UsageError
from tllboost.files import finite, whole_file, write_bytes
from tllboost.finetune.images import Job, Maps
from tllboost.finetune.network import all_tensors, cut, global_vectorizer, with_file
from tllboost.finetune.settings import FORMAT, FineTuneSettings, read_record
from tllboost.merges import unit_rows
from tllboost.projections.base import find_loss, matches_in, matches_of
from tllboost.projections.losses import info_nce
from tllboost.splits import PairSet
from tllboost.store import hash_files
from tllboost.vectorizers import Vectorizer
from tllboost.vectorizing import Progress

Message = Callable[[str], None]
ImagePath = str | os.PathLike[str]

_KEPT_VIEWS = 6
_LEAST_VIEWS = 2
_MOST_BYTES = 4 * 2**30  # of kept maps on the disk, or half of what is free there
_VERSION = 1  # raise it when a change in this package could change a weight


def finetune(
    vectorizer: Vectorizer,
    paths: Sequence[ImagePath | None],
    train: PairSet,
    validation: PairSet,
    out: ImagePath,
    *,
    settings: FineTuneSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    message: Message | None = None,
) -> Vectorizer:
    """Train the last stages of a network on the matches of a training set.

    Two images of a match, each augmented in its own way, are told from the other
    matches of their batch. The epoch that ranks the validation set best by the cosine
    of the vectors is kept, the untrained network among them: one that does not gain
    stays as it is. No other image than those of the two sets is opened.

    The training can be stopped at any time: the same call goes on after the last
    finished epoch. Where `out` is the result of the same training already, nothing is
    done.

    Parameters
    ----------
    vectorizer : Vectorizer
        One network of timm or open_clip.
    paths : sequence of path-like, length n_images
        The images that the sets name by index; others may be None.
    train, validation : PairSet
        The pairs of each set.
    out : path-like
        The file to write, ending in ``.safetensors``. Next to it, while training lasts,
        stands a folder of the same name and ``.work``.
    settings : FineTuneSettings, optional
    seed : int, default=0
        Of every choice. On a CPU the same seed and number of threads give the same
        weights.
    device : str, default="auto"
        Where it is trained.
    n_threads : int, optional
        Threads of the network, and of decoding; by default one a core.
    overwrite : bool, default=False
        Whether a file of other weights may be replaced.
    progress : callable, optional
        Called with how much is done, how much there is, and what it is.
    message : callable, optional
        Called with a line after each epoch.

    Returns
    -------
    Vectorizer
        Of the same kind and options, with `out` as its weights.

    Raises
    ------
    UsageError
        If the vectorizer is no network that can be trained, or `out` is taken.
    ImageError
        If an image can't be read.
    DataError
        If there are too few matches to learn from.
    """
    from safetensors.torch import save

    file, settings = Path(out), settings or FineTuneSettings()
    seed, n_threads = seed_of(seed), n_threads_of(n_threads)
    tell = message or (lambda line: None)
    report = progress or (lambda done, total, what: None)
    if file.suffix != ".safetensors":
        msg = f"out={str(file)!r}: give a name that ends in .safetensors"
        raise UsageError(msg)
    base = global_vectorizer(vectorizer, device)
    matches = matches_of(train, "training")
    trained, held_out = _images(matches), _images(validation)
    hashes = _hashes(paths, sorted({*trained, *held_out}))
    # All that the weights depend on, apart from the machine. An image's number decides
    # its augmentation, so numbers count with contents.
    texts = (_VERSION, base.fingerprint, asdict(settings), seed, sorted(hashes.items()))
    digest = hashlib.sha256(repr(texts).encode())
    for pairs in (matches, validation):
        for name in ("left", "right", "label", "query", "component"):
            digest.update(getattr(pairs, name).tobytes() + b"|")
    key = digest.hexdigest()
    known = read_record(file) if file.exists() else None
    if known and known["key"] == key:
        tell(f"{file} is the result of this very training: nothing to do")
        tell_again(json.loads(known["history"]))
        return with_file(vectorizer, file)
    if file.exists() and not overwrite:
        msg = (
            f"{str(file)!r} holds other weights: give another name, or allow it to be "
            "overwritten"
        )
        raise UsageError(msg)
    work = file.with_name(f"{file.name}.work") / key[:12]
    with threads(n_threads):
        network = cut(
            base.network,
            settings.n_stages,
            what=base.label,
            size=base.preprocessing.size,
        )
        work.mkdir(parents=True, exist_ok=True)
        maps = Maps(
            network,
            base,
            [path or "" for path in paths],
            settings.augmentation,
            seed,
            n_workers=min(8, n_threads or usable_cores()),
        )
        n_views = settings.n_views
        if n_views is None:
            n_views = _n_views(maps, len(trained), len(held_out), work)
        if n_views > 0:
            jobs = [(image, 0) for image in held_out]
            views = range(1, n_views + 1)
            jobs += [(image, view) for view in views for image in trained]
            maps.keep(jobs, work, report)
        history = Trainer(
            maps,
            matches,
            validation,
            settings,
            n_views=n_views,
            file=work / "checkpoint.pt",
            key=key,
            progress=report,
            message=tell,
        ).run()
        record = {
            "format": "pt",  # other readers of safetensors files ask for it
            "made_by": FORMAT,
            "key": key,
            "seed": str(seed),
            "base": base.fingerprint,
            "trained_on": " ".join(sorted({one[:16] for one in hashes.values()})),
            "history": json.dumps(finite(history), allow_nan=False),
        }
        data = save(all_tensors(base, network.whole), record)
    write_bytes(file, data)
    del maps
    shutil.rmtree(work.parent, ignore_errors=True)
    told = "no epoch was better on validation; the network is unchanged"
    if best := best_epoch(history):
        before, now = (history[epoch]["validation"] for epoch in (0, best))
        told = f"epoch {best} of {len(history) - 1}, validation "
        told += f"{before:.3f} before, {now:.3f} now"
    tell(f"{file}: {told}")
    return with_file(vectorizer, file)


def _images(pairs: PairSet) -> list[int]:
    """Return the images of a set, ascending."""
    images: list[int] = np.union1d(pairs.left, pairs.right).tolist()
    return images


def _hashes(paths: Sequence[ImagePath | None], used: list[int]) -> dict[int, str]:
    """Return the content of every image that will be looked at."""
    if missing := [image for image in used if paths[image] is None]:
        msg = f"fine-tuning needs the image files, and {len(missing)} images have none"
        raise UsageError(msg)
    hashes = hash_files([paths[image] or "" for image in used])
    for one in hashes:
        if isinstance(one, ImageError):
            raise one
    return dict(zip(used, map(str, hashes), strict=True))


def _n_views(maps: Maps, n_trained: int, n_held_out: int, work: Path) -> int:
    """Choose how many views of an image are kept: on a CPU as many as there is room."""
    if next(maps.network.whole.parameters()).device.type != "cpu":
        return 0
    most = min(_MOST_BYTES, shutil.disk_usage(work).free // 2)
    room = most // (2 * math.prod(maps.shape())) - n_held_out
    n_views = min(_KEPT_VIEWS, room // max(1, n_trained))
    return n_views if n_views >= _LEAST_VIEWS else 0


_TEMPERATURES = np.array([0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3])[:, None]
_ALIKE = 1e-3
_MOST = 1_000  # validation matches that are looked up among each other


def ranking_loss(vectors: NDArray[np.float32], pairs: PairSet) -> float:
    """Return how badly the cosine ranks: cross-entropy of each list's match.

    The temperature is the one that suits best, so that vectors are judged by how they
    order candidates, not by how far apart they lie.

    Parameters
    ----------
    vectors : ndarray of shape (n_images, n_dims), float32
    pairs : PairSet
        With ranking lists; without any, its matches are looked up among each other.

    Examples
    --------
    >>> from tllboost.splits import Protocol, SplitTable, make_splits
    >>> left, right = np.arange(40), np.arange(40, 80)
    >>> component, label = np.tile(np.arange(40), 2), np.ones(40, np.int8)
    >>> table = SplitTable(left, right, label, component)
    >>> (split,) = make_splits(table, protocol=Protocol(n_distractors=3), seed=0)
    >>> good = np.eye(40, dtype=np.float32)[component]
    >>> bool(ranking_loss(good, split.test) < 1e-9)
    True
    """
    listed = np.flatnonzero(pairs.query >= 0)
    unit = unit_rows(vectors)
    if not len(listed):
        # The old protocol of 2017 has pairs and no lists: matches among each other.
        matches = matches_in(pairs, _MOST)
        similarity = unit[matches.left] @ unit[matches.right].T
        return find_loss(similarity, matches.component)
    order = listed[np.argsort(pairs.query[listed], kind="stable")]
    left, right = unit[pairs.left[order]], unit[pairs.right[order]]
    cosine = np.einsum("ij,ij->i", left, right, dtype=np.float64)
    label, query = pairs.label[order], pairs.query[order]
    starts = np.flatnonzero(np.r_[True, query[1:] != query[:-1]])
    n_matches = np.maximum(np.add.reduceat(label.astype(np.float64), starts), 1)
    match = np.add.reduceat(cosine * label, starts) / n_matches
    whole = np.logaddexp.reduceat(cosine / _TEMPERATURES, starts, axis=1)
    return float((whole - match / _TEMPERATURES).mean(axis=1).min())


def are_alike(vectors: NDArray[np.float32]) -> bool:
    """Tell whether vectors all point one way: the network has collapsed.

    Examples
    --------
    >>> are_alike(np.ones((3, 2), np.float32)), are_alike(np.eye(3, dtype=np.float32))
    (True, False)
    """
    unit = unit_rows(vectors)
    mean = unit_rows(unit.mean(axis=0, keepdims=True))
    return not np.max(1 - unit @ mean[0], initial=0.0) > _ALIKE  # NaN counts as alike


_WARM = 0.1  # of all steps, over which the learning rate rises
_PROJECTION_RATE = 3.0  # times that of the network: it starts from nothing
_BATCH = 64
# More than the batches of an epoch could ask for: numbers of views never meet.
_VIEWS_AN_EPOCH = 2**20


def tell_again(history: list[dict[str, Any]]) -> None:
    """Let :func:`~tllboost.conventions.noted` note epochs that an earlier run took."""
    for one in history:
        repeatable(one.get)("validation")


def best_epoch(history: list[dict[str, Any]]) -> int:
    """Return the epoch of lowest validation loss, the first of equals."""
    losses = [one["validation"] for one in history]
    return losses.index(min(losses))


@dataclass(eq=False)
class Trainer:
    """Train the last stages of a network on the matches of a training set.

    Parameters
    ----------
    maps : Maps
        What the frozen stages make of each image. Its seed decides the projection's
        first weights, the order, and which views are taken, too.
    matches, validation : PairSet
        The matches to learn from, and the set that chooses.
    settings : FineTuneSettings
    n_views : int
        Kept views an image; 0 takes new ones every epoch.
    file : Path
        The checkpoint, which is there whole or not at all.
    key : str
        Which training it is.
    progress, message : callable
    """

    maps: Maps
    matches: PairSet
    validation: PairSet
    settings: FineTuneSettings
    n_views: int
    file: Path
    key: str
    progress: Callable[[int, int, str], None]
    message: Callable[[str], None]

    def __post_init__(self) -> None:
        import torch

        network, settings = self.maps.network, self.settings
        self.held_out = _images(self.validation)
        self.history: list[dict[str, Any]] = []
        self.trained = network.trained
        self.device = next(iter(self.trained.values())).device
        self.projection: Any = torch.nn.Identity()
        groups = [{"params": list(self.trained.values())}]
        if settings.n_components:
            with own_chance(self.maps.seed):
                self.projection = torch.nn.Linear(
                    network.n_dims, settings.n_components, bias=False
                ).to(self.device)
            groups.append({"params": list(self.projection.parameters())})
        self.optimiser = torch.optim.AdamW(
            groups, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def run(self) -> list[dict[str, Any]]:
        """Train to the end, from where a checkpoint left off; put the best in place.

        Returns
        -------
        list of dict
            ``epoch``, ``loss`` on training matches and ``validation``, a record an
            epoch, the frozen network first.

        Raises
        ------
        DataError
            If the vectors of the validation set are all alike before training.
        """
        if self._restore():
            self.message(f"going on after epoch {len(self.history) - 1}")
            tell_again(self.history)
        else:
            vectors = self._validation_vectors()
            if are_alike(vectors[self.held_out]):
                msg = (
                    "the network gives all validation images the same vector before "
                    "any training: its weights are not a usable start"
                )
                raise DataError(msg)
            self._keep(None, repeatable(ranking_loss)(vectors, self.validation))
        n_epochs, patience = self.settings.n_epochs, self.settings.patience
        while (epoch := len(self.history)) <= n_epochs:
            stale = epoch - 1 - best_epoch(self.history)
            if stale >= patience:
                break
            loss, vectors = self._train(epoch), self._validation_vectors()
            if not math.isfinite(loss) or are_alike(vectors[self.held_out]):
                self.message(
                    f"epoch {epoch}: collapsed, all vectors are alike; epoch "
                    f"{best_epoch(self.history)} is kept; try a lower learning rate"
                )
                break
            validation = repeatable(ranking_loss)(vectors, self.validation)
            self._keep(loss, validation)
            self.message(
                f"epoch {epoch} of {n_epochs}: loss {loss:.3f}, validation "
                f"{validation:.3f}"
                f"{' (the best)' if best_epoch(self.history) == epoch else ''}"
            )
        self._put(self.best)
        return self.history

    def _train(self, epoch: int) -> float:
        """Take one step a batch; return the mean loss."""
        import torch

        order = np.random.default_rng([self.maps.seed, epoch]).permutation(
            len(self.matches)
        )
        # No batch is so small that it tells nothing.
        n_batches = max(1, len(order) // self.settings.batch_size)
        batches = np.array_split(order, n_batches)
        kind, losses = self.device.type, []
        for step, maps in enumerate(self.maps.batches(self._jobs(batches, epoch))):
            self._set_rate(epoch - 1 + step / n_batches)
            with torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda"):
                # Of the left images, then of the right ones.
                left, right = self.projection(self.maps.network.tail(maps)).chunk(2)
            loss = info_nce(
                left.float(),
                right.float(),
                torch.from_numpy(self.matches.component[batches[step]]).to(self.device),
                self.settings.temperature,
            )
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            losses.append(float(loss.detach()))
            self.progress(step + 1, n_batches, f"epoch {epoch}")
        return float(np.mean(losses))

    def _set_rate(self, done: float) -> None:
        """Set the learning rate after `done` epochs: up, then along a cosine."""
        part = done / self.settings.n_epochs
        warm = min(1.0, (part + 0.01) / _WARM)
        rate = self.settings.learning_rate * warm * (1 + math.cos(math.pi * part)) / 2
        times = (1.0, _PROJECTION_RATE)
        for group, one in zip(self.optimiser.param_groups, times, strict=False):
            group["lr"] = rate * one

    def _jobs(self, batches: list[NDArray[np.int64]], epoch: int) -> list[list[Job]]:
        """Choose a view of each image: of those kept, or one never made before."""
        rng = np.random.default_rng([self.maps.seed, epoch, 1])
        low, high = 1, self.n_views + 1
        if self.n_views == 0:
            low, high = (epoch - 1) * _VIEWS_AN_EPOCH + 1, epoch * _VIEWS_AN_EPOCH
        jobs = []
        for rows in batches:
            images = np.append(self.matches.left[rows], self.matches.right[rows])
            views = rng.integers(low, high, len(images))
            jobs.append(list(zip(images.tolist(), views.tolist(), strict=True)))
        return jobs

    def _validation_vectors(self) -> NDArray[np.float32]:
        """Return one row an image: the vectors of the validation set, else zeros."""
        import torch

        used = self.held_out
        chunks = np.array_split(used, math.ceil(len(used) / _BATCH))
        jobs = [[(int(image), 0) for image in chunk] for chunk in chunks]
        with torch.no_grad():
            blocks = [
                self.maps.network.tail(one).float().cpu()
                for one in self.maps.batches(jobs)
            ]
        rows = torch.cat(blocks).numpy()
        vectors = np.zeros((used[-1] + 1, rows.shape[1]), dtype=np.float32)
        vectors[used] = rows
        return vectors

    def _keep(self, loss: float | None, validation: float) -> None:
        """Add an epoch: all that the next needs, on the disk too."""
        import torch

        epoch = len(self.history)
        self.history.append({"epoch": epoch, "loss": loss, "validation": validation})
        now = {name: one.detach().cpu().clone() for name, one in self.trained.items()}
        if best_epoch(self.history) == epoch:
            self.best = now
        state = {
            "key": self.key,
            "history": self.history,
            "now": now,
            "best": self.best,
            "projection": self.projection.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        with whole_file(self.file) as opened:
            torch.save(state, opened)

    def _restore(self) -> bool:
        """Take up the checkpoint, if there is one of this training."""
        import torch

        try:
            state = torch.load(self.file, map_location="cpu", weights_only=True)
            if state["key"] != self.key:
                return False
            self.projection.load_state_dict(state["projection"])
            self.optimiser.load_state_dict(state["optimiser"])
            self._put(state["now"])
            self.history, self.best = state["history"], state["best"]
        except Exception:  # damaged in whatever way: the epochs are done again
            return False
        return True

    def _put(self, parameters: dict[str, Any]) -> None:
        """Write parameters into the network."""
        import torch

        with torch.no_grad():
            for name, one in parameters.items():
                self.trained[name].copy_(one)
