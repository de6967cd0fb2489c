"""Folders as a grid leaves them, written from made records."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w

from tllboost.files import write_json
from tllboost.grid.cells import Cell
from tllboost.grid.outputs import RESULT_COLUMNS, write_csv
from tllboost.grid.records import write_record
from tllboost.grid.summary import summarise
from tllboost.splits import Protocol

COSINE, DOT, L1 = (
    Cell("classic", "none", "none", "cosine"),
    Cell("classic", "none", "dot", "logistic"),
    Cell("classic", "none", "l1", "logistic"),
)


def write_run(
    out: Path,
    records: list[dict[str, Any]],
    *,
    data: str = "d1",
    protocol: Protocol | None = None,
    tables_only: bool = False,
    **run: Any,
) -> Path:
    """Write what a grid leaves behind."""
    protocol = protocol or Protocol()
    cells = list(dict.fromkeys(Cell(**one["cell"]) for one in records))
    rows = summarise(cells, records, metric="top2", protocol=protocol.name)
    out.mkdir()
    columns = [[row.get(name) for name in RESULT_COLUMNS] for row in rows]
    write_csv(out / "results.csv", RESULT_COLUMNS, columns)
    write_json(out / "summary.json", {"cells": [one["id"] for one in records]})
    told = run | {"run": {"data": data, "protocol": asdict(protocol)}}
    (out / "run.toml").write_text(tomli_w.dumps(told))
    write_json(out / "environment.json", {"versions": {"numpy": "2.1"}})
    if not tables_only:
        for one in records:
            write_record(out, one)
    return out
