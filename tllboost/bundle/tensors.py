"""Tensors out of a bundle: numbers alone, and all of them finite."""

from __future__ import annotations

import numpy as np

from tllboost.vectorizers.weights import first_line

__all__ = ["check_tensors"]


def check_tensors(name: str, data: bytes) -> None:
    """Raise unless a safetensors member holds finite numbers and nothing else.

    Parameters
    ----------
    name : str
        Of the member, for messages.
    data : bytes

    Raises
    ------
    ValueError
        If it is damaged, or a number is not finite.

    Examples
    --------
    >>> from safetensors.numpy import save
    >>> check_tensors("head.safetensors", save({"coef": np.float32([1, np.nan])}))
    Traceback (most recent call last):
      ...
    ValueError: 'coef' of head.safetensors holds what is not a finite number
    """
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except Exception as error:
        msg = f"{name} is damaged ({first_line(error)})"
        raise ValueError(msg) from error
    for key, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            msg = f"{key!r} of {name} holds what is not a finite number"
            raise ValueError(msg)
