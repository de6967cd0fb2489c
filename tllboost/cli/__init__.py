"""The command line: a thin shell over the library; it knows no numpy.

Data goes to standard output, progress and messages to standard error. Exit codes: 0 all
well; 1 our bug; 2 usage; 3 bad input data; 4 partly done; 5 a bundle or store failed
verification; 130 interrupted.
"""

from __future__ import annotations

import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run the ``tllboost`` command: one line and an exit code for every known error."""
    from tllboost.cli.app import app
    from tllboost.errors import TllboostError

    # A file name may be no valid text; printing it must not be what fails.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="tllboost")
    except TllboostError as error:
        sys.stderr.write(f"tllboost: {error}\n")
        sys.exit(error.exit_code)
