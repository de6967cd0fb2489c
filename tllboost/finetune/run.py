"""`finetune`: from a vectorizer and two sets of a split to a file of weights."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.conventions import n_threads_of, seed_of, usable_cores
from tllboost.dense import threads
from tllboost.errors import ImageError, UsageError
from tllboost.files import finite, whole_file
from tllboost.finetune.images import Maps
from tllboost.finetune.network import all_tensors, cut, global_vectorizer, with_file
from tllboost.finetune.settings import (
    FORMAT,
    FineTuneSettings,
    read_record,
    short_hash,
)
from tllboost.finetune.train import Trainer, best_epoch, tell_again
from tllboost.projections.base import matches_of
from tllboost.splits import PairSet
from tllboost.store import hash_files
from tllboost.vectorizers import Vectorizer
from tllboost.vectorizing import Progress

__all__ = ["finetune"]

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
            column = np.ascontiguousarray(getattr(pairs, name))
            digest.update(column.tobytes() + b"|")
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
            network,
            maps,
            matches,
            validation,
            settings,
            seed=seed,
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
            "trained_on": " ".join(sorted({*map(short_hash, hashes.values())})),
            "history": json.dumps(finite(history), allow_nan=False),
        }
        data = save(all_tensors(base, network.whole), record)
    with whole_file(file) as opened:
        opened.write(data)
    del maps
    shutil.rmtree(work.parent, ignore_errors=True)
    tell(_summary(file, history))
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


def _summary(file: Path, history: list[dict[str, Any]]) -> str:
    best = best_epoch(history)
    if best == 0:
        return f"{file}: no epoch was better on validation; the network is unchanged"
    return (
        f"{file}: epoch {best} of {len(history) - 1}, validation "
        f"{history[0]['validation']:.3f} before, {history[best]['validation']:.3f} now"
    )
