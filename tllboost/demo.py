"""The demo set: scenes cut from photographs that other packages ship, and their pairs.

scikit-image and scikit-learn bring a few photographs inside their wheels. A scene is
one square region of one of them, no two regions overlap, and a view is the region
seen anew: another crop, perspective, light, focus and compression. Views of one scene
match. Nothing is downloaded and the photographs stay where they are; ``china.jpg`` and
``flower.jpg`` are under CC BY 2.0, credited in scikit-learn's own folder.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import itertools
import os
import tempfile
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from tllboost.errors import WHY, DataError, UsageError, check_range, retold
from tllboost.files import write_text

# Only what the wheels hold: anything else would be downloaded.
_PHOTOGRAPHS = {
    "skimage": (
        "data",
        """
        astronaut.png brick.png camera.png chelsea.png coffee.png coins.png grass.png
        gravel.png hubble_deep_field.jpg ihc.png moon.png motorcycle_left.png page.png
        retina.jpg rocket.jpg text.png
    """,
    ),
    "sklearn": ("datasets/images", "china.jpg flower.jpg"),
}
_SIDE = 96
"""Side of a region in pixels of its photograph."""

_NOT_WRITTEN = f"can't write the demo set ({WHY})"
_LEAST_DETAIL = 3.0
"""Mean step between neighbouring grey levels (0 to 255) below which all looks alike."""


_Region = tuple[Path, tuple[int, int, int, int]]
"""A photograph, and the left, upper, right and lower end of a square of it."""


def make_scenes(
    folder: str | PathLike[str],
    *,
    n_scenes: int = 240,
    n_views: int = 3,
    size: int = 160,
    seed: int = 0,
    n_new: int = 0,
) -> Path:
    """Write the demo set: images ``scene_0001_0.jpg …`` and their ``pairs.csv``.

    Parameters
    ----------
    folder : path-like
        Where to write; made if absent. Scenes of an earlier run there are replaced.
    n_scenes : int, default=240
        Number of regions, drawn from all photographs in turn.
    n_views : int, default=3
        Views of each region, 2 to 10. The first view of a scene is paired with each
        of the others.
    size : int, default=160
        Side of the images in pixels.
    seed : int, default=0
        The same seed gives the same bytes with the same library versions.
    n_new : int, default=0
        Number of further scenes that are in no pair: they go to the folder ``new``.

    Returns
    -------
    Path
        The pair table.

    Raises
    ------
    UsageError
        If a number is out of range.
    DataError
        If the folder can't be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = make_scenes(folder, n_scenes=2, size=32)
    ...     print(table.read_text().splitlines()[1])
    scene_0001_0,scene_0001_1
    """
    check_range("n_scenes", n_scenes, 1, 9999)
    check_range("n_views", n_views, 2, 10)
    check_range("size", size, 16, 1024)
    check_range("seed", seed, 0, 2**63 - 1)
    regions = _draw_regions(n_scenes + n_new, seed)
    folder = Path(folder)
    with retold(f"{folder}: {_NOT_WRITTEN}", DataError, OSError):
        (folder / "new" if n_new else folder).mkdir(parents=True, exist_ok=True)
        # The table goes first and comes last: where it stands, all images do.
        (folder / "pairs.csv").unlink(missing_ok=True)
        digit = "[0-9]"
        for path in [*folder.glob(f"scene_{4 * digit}_{digit}.jpg")]:  # of earlier runs
            path.unlink()
        photographs = {path: _open(path) for path in {path for path, _ in regions}}
        rows = []
        for scene, (path, box) in enumerate(regions, start=1):
            tile = photographs[path].crop(box)
            place = folder / "new" if scene > n_scenes else folder
            for view in range(n_views):
                rng = np.random.default_rng([seed, scene, view])
                path = place / _view_name(scene, view)
                path.write_bytes(_view(tile, size, rng))
                if view > 0 and scene <= n_scenes:
                    rows.append(f"scene_{scene:04d}_0,{path.stem}\n")
        write_text(folder / "pairs.csv", "left,right\n" + "".join(rows))
    return folder / "pairs.csv"


def _photographs() -> list[Path]:
    """Return the photographs that the installed packages hold."""
    found = []
    for package, (place, names) in _PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        for root in (spec and spec.submodule_search_locations) or []:
            found += [Path(root, place, name) for name in names.split()]
    return [path for path in found if path.is_file()]


def _open(path: Path) -> Image.Image:
    with Image.open(path) as photograph:
        return photograph.convert("RGB")


def _draw_regions(n_scenes: int, seed: int) -> list[_Region]:
    """Take one region of each photograph in turn, so that none outweighs the rest."""
    rng = np.random.default_rng(seed)
    drawn = []
    for path in _photographs():
        regions = _regions(path)
        drawn.append([regions[i] for i in rng.permutation(len(regions))])
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*drawn))
    regions = [region for region in in_turn if region is not None]
    if n_scenes > len(regions):
        msg = (
            f"n_scenes={n_scenes} is too many: the photographs in scikit-image and "
            f"scikit-learn hold {len(regions)} regions that are not blank"
        )
        raise UsageError(msg)
    return regions[:n_scenes]


@functools.cache
def _regions(path: Path) -> list[_Region]:
    """Return the squares of a regular grid that hold enough detail."""
    grey = np.asarray(_open(path).convert("L"), dtype=np.float32)
    height, width = grey.shape
    # The grid stands in the middle: borders hold frames more often than detail.
    x0, y0 = width % _SIDE // 2, height % _SIDE // 2
    corners = itertools.product(
        range(y0, height - _SIDE + 1, _SIDE), range(x0, width - _SIDE + 1, _SIDE)
    )
    return [
        (path, (x, y, x + _SIDE, y + _SIDE))
        for y, x in corners
        if _detail(grey[y : y + _SIDE, x : x + _SIDE]) >= _LEAST_DETAIL
    ]


def _detail(grey: np.ndarray) -> float:
    """Return the mean step between neighbours, after averaging the grain away.

    Only the middle counts, since every view shows it.
    """
    grey = grey[_SIDE // 5 : -_SIDE // 5, _SIDE // 5 : -_SIDE // 5]
    side = len(grey) // 2 * 2
    smooth = grey[:side, :side].reshape(side // 2, 2, side // 2, 2).mean(axis=(1, 3))
    steps = np.abs(np.diff(smooth, axis=0)).mean() + np.abs(np.diff(smooth)).mean()
    return float(steps / 2)


def _view(tile: Image.Image, size: int, rng: np.random.Generator) -> bytes:
    """Return one view of a region as the bytes of a JPEG."""
    image = _warp(tile, size, rng)
    image = _light(image, rng)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, size / 80)))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=int(rng.integers(15, 60)))
    return data.getvalue()


def _warp(tile: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Look at a part of the region, turned a little and from an angle."""
    side = rng.uniform(0.55, 0.8)
    angle = rng.uniform(-0.25, 0.25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    square = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) / 2  # as Pillow wants it
    corners = side * square @ turn + rng.uniform(-0.06, 0.06, (4, 2))
    room = np.clip(0.5 - np.abs(corners).max(axis=0), 0, None)
    corners = np.clip(0.5 + corners + rng.uniform(-room, room), 0, 1)
    quad = tuple(float(value) for value in (corners * tile.width).ravel())
    return tile.transform(
        (size, size), Image.Transform.QUAD, quad, Image.Resampling.BICUBIC
    )


def _light(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change brightness, contrast, the colour of the light and the sensor's noise."""
    levels = np.arange(256, dtype=np.float32)[:, None] / 255  # there are no others
    levels = levels ** np.exp(rng.uniform(-0.5, 0.5))
    levels = (levels - 0.5) * rng.uniform(0.6, 1.2) + 0.5 + rng.uniform(-0.1, 0.1)
    levels = levels * np.exp(rng.uniform(-0.2, 0.2, 3))
    pixels = np.take_along_axis(levels, np.asarray(image).reshape(-1, 3), axis=0)
    pixels = pixels.reshape(image.height, image.width, 3)
    pixels = pixels + rng.normal(0, rng.uniform(0, 0.05), pixels.shape)
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


class DemoSet(NamedTuple):
    """Where the parts of the demo lie.

    Attributes
    ----------
    pairs : Path
        The pair table; its images lie beside it.
    query, match, other : Path
        Images that no pair has: two views of one new scene, and a view of another.
    """

    pairs: Path
    query: Path
    match: Path
    other: Path


def make_demo_set(
    folder: str | os.PathLike[str], *, n_scenes: int = 240, n_views: int = 3
) -> DemoSet:
    """Make the demo set, or find it where it was made before.

    Parameters
    ----------
    folder : path-like
        Where to: images and ``pairs.csv``, and in ``new`` the images kept out.
    n_scenes, n_views : int, default=240, 3
        As in `tllboost.demo.make_scenes`; two more scenes are kept out.

    Raises
    ------
    UsageError
        If the folder holds something else.
    DataError
        If it can't be written.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     demo = make_demo_set(Path(parent, "demo"), n_scenes=2, n_views=2)
    ...     demo.pairs.read_text().splitlines()[-1], demo.query.name
    ('scene_0002_0,scene_0002_1', 'scene_0003_0.jpg')
    """
    root = Path(folder)
    kept_out = (
        _view_name(n_scenes + one, view) for one, view in ((1, 0), (1, 1), (2, 0))
    )
    demo = DemoSet(root / "pairs.csv", *(root / "new" / name for name in kept_out))
    if all(path.is_file() for path in demo):
        return demo
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        msg = f"{root} holds other files than this demo's: give a new folder"
        raise UsageError(msg)
    # All of it beside its place, so that it stands there whole or not at all.
    with retold(f"{root}: {_NOT_WRITTEN}", DataError, OSError):
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=root.parent, prefix=f".{root.name}.", ignore_cleanup_errors=True
        ) as partial:
            made = Path(partial, "demo")
            make_scenes(made, n_scenes=n_scenes, n_views=n_views, n_new=2)
            if root.exists():
                root.rmdir()
            made.rename(root)
    return demo


def _view_name(scene: int, view: int) -> str:
    return f"scene_{scene:04d}_{view}.jpg"
