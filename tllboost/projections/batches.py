"""Cut an epoch into steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["batches"]


def batches(n: int, size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return a random order of `n` things in batches of about `size`, all alike.

    Examples
    --------
    >>> [len(one) for one in batches(10, 4, np.random.default_rng(0))]
    [5, 5]
    """
    return np.array_split(rng.permutation(n), max(1, round(n / size)))
