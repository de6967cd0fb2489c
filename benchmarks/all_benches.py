"""Run every bench_*.py in turn, as ``make bench`` does, and note how long each took.

All but three: the page's; bench_store.py, which compares checkouts, not tools; and
bench_similar.py, which takes longer than all others together may. Its records stand on
the same page, and so do those of vectorize_command.py and gpu.py, run by name. A
script that fails does not keep the others from running; the exit code tells of it.
Name scripts to run only those: ``python benchmarks/all_benches.py bench_rank``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from bench import RESULTS, written

HERE = Path(__file__).resolve().parent
PAGE = HERE / "bench_page.py"
OTHERS = (PAGE, HERE / "bench_store.py", HERE / "bench_similar.py")
TOTAL = RESULTS / "total.json"
MOST = 15 * 60.0


def scripts(names: list[str]) -> list[Path]:
    """Return the scripts of these names, all where there are none."""
    every = [path for path in sorted(HERE.glob("bench_*.py")) if path not in OTHERS]
    return [path for path in every if not names or path.stem in names]


def main() -> int:
    """Run them, write the page, and return the exit code."""
    names = sys.argv[1:]
    seconds: dict[str, float] = {}
    failed = []
    for script in scripts(names):
        started = time.monotonic()
        if subprocess.run([sys.executable, script], check=False).returncode:
            failed.append(script.name)
        seconds[script.stem] = time.monotonic() - started
        print(f"{script.name}: {seconds[script.stem]:.0f} s", flush=True)
    known = {path.stem for path in scripts([])}
    before: dict[str, float] = {}
    if names and TOTAL.is_file():  # those of the others' latest runs
        before = json.loads(TOTAL.read_text(encoding="utf-8"))["seconds"]
    record = {
        "kind": "total",
        "name": TOTAL.stem,
        "at_most": MOST,
        "seconds": {n: s for n, s in (before | seconds).items() if n in known},
        "failed": failed,
        "notes": [],
    }
    written(record, RESULTS)
    subprocess.run([sys.executable, PAGE], check=True)
    print(f"{sum(seconds.values()) / 60:.1f} minutes; failed: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
