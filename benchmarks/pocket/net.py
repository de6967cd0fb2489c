"""The network: a few residual convolutions, and two heads that they learn from.

One head is for the same thing seen again, whatever lies about it: from the mean and the
peaks of the last map. The other is for images that look alike as wholes: from what
the map holds in each of its parts.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["PocketNet"]

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class PocketNet(nn.Module):
    """Images to two vectors of length 1.

    Parameters
    ----------
    widths : sequence of int
        Channels of the four stages, each at half the resolution of the one before.
    n_dims : int
        Of each of the two vectors.
    n_cells : int
        Parts a side of the map that the second vector is made from.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (32, 64, 128, 192),
        n_dims: int = 128,
        n_cells: int = 4,
    ) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.body = nn.Sequential(
            _convolution(3, first, 2),
            _convolution(first, second, 2),
            _Residual(second),
            _convolution(second, third, 2),
            _Residual(third),
            _convolution(third, fourth, 2),
            _Residual(fourth),
        )
        self.n_cells = n_cells
        self.instance = nn.Linear(2 * fourth, n_dims, bias=False)
        self.instance_norm = nn.BatchNorm1d(n_dims, affine=False)
        self.cell = nn.Conv2d(fourth, 32, 1)
        self.look = nn.Linear(32 * n_cells**2, n_dims, bias=False)
        self.look_norm = nn.BatchNorm1d(n_dims, affine=False)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the two vectors.

        Parameters
        ----------
        images : Tensor of shape (n, 3, height, width), float32
            Normalised by ImageNet's mean and standard deviation.

        Returns
        -------
        instance, look : Tensors of shape (n, n_dims), float32
        """
        maps = self.body(images).float()
        peaks = maps.clamp(min=1e-3).pow(4).mean(dim=(2, 3)).pow(0.25)
        pooled = torch.cat([maps.mean(dim=(2, 3)), peaks], dim=1)
        instance = self.instance_norm(self.instance(pooled))
        parts = functional.adaptive_avg_pool2d(self.cell(maps), self.n_cells)
        look = self.look_norm(self.look(parts.flatten(1)))
        return functional.normalize(instance), functional.normalize(look)


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Return images in [0, 1] as the network wants them."""
    mean, std = (torch.tensor(x)[:, None, None] for x in (_MEAN, _STD))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


class _Residual(nn.Module):
    """Two convolutions around which the input passes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width, 1)
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return functional.relu(maps + self.second(self.first(maps)))


def _convolution(n_in: int, n_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )
