"""The last feature map of a PyTorch network, whatever shape it has inside."""

from __future__ import annotations

import math
from typing import Any

from tllboost.errors import UsageError
from tllboost.vectorizers.torch_run import tap

__all__ = ["clip_maps", "timm_maps"]


def timm_maps(network: Any, layer: str | None, *, what: str) -> Any:
    """Return a module from pixels to maps (n_images, n_channels, n_rows, n_columns).

    Parameters
    ----------
    network : torch.nn.Module
        Of timm.
    layer : str or None
        Name of the inner module whose output is taken; by default what the network
        has before it pools.
    what : str
        Whose network it is, for messages.

    Raises
    ------
    AttributeError
        If there is no such layer.
    """
    source = _method(network, "forward_features") if layer is None else None
    grid = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    return _to_maps(
        source or tap(network, str(layer)),
        n_before=getattr(network, "num_prefix_tokens", 0),
        grid=tuple(grid) if grid else None,
        channels_last=getattr(network, "output_fmt", "NCHW") == "NHWC",
        what=what,
    )


def clip_maps(visual: Any, *, what: str) -> Any:
    """Return a module from pixels to the last maps of an open_clip image tower.

    Of a ResNet these are the last stage's, before attention pools them; of a vision
    transformer the patches after the last block and its normalisation, before they are
    projected. The class token is left out.

    Raises
    ------
    UsageError
        If the tower is of another kind.
    """
    if hasattr(visual, "trunk"):
        return timm_maps(visual.trunk, None, what=what)
    if hasattr(visual, "layer4"):
        return tap(visual, "layer4")
    if not hasattr(visual, "transformer") or not hasattr(visual, "grid_size"):
        msg = f"{what}: a {type(visual).__name__} has no feature map that is known here"
        raise UsageError(msg)
    # With a pooling by attention, the normalisation belongs to what it pools.
    pools_itself = getattr(visual, "attn_pool", None) is not None
    return _to_maps(
        tap(visual, "transformer"),
        then=None if pools_itself else visual.ln_post,
        n_before=1,
        grid=tuple(visual.grid_size),
        what=what,
    )


def _to_maps(
    source: Any,
    *,
    n_before: int,
    grid: tuple[int, ...] | None,
    what: str,
    channels_last: bool = False,
    then: Any = None,
) -> Any:
    """Return a module that brings what `source` gives to the shape of maps.

    Parameters
    ----------
    source, then : torch.nn.Module
        Run one after the other; `then` may be missing.
    n_before : int
        Tokens in front of those of the patches: the class token and registers.
    grid : tuple of 2 ints, optional
        How many patches lie below and beside each other; square if not known.
    channels_last : bool
        Whether maps of four axes have their channels in the last.
    """
    import torch

    class Maps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source, self.then = source, then

        def forward(self, pixels: Any) -> Any:
            output = self.source(pixels)
            if self.then is not None:
                output = self.then(output)
            n_axes = getattr(output, "ndim", None)
            if n_axes == 3:
                patches = output[:, n_before:].transpose(1, 2)
                shape = _patch_grid(patches.shape[2], grid, what)
                return patches.unflatten(2, shape)
            if n_axes != 4:
                found = f"{n_axes} axes" if n_axes else "several parts"
                msg = (
                    f"{what}: its features have {found} and are no map; take the kind "
                    "without -grid, or another ?layer=NAME"
                )
                raise UsageError(msg)
            return output.permute(0, 3, 1, 2) if channels_last else output

    return Maps()


def _patch_grid(
    n_patches: int, grid: tuple[int, ...] | None, what: str
) -> tuple[int, int]:
    if grid is not None and math.prod(grid) == n_patches:
        return grid[0], grid[1]
    side = math.isqrt(n_patches)
    if side * side != n_patches:
        msg = f"{what}: its {n_patches} patches lie on no grid that is known"
        raise UsageError(msg)
    return side, side


def _method(network: Any, name: str) -> Any:
    """Return a module that calls a method of `network` in place of its forward."""
    import torch

    class Method(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: Any) -> Any:
            return getattr(self.network, name)(pixels)

    return Method()
