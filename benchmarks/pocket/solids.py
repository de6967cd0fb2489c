"""Images by rays and by chance: shaded solids from two sides, flames, clouds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from layers import palette

__all__ = ["clouds", "flames", "solids"]


@dataclass(frozen=True)
class _Solid:
    """An ellipsoid or box: where, how turned, how large, and its solid texture."""

    is_box: bool
    middle: np.ndarray
    turn: np.ndarray
    half: np.ndarray
    colours: np.ndarray
    waves: np.ndarray
    sharpness: float


def solids(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a scene with depth seen twice: other viewpoint, other light.

    The texture is a function of the place in the thing, so it stays on it as the
    viewpoint moves.
    """
    colours = palette(rng, 6)
    things = [_draw(rng, colours) for _ in range(int(rng.integers(1, 6)))]
    ground = _draw(rng, colours)
    side = rng.uniform(-0.5, 0.5)
    height = rng.uniform(0.25, 0.7)
    seen = []
    for _ in range(2):
        at = side + rng.uniform(-0.45, 0.45), height + rng.uniform(-0.15, 0.25)
        distance = rng.uniform(2.6, 3.8)
        light = np.array([rng.normal(0, 0.7), 1.0, rng.normal(-0.5, 0.5)])
        seen.append(_trace(things, ground, at, distance, light, size))
    return seen[0], seen[1]


def _draw(rng: np.random.Generator, colours: np.ndarray) -> _Solid:
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    half = 0.45 * np.exp(rng.normal(0, 0.4, 3)) * rng.uniform(0.5, 1.2)
    middle = np.array([rng.uniform(-0.9, 0.9), half.mean() * 0.8, rng.uniform(-1, 0.7)])
    pair = colours[rng.integers(len(colours), size=2)]
    waves = rng.normal(0, 1, (4, 4)) * (6, 6, 6, 3) * rng.uniform(0.4, 2.0)
    return _Solid(
        bool(rng.uniform() < 0.5), middle, turn, half, pair, waves, rng.uniform(0.4, 4)
    )


def _trace(
    things: list[_Solid],
    ground: _Solid,
    at: tuple[float, float],
    distance: float,
    light: np.ndarray,
    size: int,
) -> np.ndarray:
    """Return what a camera sees that looks at the middle of the ground."""
    yaw, pitch = at
    eye = distance * np.array(
        [np.sin(yaw) * np.cos(pitch), np.sin(pitch) + 0.1, -np.cos(yaw) * np.cos(pitch)]
    )
    ahead = np.array([0, 0.3, 0]) - eye
    ahead /= np.linalg.norm(ahead)
    right = np.cross([0, 1, 0], ahead)
    right /= np.linalg.norm(right)
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    rays = ahead + 0.9 * (x[..., None] * right - y[..., None] * np.cross(ahead, right))
    light = light / np.linalg.norm(light)
    with np.errstate(divide="ignore", invalid="ignore"):
        far = np.where(rays[..., 1] < -0.02, -eye[1] / rays[..., 1], 30.0)
    far = np.minimum(far, 30.0)
    place = eye + far[..., None] * rays
    image = _texture(ground, place * 0.6) * (0.35 + 0.65 * max(light[1], 0))
    sky = ground.colours[1] * (0.7 + 0.3 * y[..., None])
    image = np.where((far >= 12)[..., None], sky, image)
    for thing in things:
        hit, normal, inside = _hit(thing, eye, rays)
        nearer = hit < far
        far = np.where(nearer, hit, far)
        shade = 0.3 + 0.75 * np.clip(normal @ light, 0, 1)
        shine = np.clip(normal @ light, 0, 1) ** 20 * 0.4
        colour = _texture(thing, inside * 0.7) * shade[..., None] + shine[..., None]
        image = np.where(nearer[..., None], colour, image)
    return np.clip(image, 0, 1).astype(np.float32)


def _texture(thing: _Solid, place: np.ndarray) -> np.ndarray:
    waves = np.sin(place @ thing.waves[:, :3].T + thing.waves[:, 3]).sum(axis=-1)
    mix = np.clip(0.5 + thing.sharpness * 0.4 * waves, 0, 1)[..., None]
    mixed: np.ndarray = thing.colours[0] * (1 - mix) + thing.colours[1] * mix
    return mixed


def _hit(
    thing: _Solid, eye: np.ndarray, rays: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distances, normals and places in the thing of where rays meet it."""
    start = (thing.turn @ (eye - thing.middle)) / thing.half
    step = (rays @ thing.turn.T) / thing.half
    if thing.is_box:
        with np.errstate(divide="ignore", invalid="ignore"):
            sides = np.stack([(-1 - start) / step, (1 - start) / step])
        near = sides.min(axis=0).max(axis=-1)
        leave = sides.max(axis=0).min(axis=-1)
        hit = np.where((near < leave) & (near > 0), near, np.inf)
        inside = start + np.where(np.isfinite(hit), hit, 0)[..., None] * step
        face = np.abs(inside).argmax(axis=-1)
        normal = np.eye(3)[face] * np.sign(inside)
    else:
        a, b = (step * step).sum(-1), step @ start
        root = b * b - a * (start @ start - 1)
        hit = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
        hit = np.where(hit > 0, hit, np.inf)
        inside = start + np.where(np.isfinite(hit), hit, 0)[..., None] * step
        normal = inside
    normal = (normal / thing.half) @ thing.turn
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    return hit, normal, inside * thing.half * 4


def flames(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a flame fractal and one of nearly the same maps in other colours.

    Points jump by random affine maps (Barnsley, Fractals Everywhere), bent by a sine
    as in Draves' flames; how often a pixel is met is its light.
    """
    n_maps = int(rng.integers(2, 5))
    maps = rng.uniform(-1, 1, (n_maps, 2, 3))
    maps[:, :, :2] *= (
        0.9
        / np.maximum(np.linalg.norm(maps[:, :, :2], 2, axis=(1, 2)), 0.5)[:, None, None]
    )
    bend = rng.uniform() < 0.5
    ground, first, second = palette(rng, 3), palette(rng, 2), palette(rng, 2)
    near = maps + rng.normal(0, 0.03, maps.shape)
    if rng.uniform() < 0.5:
        second = first
    return (
        _flame(maps, bend, ground[0], first, rng, size),
        _flame(near, bend, ground[rng.integers(2)], second, rng, size),
    )


def _flame(
    maps: np.ndarray,
    bend: bool,
    ground: np.ndarray,
    colours: np.ndarray,
    rng: np.random.Generator,
    size: int,
) -> np.ndarray:
    place, hue = rng.uniform(-1, 1, (3000, 2)), rng.uniform(0, 1, 3000)
    met, tint = np.zeros(size * size), np.zeros(size * size)
    for turn in range(28):
        chosen = rng.integers(len(maps), size=len(place))
        chosen_maps = maps[chosen]
        place = (chosen_maps[:, :, :2] @ place[..., None])[..., 0]
        place += chosen_maps[:, :, 2]
        if bend:
            place = np.where((chosen == 0)[:, None], np.sin(2 * place), place)
        hue = (hue + chosen / max(len(maps) - 1, 1)) / 2
        if turn < 6:
            continue
        pixel = np.floor((place / 3.2 + 0.5) * size).astype(int)
        inside = ((pixel >= 0) & (pixel < size)).all(axis=1)
        index = pixel[inside, 1] * size + pixel[inside, 0]
        met += np.bincount(index, minlength=size * size)
        tint += np.bincount(index, hue[inside], minlength=size * size)
    light = np.log1p(met) / np.log1p(met.max() + 1)
    mean = (tint / np.maximum(met, 1))[:, None]
    colour = colours[0] * (1 - mean) + colours[1] * mean
    alpha = np.clip(1.6 * light, 0, 1)[:, None]
    image = ground * (1 - alpha) + colour * alpha
    return np.clip(image, 0, 1).reshape(size, size, 3).astype(np.float32)


def clouds(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return coloured noise with the spectrum of photographs, and its like.

    The two share their coarse waves; fine ones and colours are drawn anew.
    """
    slope, colours = rng.uniform(1.2, 2.2), palette(rng, 6)
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    frequency = np.maximum(np.hypot(fy, fx), 1 / size)
    coarse = np.exp(-((frequency * size / 6) ** 2))
    shared = np.fft.rfft2(rng.normal(size=(3, size, size)))
    n_steps = int(rng.integers(2, 6)) if rng.uniform() < 0.6 else 0
    pair = []
    for index in range(2):
        own = np.fft.rfft2(rng.normal(size=(3, size, size)))
        spectrum = (shared * coarse + own * (1 - coarse)) / frequency**slope
        fields = np.fft.irfft2(spectrum, s=(size, size))
        fields = 0.5 + 0.25 * fields / fields.std(axis=(1, 2), keepdims=True)
        if n_steps:
            fields = np.round(fields * n_steps) / n_steps
        tints = colours if index == 0 or rng.uniform() < 0.6 else palette(rng, 6)
        base = tints[0] + sum(
            fields[i, :, :, None] * (tints[i + 1] - tints[0]) for i in range(3)
        )
        pair.append(np.clip(base, 0, 1).astype(np.float32))
    return pair[0], pair[1]
