"""Standard output and error that take any file name and outlive their reader."""

from __future__ import annotations

import io
import os
import sys

__all__ = ["drop_output", "prepare_streams"]


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
