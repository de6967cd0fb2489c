"""Progress bars on standard error, silent where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tllboost.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["message_to", "progress_bar"]

_MOST_RUNNING = 8
_WIDE = 64


def message_to(*, quiet: bool = False) -> Callable[[str], None]:
    """Give a callable that writes one line to standard error, or none when `quiet`."""

    def tell(line: str) -> None:
        if not quiet:
            sys.stderr.write(f"{line}\n")

    return tell


@contextmanager
def progress_bar(
    *, quiet: bool = False, console: Console | None = None
) -> Iterator[Any]:
    """Give a callable (done, total, what) that draws one bar for each `what`.

    It has a method ``running(names)``, which shows what is being worked at. Gives None,
    which the library takes as "tell nobody", when `quiet` or when standard error is no
    terminal, or one that can't move its cursor.

    Parameters
    ----------
    quiet : bool, default=False
    console : rich.console.Console or None
        Where to draw; None takes standard error.
    """
    if quiet or (console is None and not sys.stderr.isatty()):
        yield None
        return
    if console is None:
        from rich.console import Console

        console = Console(stderr=True)
    if console.is_dumb_terminal:
        yield None
        return
    with _bars(console) as bars:
        yield bars


def _bars(console: Console) -> Any:
    """Return what the library calls: bars, and below them what is being worked at."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        Task,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class Left(TimeRemainingColumn):
        """The time that is left, then the time that it took."""

        def render(self, task: Task) -> Text:
            time = super().render(task)
            return Text("in ") + time if task.finished else time + Text(" left")

    tasks: dict[str, TaskID] = {}

    class Bars(Progress):
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
            if len(self.names) > _MOST_RUNNING:
                more = len(self.names) - _MOST_RUNNING
                yield Text(f"  and {more} more", style="dim")

    is_wide = console.width >= _WIDE
    name = Column(max_width=24 if is_wide else 12, no_wrap=True, overflow="ellipsis")
    whole: dict[str, Any] = {"table_column": Column(no_wrap=True)}
    columns = (
        TextColumn("{task.description}", markup=False, table_column=name),
        *([BarColumn(bar_width=None)] if is_wide else []),
        MofNCompleteColumn(**whole),
        Left(elapsed_when_finished=True, **whole),
    )
    return Bars(*columns, console=console, expand=True)
