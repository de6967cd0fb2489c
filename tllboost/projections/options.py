"""What an option of a projection may be: text in, value out, ValueError if it isn't."""

from __future__ import annotations

import math

__all__ = ["above_zero", "below_one", "depth_012", "share", "whole"]

_MOST = 1_000_000


def whole(text: str) -> int:
    """Return a whole number, 0 or more."""
    if not text.isdecimal():
        msg = "write a whole number, 0 or more"
        raise ValueError(msg)
    return int(text)


def depth_012(text: str) -> int:
    """Return a number of layers."""
    if text not in ("0", "1", "2"):
        msg = "write 0, 1 or 2"
        raise ValueError(msg)
    return int(text)


def above_zero(text: str) -> float:
    """Return a number above zero, and not beyond what float32 can be multiplied by.

    Examples
    --------
    >>> above_zero("1e-3")
    0.001
    """
    value = _number(text)
    if not 0 < value <= _MOST:
        msg = f"write a number above zero, {_MOST:,} at most"
        raise ValueError(msg)
    return value


def share(text: str) -> float:
    """Return a number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        msg = "write a number from 0 to 1"
        raise ValueError(msg)
    return value


def below_one(text: str) -> float:
    """Return a number from 0 to below 1."""
    value = _number(text)
    if not 0 <= value < 1:
        msg = "write a number from 0 to below 1"
        raise ValueError(msg)
    return value


def _number(text: str) -> float:
    """Return a number, NaN for what is none: it is in no range."""
    try:
        return float(text)
    except ValueError:
        return math.nan
