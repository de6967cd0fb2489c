"""Look up known vulnerabilities of what is installed; say so where that can't be done.

Run it as ``make audit``. Exit code 0: nothing is known. 1: something is. 3: the list of
vulnerabilities could not be reached, or knows none of the packages, so nothing was
looked up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

COMMAND = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "-f", "json"]


def report(found: list[dict[str, Any]]) -> tuple[list[str], int]:
    """Return what to print of an audit, and the exit code.

    Parameters
    ----------
    found : list of dict
        ``dependencies`` as pip-audit gives them.
    """
    looked_up = [one for one in found if "skip_reason" not in one]
    if not looked_up:
        what = f"the list knows none of {len(found)} packages"
        return [f"Not audited: {what}; run make audit with the package index."], 3
    lines = [
        f"{one['name']} {one['version']}: {bug['id']}, fixed in "
        f"{', '.join(bug['fix_versions']) or 'no version yet'}"
        for one in looked_up
        for bug in one["vulns"]
    ]
    n_left = len(found) - len(looked_up)
    told = f"{len(looked_up)} packages looked up, {n_left} not in the list"
    return [*lines, f"{told}; {len(lines)} known vulnerabilities."], int(bool(lines))


def main() -> int:
    """Run pip-audit and tell."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reason = said[-1].strip()[:200] if said else "it said nothing"
        print(f"Not audited: {reason}; run make audit with the package index.")
        return 3
    lines, code = report(found)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
