"""Write the outputs that the guides of docs/ show, by running the guides.

Run it as ``python benchmarks/guide_outputs.py [docs/scale.md …]``. A block of ``text``
after a block of commands is what these printed; one with ``…`` in it was shortened by
hand, and stays as long as it is still true. Cells of a notebook get theirs below them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))


def rewritten(text: str) -> str:
    """Return a page with its outputs made anew; runs it in the current folder."""
    from guides import alike, play, shown_after

    changes = []
    for block, printed in play(text):
        shown = shown_after(text, block)
        if shown is None or ("…" in shown.text and alike(shown.text, printed)):
            continue
        lines = [line.rstrip() for line in printed.splitlines()]
        changes.append((shown, "\n".join(lines).strip("\n") + "\n"))
    for shown, output in reversed(changes):
        text = text[: shown.start] + output + text[shown.end :]
    return text


def with_outputs(notebook: str, text: str) -> str:
    """Return a notebook with its outputs made anew; runs it in the current folder."""
    from guides import play, runs_here

    made = json.loads(notebook)
    cells = [one for one in made["cells"] if one["cell_type"] == "code"]
    cells = [*filter(runs_here, cells)]
    for cell, (_, printed) in zip(cells, play(text), strict=True):
        lines = printed.splitlines(keepends=True)
        stream = {"name": "stdout", "output_type": "stream", "text": lines}
        cell["outputs"] = [stream] if printed else []
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Rewrite the pages that are named, or all guides."""
    from guides import GUIDES, prepare, text_of

    pages = [Path(name).resolve() for name in sys.argv[1:]] or GUIDES
    for page in pages:
        with tempfile.TemporaryDirectory() as folder:
            os.environ.update(prepare(page, Path(folder)))
            os.chdir(folder)
            text = text_of(page)
            if page.suffix == ".ipynb":
                text = with_outputs(page.read_text(encoding="utf-8"), text)
            else:
                text = rewritten(text)
            os.chdir(ROOT)
        page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
