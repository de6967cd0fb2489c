"""Switches of the environment."""

from __future__ import annotations

import os

__all__ = ["is_on"]


def is_on(variable: str) -> bool:
    """Tell whether a variable of the environment says yes.

    Examples
    --------
    >>> is_on("TLLBOOST_NO_SUCH_SWITCH")
    False
    """
    spelled = os.environ.get(variable, "").strip().lower()
    return spelled not in {"", "0", "false", "no"}
