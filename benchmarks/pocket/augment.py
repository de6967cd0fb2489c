"""Views of images: laid on clutter, turned, lit and focused otherwise, in batches.

All work is on tensors. What is shown as the same thing twice never lies on the same
clutter, while many different things of one batch do: so clutter tells nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

__all__ = ["Strength", "halved", "instance_views", "look_views"]

_N_CLUTTERS = 6


@dataclass(frozen=True)
class Strength:
    """Which changes a training makes; each may be left out to see what it gives."""

    clutter: bool = True
    geometry: bool = True
    light: bool = True
    focus: bool = True


def instance_views(
    images: torch.Tensor,
    clutter: torch.Tensor,
    size: int,
    strength: Strength,
    rng: torch.Generator,
) -> torch.Tensor:
    """Return photographs of flat things: on clutter, turned, tilted, badly lit.

    Parameters
    ----------
    images : Tensor of shape (n, 3, side, side), float32, 0 to 1
    clutter : Tensor of shape (n_clutter, 3, side, side), float32, 0 to 1
        Images to lay them on; six are drawn for the whole batch.
    size : int
        Side of the views.
    """
    n = len(images)
    on_clutter = _chance(n, 0.65, rng) & strength.clutter
    scale = torch.where(
        on_clutter, _uniform(n, 0.5, 1.05, rng), _uniform(n, 0.95, 1.9, rng)
    )
    angle = torch.randn(n, generator=rng) * 0.22
    turned = _chance(n, 0.35, rng)
    angle = torch.where(turned, _uniform(n, -3.14, 3.14, rng), angle)
    if not strength.geometry:
        angle, scale = angle * 0, torch.where(on_clutter, 0.8, 1.2)
    stretch = torch.randn(n, generator=rng) * 0.22
    tilt = torch.randn(n, 2, generator=rng) * 0.16 * strength.geometry
    room = (scale - 1).abs() * 0.9 + 0.05
    shift = (torch.rand(n, 2, generator=rng) * 2 - 1) * room[:, None]
    things = _warp(images, _grids(scale, angle, stretch, tilt, shift, size))
    views, alpha = things[:, :3], things[:, 3:]
    ground = _grounds(clutter, n, size, rng)
    blank = _chance(n, 0.12, rng) | ~torch.tensor(strength.clutter).expand(n)
    plain = torch.rand(n, 3, 1, 1, generator=rng).round(decimals=1)
    ground = torch.where(blank[:, None, None, None], plain, ground)
    views = _shine(views, strength, rng) * alpha + ground * (1 - alpha)
    views = _cover(views, rng) if strength.clutter else views
    return _camera(views, strength, rng)


def look_views(
    images: torch.Tensor, size: int, strength: Strength, rng: torch.Generator
) -> torch.Tensor:
    """Return whole images, cut and turned a little, often framed, grey or faded."""
    n = len(images)
    scale = _uniform(n, 0.8, 1.35, rng)
    angle = torch.randn(n, generator=rng) * 0.1
    stretch = torch.randn(n, generator=rng) * 0.12
    tilt = torch.randn(n, 2, generator=rng) * 0.05
    shift = (torch.rand(n, 2, generator=rng) * 2 - 1) * (
        (scale - 1).abs()[:, None] * 0.9 + 0.04
    )
    grids = _grids(scale, angle, stretch, tilt, shift, size)
    mirrored = _chance(n, 0.15, rng)
    grids[..., 0] = torch.where(mirrored[:, None, None], -grids[..., 0], grids[..., 0])
    things = _warp(images, grids)
    frame = torch.where(_chance(n, 0.7, rng), 0.0, 1.0)[:, None, None, None]
    views = things[:, :3] * things[:, 3:] + frame * (1 - things[:, 3:])
    views = _bars(views, rng)
    return _camera(views, strength, rng)


def halved(images: torch.Tensor) -> torch.Tensor:
    """Return images at half their side: four strided sums, faster than pooling."""
    rows = images[..., ::2, :] + images[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def _blurred(views: torch.Tensor, times: int) -> torch.Tensor:
    """Return views as a smaller image holds them."""
    side = views.shape[-1]
    small = functional.interpolate(views, side // times, mode="bilinear")
    return functional.interpolate(small, side, mode="bilinear")


def _uniform(n: int, low: float, high: float, rng: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(n, generator=rng)


def _chance(n: int, share: float, rng: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=rng) < share


def _grids(
    scale: torch.Tensor,
    angle: torch.Tensor,
    stretch: torch.Tensor,
    tilt: torch.Tensor,
    shift: torch.Tensor,
    size: int,
) -> torch.Tensor:
    """Return where each pixel of a view lies in the image, in [-1, 1]."""
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    wide, tall = (
        scale * torch.exp(-stretch.abs() * (stretch > 0)),
        scale * torch.exp(-stretch.abs() * (stretch <= 0)),
    )
    maps = torch.stack(
        [
            torch.stack([cos / wide, sin / wide, zero], 1),
            torch.stack([-sin / tall, cos / tall, zero], 1),
            torch.stack([tilt[:, 0], tilt[:, 1], torch.ones_like(angle)], 1),
        ],
        dim=1,
    )
    steps = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    x, y = x.reshape(1, -1) - shift[:, :1], y.reshape(1, -1) - shift[:, 1:]
    places = maps @ torch.stack([x, y, torch.ones_like(x)], 1)
    places = places[:, :2] / places[:, 2:].clamp(min=0.2)
    return places.transpose(1, 2).reshape(-1, size, size, 2)


def _warp(images: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
    """Return images seen through grids, and where they are, as a fourth channel."""
    seen = functional.grid_sample(
        images, grids, padding_mode="border", align_corners=False
    )
    edge = (1.0 - grids.abs().amax(dim=-1, keepdim=True).movedim(-1, 1)) * 40
    return torch.cat([seen, edge.clamp(0, 1)], dim=1)


def _grounds(
    clutter: torch.Tensor, n: int, size: int, rng: torch.Generator
) -> torch.Tensor:
    """Return what things lie on: parts of few images, shared by the whole batch."""
    few = clutter[torch.randint(len(clutter), (_N_CLUTTERS,), generator=rng)]
    chosen = few[torch.randint(_N_CLUTTERS, (n,), generator=rng)]
    half = halved(chosen)  # they are shown larger, and out of focus
    scale, angle = _uniform(n, 1.0, 2.2, rng), _uniform(n, -0.4, 0.4, rng)
    shift = (torch.rand(n, 2, generator=rng) * 2 - 1) * (scale - 1)[:, None]
    none, flat = torch.zeros(n), torch.zeros(n, 2)
    grids = _grids(scale, angle, none, flat, shift, size // 2)
    seen = _warp(half, grids)[:, :3]
    return functional.interpolate(seen, scale_factor=2)


def _shine(
    views: torch.Tensor, strength: Strength, rng: torch.Generator
) -> torch.Tensor:
    """Return things with a highlight on their surface, sometimes."""
    if not strength.light:
        return views
    n, side = len(views), views.shape[-1]
    steps = torch.linspace(-1, 1, side)
    middle, wide = torch.rand(n, 2, generator=rng) * 2 - 1, _uniform(n, 3, 20, rng)
    across = (steps[None] - middle[:, :1]) ** 2
    down = (steps[None] - middle[:, 1:]) ** 2
    spot = torch.exp(-wide[:, None, None] * (across[:, None] + down[:, :, None]))
    power = _uniform(n, 0, 0.8, rng) * _chance(n, 0.3, rng)
    return views + power[:, None, None, None] * spot[:, None]


def _cover(views: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Return views with a patch of one colour over a border, sometimes."""
    n, side = len(views), views.shape[-1]
    steps = torch.linspace(-1, 1, side)
    middle = torch.rand(n, 2, generator=rng) * 2 - 1
    half = _uniform(n, 0.1, 0.35, rng) * _chance(n, 0.25, rng)
    across = (steps[None] - middle[:, :1]).abs() < half[:, None]
    down = (steps[None] - middle[:, 1:]).abs() < half[:, None]
    patch = (across[:, None] & down[:, :, None])[:, None]
    return torch.where(patch, torch.rand(n, 3, 1, 1, generator=rng), views)


def _bars(views: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Return views with black bars above and below or left and right, sometimes."""
    n, side = len(views), views.shape[-1]
    steps = torch.linspace(-1, 1, side).abs()
    wide = _uniform(n, 0.7, 1.0, rng) + _chance(n, 0.5, rng)
    upright = _chance(n, 0.5, rng)[:, None, None, None]
    rows = (steps[None] < wide[:, None])[:, None, :, None]
    columns = (steps[None] < wide[:, None])[:, None, None]
    return views * torch.where(upright, rows, columns)


def _camera(
    views: torch.Tensor, strength: Strength, rng: torch.Generator
) -> torch.Tensor:
    """Return views in another light, out of focus, with noise."""
    n = len(views)

    def amount(values: torch.Tensor) -> torch.Tensor:
        return values[:, None, None, None]

    if strength.focus:
        small, softer = _blurred(views, 2), _blurred(views, 3)
        much = amount(_uniform(n, 0, 1, rng) * _chance(n, 0.4, rng))
        views = torch.where(amount(_chance(n, 0.3, rng)), softer, views)
        views = views + much * (small - views)
    if strength.light:
        gamma = torch.exp(torch.randn(n, generator=rng) * 0.35)
        views = views.clamp(1e-4, 1) ** amount(gamma)
        gain = torch.exp(torch.randn(n, 3, 1, 1, generator=rng) * 0.14)
        gain = gain * amount(torch.exp(torch.randn(n, generator=rng) * 0.2))
        lift = amount(torch.randn(n, generator=rng) * 0.06)
        grey = views.mean(dim=1, keepdim=True)
        colour = torch.where(
            _chance(n, 0.1, rng), torch.zeros(n), _uniform(n, 0.4, 1.4, rng)
        )
        views = (grey + amount(colour) * (views - grey)) * gain + lift
        slope = torch.randn(n, 2, generator=rng) * 0.2
        steps = torch.linspace(-1, 1, views.shape[-1])
        fall = slope[:, :1, None] * steps[:, None] + slope[:, 1:, None] * steps
        views = views * (1 + fall[:, None])
    if strength.focus:
        noise = torch.randn(views.shape, generator=rng)
        views = views + noise * amount(_uniform(n, 0, 0.05, rng))
    return views.clamp(0, 1)
