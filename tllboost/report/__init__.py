"""What people read of a run: the matrix in the terminal, and report.html."""

from tllboost.report.run import Run, read_run
from tllboost.report.write import write_report

__all__ = ["Run", "read_run", "write_report"]
