"""Layouts by formula: dead leaves, posters with text-like marks, faces, stages."""

from __future__ import annotations

import numpy as np
from layers import KINDS, Layer, blob, box, new_paint, palette

__all__ = ["LAYOUTS"]

_GROUND = np.array([[-0.5, -0.5], [1.5, -0.5], [1.5, 1.5], [-0.5, 1.5]])
_SMOOTH = ("flat", "shade", "grain", "cloud")


def _leaves(rng: np.random.Generator) -> list[Layer]:
    """Return shapes that hide each other, small ones more often than large ones."""
    colours = palette(rng, int(rng.integers(3, 9)))
    layers = [Layer(_GROUND, new_paint(rng, colours))]
    for _ in range(int(rng.integers(10, 40))):
        size = min(0.11 / np.sqrt(rng.uniform(0.01, 1)), 0.9)
        layers.append(_leaf(rng, rng.uniform(0, 1), rng.uniform(0, 1), size, colours))
    return layers


def _leaf(
    rng: np.random.Generator, x: float, y: float, size: float, colours: np.ndarray
) -> Layer:
    width, height = size * np.exp(rng.normal(0, 0.35, 2))
    if rng.uniform() < 0.4:
        corners = box(x, y, width, height, rng.uniform(0, np.pi))
    else:
        corners = blob(rng, x, y, width, height)
    return Layer(corners, new_paint(rng, colours), is_detail=size < 0.12)


def _poster(rng: np.random.Generator) -> list[Layer]:
    """Return a cover: a ground, a band or two, figures, lines of text-like marks."""
    colours = palette(rng, 5)
    layers = [Layer(_GROUND, new_paint(rng, colours))]
    for _ in range(int(rng.integers(0, 3))):
        y, height = rng.uniform(0, 1), rng.uniform(0.05, 0.4)
        layers.append(Layer(box(0.5, y, 1, height), new_paint(rng, colours)))
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(0.2, 0.8, 2)
        layers += _figure(rng, x, y, rng.uniform(0.25, 0.7), colours)
    for _ in range(int(rng.integers(1, 5))):
        layers += _marks(rng, colours)
    return layers


def _figure(
    rng: np.random.Generator, x: float, y: float, size: float, colours: np.ndarray
) -> list[Layer]:
    """Return a large shape with parts, half of the time with a mirror axis."""
    width, height = size * np.exp(rng.normal(0, 0.25, 2))
    layers = [Layer(blob(rng, x, y, width, height), new_paint(rng, colours))]
    is_mirrored = rng.uniform() < 0.5
    for _ in range(int(rng.integers(1, 7))):
        dx, dy = rng.normal(0, 0.3, 2) * (width, height)
        part = size * rng.uniform(0.1, 0.5)
        one = _leaf(rng, x + dx, y + dy, part, colours)
        layers.append(one)
        if is_mirrored:
            other = one.corners * (-1, 1) + (2 * x, 0)
            layers.append(Layer(other, one.paint, one.is_detail))
    return layers


def _marks(rng: np.random.Generator, colours: np.ndarray) -> list[Layer]:
    """Return one line of strokes, spaced as letters and words are."""
    height = float(np.exp(rng.uniform(np.log(0.03), np.log(0.17))))
    x, y = rng.uniform(0.03, 0.35), rng.uniform(0.05, 0.95)
    end = rng.uniform(x + 0.2, 1.0)
    paint = new_paint(rng, colours, ("flat",))
    thick = height * rng.uniform(0.12, 0.3)
    layers: list[Layer] = []
    while x < end and len(layers) < 60:
        width = height * rng.uniform(0.35, 0.9)
        for _ in range(int(rng.integers(1, 4))):
            if rng.uniform() < 0.6:
                at = x + rng.choice([0, 0.5, 1]) * width
                stroke = box(at, y, thick, height, rng.choice([0, 0, 0.4, -0.4]))
            else:
                at = y + rng.choice([-0.45, 0, 0.45]) * height
                stroke = box(x + width / 2, at, width, thick)
            layers.append(Layer(stroke, paint, is_detail=True))
        x += width + height * (0.25 if rng.uniform() < 0.8 else 0.8)
    return layers


def _face(rng: np.random.Generator) -> list[Layer]:
    """Return a head with hair, eyes, brows, nose and mouth, turned a little."""
    colours = palette(rng, 5)
    skin = np.array([0.85, 0.65, 0.52]) * rng.uniform(0.3, 1.15)
    if rng.uniform() < 0.25:
        skin = colours[0]
    flesh = np.clip(np.stack([skin, skin * 0.75, skin + 0.1]), 0, 1)
    x, y = 0.5 + rng.normal(0, 0.06), 0.45 + rng.normal(0, 0.06)
    width = rng.uniform(0.28, 0.55)
    height = width * rng.uniform(1.1, 1.6)
    turn = rng.normal(0, 0.1) * width
    hair = new_paint(rng, palette(rng, 3) * rng.uniform(0.2, 1))
    layers = [Layer(_GROUND, new_paint(rng, colours))]
    for _ in range(int(rng.integers(0, 5))):
        layers.append(
            _leaf(rng, rng.uniform(), rng.uniform(), rng.uniform(0.1, 0.5), colours)
        )
    long = rng.uniform(0.9, 1.9)
    layers.append(
        Layer(
            blob(
                rng,
                x,
                y + (long - 1.15) * height * 0.35,
                width * rng.uniform(1.05, 1.7),
                height * long,
            ),
            hair,
        )
    )
    clothes = blob(rng, x, 1.08, width * rng.uniform(1.6, 2.8), rng.uniform(0.4, 0.7))
    paint = new_paint(rng, flesh, _SMOOTH)
    layers.append(Layer(box(x, y + height * 0.5, width * 0.45, height * 0.6), paint))
    layers.append(Layer(clothes, new_paint(rng, colours)))
    oval = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    jaw = rng.uniform(0.75, 1.05)
    narrow = np.where(np.sin(oval) > 0, jaw, 1.0)
    outline = np.stack([np.cos(oval) * narrow * width, np.sin(oval) * height], 1) / 2
    layers.append(Layer(outline + np.array([x, y]), paint))
    if rng.uniform() < 0.3:  # a beard
        beard = blob(rng, x + turn / 2, y + height * 0.38, width * 0.7, height * 0.35)
        layers.append(Layer(beard, hair))
    if rng.uniform() < 0.75:  # a fringe
        top = y - height * rng.uniform(0.35, 0.5)
        fringe = blob(rng, x + rng.normal(0, 0.08), top, width, height * 0.35)
        layers.append(Layer(fringe, hair))
    layers += _features(rng, x + turn, y, width, height, hair.dark)
    if rng.uniform() < 0.15:  # a hat
        hat = new_paint(rng, colours)
        layers.append(Layer(box(x, y - height * 0.55, width * 1.1, height * 0.4), hat))
        layers.append(Layer(box(x, y - height * 0.4, width * 1.7, height * 0.1), hat))
    return layers


def _features(
    rng: np.random.Generator,
    x: float,
    y: float,
    width: float,
    height: float,
    hair: np.ndarray,
) -> list[Layer]:
    """Return eyes, brows, nose and mouth; often glasses."""
    grey = np.array([[0.05, 0.05, 0.05], [0.95, 0.95, 0.95]])
    iris = new_paint(rng, palette(rng, 2) * 0.6, ("flat",))
    dark = new_paint(rng, np.stack([hair, hair * 0.8]), ("flat",))
    lips = new_paint(
        rng, np.array([[0.7, 0.25, 0.25]]) * rng.uniform(0.4, 1.2), _SMOOTH
    )
    apart, size = width * rng.uniform(0.2, 0.27), width * rng.uniform(0.12, 0.24)
    level = y - height * rng.uniform(0.02, 0.12)
    open_ = rng.uniform(0.3, 0.8)
    has_glasses = rng.uniform() < 0.2
    layers = []
    for side in (-apart, apart):
        if has_glasses:
            frame = blob(rng, x + side, level, size * 1.9, size * 1.5)
            layers.append(Layer(frame, new_paint(rng, grey * 0.6, ("flat",))))
        white = new_paint(rng, grey[1:], ("flat",))
        layers.append(Layer(_ellipse(x + side, level, size, size * open_), white))
        layers.append(
            Layer(_ellipse(x + side, level, size * 0.5, size * open_ * 0.9), iris)
        )
        tilt = np.sign(side) * rng.normal(0, 0.2)
        brow = box(x + side, level - size * 0.9, size * 1.3, size * 0.25, tilt)
        layers.append(Layer(brow, dark))
    nose = np.array([[0, -0.1], [0.1, 0.15], [-0.1, 0.15]]) * (width, height)
    layers.append(Layer(nose + np.array([x, y + height * 0.05]), dark, is_detail=True))
    mouth = _ellipse(
        x,
        y + height * 0.28,
        width * rng.uniform(0.2, 0.5),
        height * rng.uniform(0.03, 0.2),
    )
    layers.append(Layer(mouth, lips))
    return layers


def _ellipse(x: float, y: float, width: float, height: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    return np.stack(
        [x + width / 2 * np.cos(angle), y + height / 2 * np.sin(angle)], axis=1
    )


def _stage(rng: np.random.Generator) -> list[Layer]:
    """Return things that stand before each other on a plain ground."""
    colours = palette(rng, 6)
    kinds = ("flat", "shade", "grain", "cloud") if rng.uniform() < 0.7 else KINDS
    horizon = rng.uniform(0.2, 0.9)
    layers = [
        Layer(_GROUND, new_paint(rng, colours, kinds)),
        Layer(_GROUND + np.array([0, 0.5 + horizon]), new_paint(rng, colours, kinds)),
    ]
    for depth in np.sort(rng.uniform(0.2, 1, int(rng.integers(1, 7)))):
        y = horizon + (1 - horizon) * rng.uniform(-0.3, 0.8) * depth
        layers += _figure(rng, rng.uniform(0.1, 0.9), y, 0.55 * depth, colours)
    return layers


LAYOUTS = {"leaves": _leaves, "poster": _poster, "face": _face, "stage": _stage}
