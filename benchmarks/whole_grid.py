"""The whole grid of the 2017 Holidays experiments for a network, against a notebook.

As bench_grid.py has it, with all three merges: twelve cells a run. Not a part of ``make
bench``: five pairs of runs take seven minutes. Run it as ``python
benchmarks/whole_grid.py``; its record stands on the page of ``make bench``.
"""

from __future__ import annotations

from bench import options
from bench_grid import measure


def main() -> None:
    """Measure."""
    merges = ("cosdot", "l1", "l2")
    measure(options(__doc__), merges, "grid", by_default=False)


if __name__ == "__main__":
    main()
