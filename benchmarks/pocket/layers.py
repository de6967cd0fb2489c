"""Images of painted layers: shapes of one paint each, over each other.

An image is a list of layers, so that the same layout can be drawn again with other
colours, textures and slightly moved shapes: that is what "looks alike" means here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["Layer", "Paint", "blob", "box", "new_paint", "palette", "render", "restyle"]

_N_FIELDS = 48
_FIELD_SIDE = 256
KINDS = ("flat", "shade", "grain", "cloud", "stripes", "checks", "dots")


@dataclass(frozen=True)
class Paint:
    """Two colours and how they mix over a shape.

    Parameters
    ----------
    dark, light : ndarray of shape (3,)
        Colours, 0 to 1.
    kind : str
        One of ``KINDS``.
    scale, angle, phase : float
        Of the pattern: periods an image's side, radians, 0 to 1.
    """

    dark: np.ndarray
    light: np.ndarray
    kind: str
    scale: float
    angle: float
    phase: float


@dataclass(frozen=True)
class Layer:
    """A filled polygon: corners in [0, 1], x to the right and y down, and its paint."""

    corners: np.ndarray
    paint: Paint
    is_detail: bool = False


@cache
def _fields() -> np.ndarray:
    """Return random fields whose power falls with frequency as in photographs."""
    rng = np.random.default_rng(7)
    side = _FIELD_SIDE
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    frequency = np.maximum(np.hypot(fy, fx), 1 / side)
    fields = []
    for index in range(_N_FIELDS):
        slope = (0.8, 1.2, 1.6, 2.0)[index % 4]
        noise = np.fft.rfft2(rng.normal(size=(side, side))) / frequency**slope
        field = np.fft.irfft2(noise, s=(side, side))
        ranks = field.ravel().argsort().argsort().reshape(side, side)
        fields.append((ranks / side**2).astype(np.float32))
    return np.stack(fields)


def palette(rng: np.random.Generator, n_colours: int) -> np.ndarray:
    """Return colours as of photographs: greys and browns often, bright ones at times.

    Returns
    -------
    ndarray of shape (n_colours, 3), float32
    """
    grey = rng.beta(0.9, 0.9, (n_colours, 1))
    strength = rng.choice([0.04, 0.14, 0.45], p=[0.3, 0.4, 0.3])
    tint = rng.normal(0, 1, (n_colours, 3)) * strength
    cast = rng.normal(0, 0.06, 3)
    warm = np.array([0.12, 0.02, -0.12]) * rng.normal(0.5, 1)
    return np.clip(grey + tint + cast + warm, 0, 1).astype(np.float32)


def new_paint(
    rng: np.random.Generator, colours: np.ndarray, kinds: tuple[str, ...] = KINDS
) -> Paint:
    """Draw a paint from the colours of a palette."""
    first, second = rng.integers(len(colours), size=2)
    mix = rng.uniform(0.1, 1)
    return Paint(
        colours[first],
        colours[first] * (1 - mix) + colours[second] * mix,
        str(rng.choice(kinds)),
        float(np.exp(rng.uniform(np.log(3), np.log(25)))),
        float(rng.uniform(0, np.pi)),
        float(rng.uniform()),
    )


def blob(
    rng: np.random.Generator, x: float, y: float, width: float, height: float
) -> np.ndarray:
    """Return the corners of a round, wavy shape about a centre."""
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    radius = np.ones_like(angle)
    for order in range(2, 6):
        waviness = rng.normal(0, 0.22 / order)
        radius += waviness * np.cos(order * angle + rng.uniform(0, 6.3))
    return np.stack(
        [
            x + width / 2 * radius * np.cos(angle),
            y + height / 2 * radius * np.sin(angle),
        ],
        axis=1,
    )


def box(
    x: float, y: float, width: float, height: float, angle: float = 0.0
) -> np.ndarray:
    """Return the corners of a rectangle about a centre."""
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, height / 2)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return square @ turn + (x, y)


def render(layers: list[Layer], size: int) -> np.ndarray:
    """Draw layers over each other.

    Returns
    -------
    ndarray of shape (size, size, 3), float32, 0 to 1
    """
    image = np.zeros((size, size, 3), np.float32)
    for layer in layers:
        mask = Image.new("L", (2 * size, 2 * size))
        points = [tuple(point) for point in (layer.corners * 2 * size).tolist()]
        ImageDraw.Draw(mask).polygon(points, fill=255)
        place = mask.getbbox()
        if place is None:
            continue
        left, top = place[0] // 2, place[1] // 2
        right, bottom = (place[2] + 1) // 2, (place[3] + 1) // 2
        inside = mask.crop((2 * left, 2 * top, 2 * right, 2 * bottom)).reduce(2)
        alpha = np.asarray(inside, np.float32)[..., None] / 255
        colour = _colours(layer.paint, size, (left, top, right, bottom))
        part = image[top:bottom, left:right]
        part += alpha * (colour - part)
    return image


def _colours(paint: Paint, size: int, place: tuple[int, int, int, int]) -> np.ndarray:
    """Return what a paint gives in a rectangle of the image."""
    left, top, right, bottom = place
    if paint.kind == "flat":
        return paint.dark
    if paint.kind in ("grain", "cloud"):
        index = int(paint.phase * 997) % (_N_FIELDS // 2)
        field = _fields()[2 * index + (paint.kind == "cloud")]
        shift = int(paint.angle * 60) % (_FIELD_SIDE - size)
        mix = field[top + shift : bottom + shift, left + shift : right + shift]
    else:
        y, x = np.mgrid[top:bottom, left:right].astype(np.float32) / size
        along = x * np.cos(paint.angle) + y * np.sin(paint.angle)
        across = y * np.cos(paint.angle) - x * np.sin(paint.angle)
        along, across = along * paint.scale, across * paint.scale
        if paint.kind == "shade":
            mix = np.clip(along / paint.scale + paint.phase - 0.3, 0, 1)
        elif paint.kind == "stripes":
            mix = np.clip(2 * np.sin(6.28 * (along + paint.phase)) + 0.5, 0, 1)
        elif paint.kind == "checks":
            mix = np.clip(4 * np.sin(3.14 * along) * np.sin(3.14 * across) + 0.5, 0, 1)
        else:
            waves = np.cos(6.28 * along) + np.cos(6.28 * across)
            mix = np.clip(3 * (waves - 0.8), 0, 1)
    mixed: np.ndarray = paint.dark + mix[..., None] * (paint.light - paint.dark)
    return mixed


def restyle(layers: list[Layer], rng: np.random.Generator) -> list[Layer]:
    """Return the same layout drawn anew: shapes moved a little, other paints.

    How far colours change is drawn once an image: hardly, by a new light, or wholly;
    then shapes alone tell that the two look alike.
    """
    change = rng.choice(["keep", "light", "new"], p=[0.35, 0.35, 0.3])
    colours = palette(rng, 6)
    gain, lift = np.exp(rng.normal(0, 0.3, 3)), rng.normal(0, 0.1)
    grow, shift = rng.normal(1, 0.06, 2), rng.normal(0, 0.035, 2)
    redone = []
    for layer in layers:
        if layer.is_detail and rng.uniform() < 0.3:
            continue
        paint = layer.paint
        if change == "new":
            paint = new_paint(rng, colours)
        elif change == "light":
            near = rng.normal(0, 0.06, 3)
            paint = replace(
                paint,
                dark=np.clip(paint.dark * gain + lift + near, 0, 1),
                light=np.clip(paint.light * gain + lift + near, 0, 1),
            )
        if rng.uniform() < 0.5:
            paint = replace(paint, kind=str(rng.choice(KINDS)), phase=rng.uniform())
        redone.append(Layer(_moved(layer.corners, grow, shift, rng), paint))
    return redone


def _moved(
    corners: np.ndarray, grow: np.ndarray, shift: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return a shape moved with its image, and a little on its own."""
    if np.abs(corners - 0.5).max() > 0.9:  # the ground stays
        return corners
    middle = corners.mean(axis=0)
    extent = np.ptp(corners, axis=0).max()
    own = 1 + rng.normal(0, 0.08, 2)
    wobble = rng.normal(0, 0.02 * extent, corners.shape)
    moved = (corners - middle) * own + middle + rng.normal(0, 0.06 * extent, 2)
    return (moved + wobble - 0.5) * grow + 0.5 + shift
