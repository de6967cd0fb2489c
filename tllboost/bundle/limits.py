"""Which members a bundle may have, and how large they may be."""

from __future__ import annotations

import re

__all__ = [
    "GOLDEN",
    "MANIFEST",
    "MAX_CELLS",
    "MAX_LEARNED_BYTES",
    "MAX_NETWORK_BYTES",
    "size_limit",
]

MANIFEST = "manifest.json"
GOLDEN = "golden.safetensors"
MAX_NETWORK_BYTES = 100_000_000
"""A larger network is named in the bundle and stays beside it."""

MAX_CELLS = 64
_MAX_MANIFEST_BYTES = 1_000_000
MAX_LEARNED_BYTES = 1_000_000_000
"""All heads and projections together: they are read into memory."""

_CELL_FOLDER = r"(?:[1-5]?[0-9]|6[0-3])/"
_LIMITS = (
    (re.compile(r"golden\.safetensors"), 64_000_000),
    (re.compile(rf"{_CELL_FOLDER}head\.(json|ubj|safetensors|skops)"), 500_000_000),
    (re.compile(rf"{_CELL_FOLDER}projection\.safetensors"), 500_000_000),
    # No pickle: a network in a .pt or .pth file is named, never carried.
    (re.compile(r"network/\w[\w.-]*\.(onnx|safetensors|npz)", re.A), MAX_NETWORK_BYTES),
)


def size_limit(name: str) -> int:
    """Return how many bytes a member may have; 0 where a bundle has no such member.

    Examples
    --------
    >>> size_limit("network/net.onnx"), size_limit("../../.bashrc")
    (100000000, 0)
    """
    if name == MANIFEST:
        return _MAX_MANIFEST_BYTES
    return next((size for known, size in _LIMITS if known.fullmatch(name)), 0)
