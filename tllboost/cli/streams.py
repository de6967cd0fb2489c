"""Standard output and error that take any file name and outlive their reader.

What ``--json`` prints: one document, any program can read it.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["drop_output", "json_text", "prepare_streams"]


def prepare_streams() -> None:
    """Make printing what must not fail.

    A file name may be no valid text, and whoever reads our output through a pipe may
    have seen enough, as ``head`` has: what is being computed shall be finished.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="backslashreplace")
        if stream is getattr(sys, f"__{name}__") and not stream.isatty():
            setattr(sys, name, _lasting(stream))


def drop_output() -> None:
    """Send what is not written yet to nowhere: else Python tries again at the end."""
    _drop(sys.stdout.fileno())


class _Pipe(io.FileIO):
    """A file that goes on as if nothing were the matter when nobody reads it."""

    def write(self, data: object) -> int:
        """Write, to nowhere once the reader is gone."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            _drop(self.fileno())
            return super().write(data)  # type: ignore[arg-type]


def _lasting(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


def _drop(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def json_text(value: Any) -> str:
    r"""Return a value as JSON; numbers that are not finite are null.

    Examples
    --------
    >>> print(json_text({"top2": 0.5, "mrr": float("nan"), "name": "d\udcffg"}))
    {
     "top2": 0.5,
     "mrr": null,
     "name": "d\udcffg"
    }
    """
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
