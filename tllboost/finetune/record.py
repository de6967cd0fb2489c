"""What a fine-tuned file says of its training, in its header."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tllboost.errors import WeightsError

__all__ = ["header", "read_record", "short_hash", "trained_on"]

_FORMAT = "tllboost fine-tuning 1"


def header(
    *,
    key: str,
    seed: int,
    base: str,
    seen: Iterable[str],
    history: list[dict[str, Any]],
) -> dict[str, str]:
    """Return the header of a fine-tuned file.

    Parameters
    ----------
    key : str
        Hash of all that the training hung on.
    seed : int
    base : str
        Fingerprint of the vectorizer whose network was trained.
    seen : iterable of str
        sha256 of every picture of the training and validation side.
    history : list of dict
        What became of each epoch.
    """
    return {
        "format": "pt",  # other readers of safetensors files ask for it
        "made_by": _FORMAT,
        "key": key,
        "seed": str(seed),
        "base": base,
        "trained_on": " ".join(sorted({short_hash(one) for one in seen})),
        "history": json.dumps(history),
    }


def short_hash(sha256: str) -> str:
    """Return the part of a picture's sha256 that is kept: 16 digits."""
    return sha256[:16]


def read_record(file: str | Path) -> Mapping[str, str] | None:
    """Return the header of a file that fine-tuning made, None for any other.

    Raises
    ------
    WeightsError
        If there is no such file.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(file).is_file():
        msg = f"there is no file {str(file)!r}"
        raise WeightsError(msg)
    try:
        with safe_open(file, framework="numpy") as opened:
            record: Mapping[str, str] = opened.metadata() or {}
    except (SafetensorError, OSError):
        return None
    return record if record.get("made_by") == _FORMAT else None


def trained_on(file: str | Path) -> frozenset[str]:
    """Return which pictures a network was fine-tuned on.

    Parameters
    ----------
    file : path-like
        Weights.

    Returns
    -------
    frozenset of str
        First 16 digits of the sha256 of each picture's file, validation's included:
        figures on any of them are no figures on new pictures. Empty for weights that
        were not fine-tuned here.

    Raises
    ------
    WeightsError
        If there is no such file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
    ...     trained_on(file.name)
    frozenset()
    """
    record = read_record(file)
    return frozenset(record["trained_on"].split()) if record else frozenset()
