"""What is printed: data for any program, on streams that outlive their reader.

File names need not be valid text, and whoever reads our output through a pipe may stop
early, as ``head`` does: what is being computed is finished all the same.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import typer

__all__ = ["drop_output", "prepare_streams", "tell_failures", "write_json", "write_out"]


def prepare_streams() -> None:
    """Let printing never fail on a name or on a closed pipe."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="backslashreplace")
        if stream is getattr(sys, f"__{name}__") and not stream.isatty():
            stream.flush()
            lasting = io.TextIOWrapper(
                io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False)),
                encoding=stream.encoding,
                errors="backslashreplace",
                line_buffering=True,
            )
            setattr(sys, name, lasting)


def drop_output(number: int | None = None) -> None:
    """Send what is not written yet to nowhere: else Python tries again at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno() if number is None else number)
    os.close(nowhere)


class _Pipe(io.FileIO):
    """A file that accepts all that is written, also when nobody reads it any more."""

    def write(self, data: Any) -> int:
        """Write, to nowhere once the reader is gone."""
        try:
            return super().write(data)
        except BrokenPipeError:
            drop_output(self.fileno())
            return super().write(data)


def write_out(text: str) -> None:
    """Write data to standard output; names that are no valid text stay as they are."""
    typer.echo(text.encode("utf-8", "surrogateescape"), nl=False)


def write_json(value: Any) -> None:
    r"""Write one JSON document to standard output; NaN and infinity become null.

    Examples
    --------
    >>> write_json({"top2": 0.5, "mrr": float("nan"), "name": "d\udcffg"})
    {
     "top2": 0.5,
     "mrr": null,
     "name": "d\udcffg"
    }
    """
    from tllboost.files import finite

    typer.echo(json.dumps(finite(value), indent=1, allow_nan=False))


def tell_failures(failures: Mapping[str, str]) -> int:
    """Name each image that failed on standard error; return the exit code."""
    from tllboost.errors import printable

    for name, reason in failures.items():
        typer.echo(f"tllboost: {printable(name)}: {reason}", err=True)
    return 4 if failures else 0
