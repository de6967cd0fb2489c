"""The command line: a thin shell over the library; it knows no numpy.

Data goes to standard output, progress and messages to standard error. Exit codes: 0 all
well; 1 our bug; 2 usage; 3 bad input data; 4 partly done; 5 a bundle or store failed
verification; 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any

from tllboost.cli.streams import drop_output, plainly, prepare_streams

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC))
_TRACEBACK = "TLLBOOST_TRACEBACK"


def main() -> None:
    """Run the ``tllboost`` command: one line and an exit code for every error."""
    prepare_streams()
    # Libraries may turn what Ctrl-C raises in them into an error of their own.
    interrupts: list[int] = []

    def interrupt(number: int, _frame: Any) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with suppress(ValueError):  # in a thread, which gets no signals
            signal.signal(signal.SIGINT, interrupt)
    line = ""
    try:
        from tllboost.cli.app import app

        code = app(prog_name="tllboost", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        is_aborted = bool(interrupts) or type(error).__name__ == "Abort"
        line, code = ("interrupted", 130) if is_aborted else _said(error)
    if line:
        sys.stderr.write(f"tllboost: {line}\n")
    sys.exit(code if isinstance(code, int) else 0)


def _said(error: BaseException) -> tuple[str, int]:
    """Return the line and the exit code for what a command raised."""
    from tllboost.errors import TllboostError, missing_library, printable

    if isinstance(error, TllboostError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.filename is not None:
        reason = error.strerror or type(error).__name__
        return f"{printable(error.filename)}: {reason}", 3
    if isinstance(error, OSError) and error.errno in _FULL:  # of a stream
        drop_output()
        return f"can't write the output ({error.strerror})", 3
    # Of the command line's library, whose name differs between its versions.
    if hasattr(error, "format_message"):
        return _usage(error), 2
    if isinstance(error, ModuleNotFoundError) and "tllboost" not in str(error):
        missing = missing_library(error.name, "this")
        return str(missing), missing.exit_code
    if os.environ.get(_TRACEBACK):
        traceback.print_exception(error)
    return _bug(error), 1


def _usage(error: Any) -> str:
    """Return in one line what is wrong with the options, and where they are told."""
    message = plainly(" ".join(error.format_message().split()))
    if not message:  # a group of commands without one: its help has been shown
        return ""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "tllboost"
    end = "" if message.endswith("?") else ":"
    return f"{message[0].lower()}{message[1:]}{end} see {path} --help"


def _bug(error: BaseException) -> str:
    """Return in one line what we did wrong, for whoever reports it."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return (
        f"a bug of ours: {reason} ({os.path.basename(where.filename)}:{where.lineno}); "
        f"{_TRACEBACK}=1 shows the traceback, for a report"
    )
