"""Images to vectors on the CPU: us against torch loops as READMEs have them.

From JPEG files to vectors, both networks open beforehand, ours exported beforehand
(once a network; the page says how long that took). Ours goes through the store.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench import compare, options, written
from fetch_data import SHARED
from PIL import Image

from tllboost.conventions import usable_cores
from tllboost.demo import make_scenes
from tllboost.images import open_image
from tllboost.store import VectorStore
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizers.torch import disagreement
from tllboost.vectorizing import space_of, vectorize

PHOTO = (2592, 1944)  # 5 megapixels
TOLERANCE = 1e-4


def plain_loop(network: Any, transform: Any, paths: list[Path]) -> np.ndarray:
    """Return vectors one image at a time, as timm's and open_clip's README do."""
    import torch

    rows = []
    with torch.inference_mode():
        for path in paths:
            with Image.open(path) as image:
                pixels = transform(image.convert("RGB")).unsqueeze(0)
            rows.append(network(pixels)[0].numpy())
    return np.stack(rows)


def loader_loop(network: Any, transform: Any, paths: list[Path]) -> np.ndarray:
    """Return vectors in batches from torch's DataLoader, a worker a core.

    Of 32 images, or of fewer so that each worker has some.
    """
    import torch

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> Any:
            with Image.open(paths[index]) as image:
                return transform(image.convert("RGB"))

    loader = torch.utils.data.DataLoader(
        Images(),
        batch_size=min(32, -(-len(paths) // (2 * usable_cores()))),
        num_workers=usable_cores(),
    )
    with torch.inference_mode():
        return np.concatenate([network(batch).numpy() for batch in loader])


def drafted_loop(network: Any, transform: Any, paths: list[Path]) -> np.ndarray:
    """Return vectors one image at a time, decoded no larger than is needed."""
    import torch

    rows = []
    with torch.inference_mode():
        for path in paths:
            with Image.open(path) as image:
                image.draft("RGB", (256, 256))
                pixels = transform(image.convert("RGB")).unsqueeze(0)
            rows.append(network(pixels)[0].numpy())
    return np.stack(rows)


class Ours:
    """One vectorizer and its store, which each run empties behind itself."""

    def __init__(self, spec: str, folder: Path, paths: list[Path]) -> None:
        self.vectorizer = make_vectorizer(spec, device="cpu")
        self.store = VectorStore(folder / "store")
        self.paths = paths
        started = time.perf_counter()
        vectorize(self.vectorizer, paths[:1], store=self.store, strict=True)
        self.export_seconds = time.perf_counter() - started

    def __call__(self) -> np.ndarray:
        """Return the vectors, computed anew."""
        self.store.prune(space_of(self.vectorizer))
        result = vectorize(self.vectorizer, self.paths, store=self.store, strict=True)
        return result.vectors

    def profile(self) -> str:
        """Tell how much of the time is the network's own, of prepared images."""
        one = self.vectorizer
        prepared = np.stack(
            [
                one.prepare(open_image(path, shrink_to=one.input_size))
                for path in self.paths
            ]
        )
        network, whole = (
            min(_seconds(work) for _ in range(2))
            for work in (partial(self._forward, prepared), self)
        )
        return (
            f"of our {whole:.2g} s the network alone, on images that are prepared "
            f"already, takes {network:.2g} s on all cores; the rest is decoding and "
            "scaling, which keep the cores busy beside it"
        )

    def _forward(self, prepared: np.ndarray) -> None:
        for start in range(0, len(prepared), 32):
            self.vectorizer.forward(prepared[start : start + 32])


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def same_vectors(ours: np.ndarray, peer: np.ndarray) -> None:
    """Raise where the vectors of an image differ by more than 1e-4 of their length."""
    apart = disagreement(peer, ours)
    if not apart <= TOLERANCE:
        msg = f"not the same vectors: {apart:.2g} of their length apart"
        raise AssertionError(msg)


def alike_vectors(reference: np.ndarray, ours: np.ndarray, peer: np.ndarray) -> None:
    """Raise unless ours are those of the same decoding, and much like the peer's.

    The peer decodes every pixel; an image that is decoded at a quarter is not the
    same to the last digit.
    """
    same_vectors(ours, reference)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(peer, axis=1)
    lowest = float(np.min((ours * peer).sum(axis=1) / lengths))
    if lowest < 0.95:
        msg = f"not the same images: a cosine of {lowest:.3f}"
        raise AssertionError(msg)


def images(folder: Path, n_images: int) -> list[Path]:
    """Return JPEG files: of the challenge where they are, else of made scenes."""
    real = sorted((SHARED / "data" / "tll" / "left").glob("*.jpg"))
    if not real:
        make_scenes(folder, n_scenes=-(-n_images // 10), n_views=10)
        real = sorted(folder.rglob("*.jpg"))
    return real[:n_images]


def photos(folder: Path, n_photos: int) -> list[Path]:
    """Return 5-megapixel JPEGs, each a mosaic of images, so that they have detail."""
    tiles = sorted((SHARED / "data" / "ukbench").rglob("*.jpg")) or images(folder, 80)
    folder.mkdir(exist_ok=True)
    files = []
    for index in range(n_photos):
        photo = Image.new("RGB", PHOTO)
        side = (PHOTO[0] // 4, PHOTO[1] // 4)
        for cell in range(16):
            with Image.open(tiles[(index * 16 + cell) % len(tiles)]) as tile:
                x, y = cell % 4 * side[0], cell // 4 * side[1]
                photo.paste(tile.convert("RGB").resize(side), (x, y))
        files.append(folder / f"photo-{index}.jpg")
        photo.save(files[-1], quality=92)
    return files


def timm_network(arch: str, folder: Path) -> tuple[str, Any, Any]:
    """Return our spec, the network and its transform, real weights where they are."""
    import timm
    import torch

    weights = SHARED / "weights" / f"{arch}.safetensors"
    if not weights.is_file():
        torch.manual_seed(0)
        weights = folder / f"{arch}.pth"
        torch.save(timm.create_model(arch, num_classes=0).state_dict(), weights)
    network = timm.create_model(arch, num_classes=0, checkpoint_path=str(weights))
    config = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**config, is_training=False)
    return f"timm:{arch}@{weights}", network.eval(), transform


def clip_network(arch: str, folder: Path) -> tuple[str, Any, Any]:
    """Return our spec, the network's image side and its transform; random weights."""
    import open_clip
    import torch

    torch.manual_seed(0)
    weights = folder / f"{arch}.pt"
    torch.save(open_clip.create_model(arch).state_dict(), weights)
    model, _, transform = open_clip.create_model_and_transforms(
        f"{arch}-quickgelu", pretrained=str(weights)
    )
    encode = partial(model.eval().encode_image, normalize=True)
    return f"clip:{arch}:openai@{weights}", encode, transform


def measure(
    name: str,
    network: tuple[str, Any, Any],
    paths: list[Path],
    made: Path,
    peers: list[tuple[str, Callable[..., np.ndarray], float]],
    *,
    what: str,
    draft: bool = False,
    runs: int,
    folder: Path | None,
) -> None:
    """Compare us with each peer on the same images."""
    spec, torch_network, transform = network
    ours = Ours(spec, made / name, paths)
    check: Callable[[Any, Any], None] = same_vectors
    if draft:
        check = partial(alike_vectors, drafted_loop(torch_network, transform, paths))
    for peer_name, loop, bar in peers:
        record = compare(
            f"vectorize-{name}-{peer_name}",
            ours,
            partial(loop, torch_network, transform, paths),
            check=check,
            bar=bar,
            what=f"{what}, {len(paths)} images to vectors",
            peer_is={"loop": "plain torch loop", "loader": "DataLoader loop"}[
                peer_name
            ],
            notes=[f"Exporting it took {ours.export_seconds:.1f} s, once."],
            warm_up=False,  # both networks are open, and one run of five is no median
            runs=runs,
            folder=None,
        )
        if record["ratio"]["median"] < bar:
            record["profile"] = ours.profile()
        written(record, folder)


def main() -> None:
    """Measure all of it."""
    said = options(__doc__)
    how = {"runs": said.runs, "folder": said.folder}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        small = timm_network("mobilenetv2_100", folder)
        few = images(folder / "scenes", 4 if said.quick else 24)
        many = images(folder / "scenes", 4 if said.quick else 120)
        measure(
            *("mobilenetv2", small, many, folder),
            [("loop", plain_loop, 3), ("loader", loader_loop, 2)],
            what="MobileNetV2",
            **how,
        )
        measure(
            *("photos", small, photos(folder / "photos", 2 if said.quick else 16)),
            *(folder, [("loop", plain_loop, 1.8)]),
            what="MobileNetV2, 5-megapixel photos",
            draft=True,
            **how,
        )
        if said.quick:
            return
        plain = [("loop", plain_loop, 1.5)]
        vit = timm_network("vit_base_patch32_224", folder)
        measure("vit-b32", vit, few, folder, plain, what="ViT-B/32", **how)
        del vit
        clip = clip_network("RN50", folder)
        measure("clip-rn50", clip, few, folder, plain, what="CLIP RN50", **how)


if __name__ == "__main__":
    main()
