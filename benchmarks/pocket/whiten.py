"""The layout vector: what the last map holds in nine parts, whitened.

Principal components are taken on views of images by formula, and each is divided by
its spread, so that what varies much everywhere does not drown what tells (Jégou & Chum,
2012). Nothing here is learned by gradients: it is one linear map after the training.
"""

from __future__ import annotations

import numpy as np
import torch
from augment import Strength, look_views
from net import PocketNet, normalised
from torch.nn import functional

__all__ = ["N_DIMS", "Layout", "parts", "whitening"]

N_DIMS = 256
_N_IMAGES = 2500
_SHRINK = 0.1  # of the largest variance, so that the least are not blown up
_BATCH = 100

Layout = tuple[torch.Tensor, torch.Tensor]
"""Weight (n_dims, n_in) and bias (n_dims,) of the linear map."""


def parts(maps: torch.Tensor) -> torch.Tensor:
    """Return the means of three by three overlapping parts of maps, side by side."""
    side = maps.shape[-1] // 2
    return functional.avg_pool2d(maps, side, side // 2).flatten(1)


@torch.no_grad()
def whitening(net: PocketNet, bank: np.ndarray, size: int) -> Layout:
    """Return the linear map that whitens the parts of a trained network's map.

    Parameters
    ----------
    bank : ndarray of shape (n_scenes, 2, side, side, 3), uint8
        The first 2,500 scenes are used.
    size : int
        Side of the network's input.
    """
    net.eval()
    rng = torch.Generator().manual_seed(0)
    rows = []
    for start in range(0, min(_N_IMAGES, len(bank)), _BATCH):
        pixels = torch.from_numpy(np.array(bank[start : start + _BATCH, 0]))
        images = pixels.movedim(-1, 1).contiguous().float() / 255
        views = look_views(images, size, Strength(), rng)
        rows.append(parts(net.body(normalised(views))))
    features = torch.cat(rows).double()
    mean = features.mean(dim=0)
    variance, axes = torch.linalg.eigh(torch.cov((features - mean).T))
    n_dims = min(N_DIMS, len(variance))
    variance, axes = variance.flip(0)[:n_dims], axes.flip(1)[:, :n_dims]
    weight = (axes / torch.sqrt(variance + _SHRINK * variance[0])).T
    return weight.float(), (-weight @ mean).float()
