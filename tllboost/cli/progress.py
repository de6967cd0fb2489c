"""Progress bars on standard error, silent where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tllboost.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Message", "message_to", "progress_bar"]

Message = Callable[[str], None]
Progress = Callable[[int, int, str], None]

_MOST_RUNNING = 8
_WIDE = 64


def message_to(*, quiet: bool = False) -> Message:
    """Give a callable that writes one line to standard error, or none when `quiet`."""

    def tell(line: str) -> None:
        if not quiet:
            sys.stderr.write(f"{line}\n")

    return tell


@contextmanager
def progress_bar(
    *, quiet: bool = False, console: Console | None = None
) -> Iterator[Progress | None]:
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
    bars = _bars(console)
    with bars:
        yield _Tell(bars)


class _Tell:
    """What the library calls: a bar for each `what`, and the names below them."""

    def __init__(self, bars: Any) -> None:
        self.bars = bars
        self.tasks: dict[str, Any] = {}

    def __call__(self, done: int, total: int, what: str) -> None:
        """Move the bar of `what`."""
        if what not in self.tasks:
            # What was there before counts as done, and not as fast.
            self.tasks[what] = self.bars.add_task(
                printable(what), total=total, completed=done, before=done
            )
        self.bars.update(self.tasks[what], completed=done, total=total)

    def running(self, names: Sequence[str]) -> None:
        """Show the names of what is being worked at."""
        self.bars.names = [printable(name) for name in names]


def _bars(console: Console) -> Any:
    """Return the bars, and below them what is being worked at."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars
    from rich.table import Column
    from rich.text import Text

    class Rate(ProgressColumn):
        """How many a second, or a minute where that is a fraction."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            seconds = task.finished_time or task.elapsed
            if not speed and seconds:  # one step so far
                speed = (task.completed - task.fields["before"]) / seconds
            return Text(_rate(speed))

    class Left(TimeRemainingColumn):
        """The time that is left, then the time that it took."""

        def render(self, task: Task) -> Text:
            time = super().render(task)
            return Text("in ") + time if task.finished else time + Text(" left")

    class Named(Bars):
        """Bars, and lines for what is being worked at."""

        names: Sequence[str] = ()

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
        *([Rate(**whole)] if is_wide else []),
        Left(elapsed_when_finished=True, **whole),
    )
    return Named(*columns, console=console, expand=True)


def _rate(speed: float | None) -> str:
    """Return a speed as people say it.

    Examples
    --------
    >>> _rate(41.6), _rate(4.16), _rate(0.25), _rate(None)
    ('42/s', '4.2/s', '15/min', '')
    """
    if not speed:
        return ""
    if speed >= 1:
        return f"{speed:.0f}/s" if speed >= 10 else f"{speed:.1f}/s"
    return f"{speed * 60:.2g}/min"
