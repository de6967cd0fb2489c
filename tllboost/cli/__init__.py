"""The command line: a thin shell over the library; it knows no numpy.

Data goes to standard output, progress and messages to standard error. Exit codes: 0 all
well; 1 our bug; 2 usage; 3 bad input data; 4 partly done; 5 a bundle or store failed
verification; 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Any

from tllboost.cli.streams import drop_output, prepare_streams

__all__ = ["main"]

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC))
_TRACEBACK = "TLLBOOST_TRACEBACK"


def main() -> None:
    """Run the ``tllboost`` command: one line and an exit code for every error."""
    prepare_streams()
    sys.exit(_run())


def _run() -> int:
    from tllboost.errors import TllboostError

    try:
        from tllboost.cli.app import app

        code = app(prog_name="tllboost", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except TllboostError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        return _fail_to_write(error)
    except Exception as error:
        # Of the command line's library, whose name differs between its versions.
        if hasattr(error, "format_message"):
            return _fail(_usage(error), 2)
        if type(error).__name__ == "Abort":
            return _fail("interrupted", 130)
        return _fail(_bug(error), 1)
    return code if isinstance(code, int) else 0


def _fail(line: str, code: int) -> int:
    if line:
        sys.stderr.write(f"tllboost: {line}\n")
    return code


def _fail_to_write(error: OSError) -> int:
    """Tell of a disk that is full, or a file that can't be had."""
    from tllboost.errors import printable

    if error.filename is not None:
        reason = error.strerror or type(error).__name__
        return _fail(f"{printable(error.filename)}: {reason}", 3)
    if error.errno in _FULL:  # streams have no name
        drop_output()
        return _fail(f"can't write the output ({error.strerror})", 3)
    return _fail(_bug(error), 1)


def _usage(error: Any) -> str:
    """Return in one line what is wrong with the options, and where they are told."""
    message = " ".join(error.format_message().split()).rstrip(".")
    if not message:  # a group of commands without one: its help has been shown
        return ""
    message = message.replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "tllboost"
    end = "" if message.endswith("?") else ":"
    return f"{message[0].lower()}{message[1:]}{end} see {path} --help"


def _bug(error: Exception) -> str:
    """Return in one line what we did wrong, for whoever reports it."""
    if os.environ.get(_TRACEBACK):
        traceback.print_exc()
    where = traceback.extract_tb(error.__traceback__)[-1]
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return (
        f"a bug of ours: {reason} ({os.path.basename(where.filename)}:{where.lineno}); "
        f"{_TRACEBACK}=1 shows all of it, for a report"
    )
