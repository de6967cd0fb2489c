"""The command line: a thin shell over the library; it knows no numpy.

Data goes to standard output, progress and messages to standard error. Exit codes: 0 all
well; 1 our bug; 2 usage; 3 bad input data; 4 partly done; 5 a bundle or store failed
verification; 130 interrupted.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the ``tllboost`` command: one line and an exit code for every known error."""
    from tllboost.cli.app import app
    from tllboost.errors import TllboostError

    try:
        app(prog_name="tllboost")
    except TllboostError as error:
        sys.stderr.write(f"tllboost: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("tllboost: interrupted; run it again to go on\n")
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone, as in `tllboost list | head -1`.
        sys.stderr.close()
        sys.exit(0)
