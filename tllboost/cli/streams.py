"""What is printed: data for any program, bars and messages for whoever watches.

File names need not be valid text, and whoever reads our output through a pipe may stop
early, as ``head`` does: what is being computed is finished all the same. Bars are drawn
on standard error, and nowhere where nobody watches.
"""

from __future__ import annotations

import errno
import functools
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import typer

from tllboost.errors import printable

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

# What Typer says of a value, and how our other messages say it.
_PLAIN = {
    "Value error, ": "",
    "Input should be greater than or equal to": "must be at least",
    "Input should be less than or equal to": "must be at most",
    "Input should be a valid integer, unable to parse string as an integer": "must be "
    "a whole number",
    "Input should be a valid number, unable to parse string as a number": "must be a "
    "number",
}
_MOST_RUNNING = 8
_WIDE = 64


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
        except OSError as error:
            is_closed = sys.platform == "win32" and error.errno == errno.EINVAL
            if not (is_closed or isinstance(error, BrokenPipeError)):
                raise
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


def tell_failures(failures: Mapping[str, str], out: Path | None = None) -> int:
    """Name each image that failed on standard error and in a file; return the code."""
    for name, reason in failures.items():
        typer.echo(f"tllboost: {printable(name)}: {reason}", err=True)
    if out is not None:
        from tllboost.files import csv_text, write_text

        rows = (("image", *one) for one in failures.items())
        write_text(out, csv_text(("what", "where", "why"), rows))
    return 4 if failures else 0


def message_to(*, quiet: bool = False) -> Callable[[str], None]:
    """Give a callable that writes one line to standard error, or none when `quiet`."""
    return (lambda _: None) if quiet else functools.partial(typer.echo, err=True)


def plainly(message: str) -> str:
    """Return what Typer says of a value in the words of other messages.

    Examples
    --------
    >>> plainly("Input should be greater than or equal to 0")
    'must be at least 0'
    """
    for told, plain in _PLAIN.items():
        message = message.replace(told, plain)
    return message.rstrip(".")


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Any]:
    """Give a callable (done, total, what) that draws one bar for each `what`.

    It has a method ``running(names)``, which shows what is being worked at. Gives None,
    which the library takes as "tell nobody", when `quiet` or when standard error is no
    terminal, or one that can't move its cursor.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    console = Console(stderr=True)
    with nullcontext() if console.is_dumb_terminal else bars_on(console) as bars:
        yield bars


def bars_on(console: Console) -> Any:
    """Return what the library calls: bars, and below them what is being worked at."""
    from rich import progress
    from rich.table import Column
    from rich.text import Text

    class Left(progress.TimeRemainingColumn):
        """The time that is left, then the time that it took."""

        def render(self, task: progress.Task) -> Text:
            time = super().render(task)
            return Text("in ") + time if task.finished else time + Text(" left")

    tasks: dict[str, progress.TaskID] = {}

    class Bars(progress.Progress):
        """A bar for each thing that is counted, and lines for what is worked at."""

        names: Sequence[str] = ()

        def __call__(self, done: int, total: int, what: str) -> None:
            if what not in tasks:
                # What was there before counts as done, and not as fast.
                tasks[what] = self.add_task(printable(what), completed=done)
            self.update(tasks[what], completed=done, total=total)

        def running(self, names: Sequence[str]) -> None:
            self.names = [printable(name) for name in names]

        def get_renderables(self) -> Iterator[Any]:
            yield from super().get_renderables()
            for name in self.names[:_MOST_RUNNING]:
                yield Text(f"  {name}", style="dim", no_wrap=True, overflow="ellipsis")
            if (more := len(self.names) - _MOST_RUNNING) > 0:
                yield Text(f"  and {more} more", style="dim")

    is_wide = console.width >= _WIDE
    name = Column(max_width=24 if is_wide else 12, no_wrap=True, overflow="ellipsis")
    whole: dict[str, Any] = {"table_column": Column(no_wrap=True)}
    columns = (
        progress.TextColumn("{task.description}", markup=False, table_column=name),
        *([progress.BarColumn(bar_width=None)] if is_wide else []),
        progress.MofNCompleteColumn(**whole),
        Left(elapsed_when_finished=True, **whole),
    )
    return Bars(*columns, console=console, expand=True)
