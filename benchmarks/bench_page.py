"""Write results/bench/README.md from the records beside it: no figure is typed in.

Run it as ``python benchmarks/bench_page.py``, or by ``make bench``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import RESULTS

from tllboost.files import write_text

Record = dict[str, Any]

HEAD = """\
# Speed beside other tools

A figure is the time of a peer divided by ours for the same work. Both are measured in
turn in one run, and change their order from pair to pair. Figures are medians over the
pairs, with the smallest and the largest in brackets. Each script first checks that both
give the same vectors, scores or accuracy. The peers are written as their own README
shows them. `make bench` runs everything and writes this page.
"""


def page(records: list[Record]) -> str:
    """Return the whole page."""
    compared = [record for record in records if record["kind"] == "compare"]
    limits = [record for record in records if record["kind"] == "limit"]
    curves = [record for record in records if record["kind"] == "curve"]
    parts = [HEAD]
    if compared:
        parts.append(_table(COMPARED, map(_compared, compared)))
        parts.append(_table(SECONDS, map(_seconds, compared)))
    if limits:
        parts.append(_table(LIMITS, map(_limited, limits)))
    parts += [_curve(record) for record in curves]
    parts += _section("Not reached, and why", missed(records), _profile)
    parts += _section("Notes", [r for r in records if r["notes"]], _notes)
    parts += [_total(record) for record in records if record["kind"] == "total"]
    parts.append(_made_with(records))
    return "\n".join(parts)


COMPARED = ("work", "peer", "goal", "measured", "CPU", "peak memory", "")
SECONDS = ("record", "ours", "peer", "pairs", "command")
LIMITS = ("work", "at most", "measured", "peak memory", "")


def _compared(record: Record) -> list[str]:
    below = record["bar"] is not None and record["bar"] < 1
    return [
        record["what"] or record["name"],
        record["peer"],
        _bar(record["bar"]),
        _ratio(record["ratio"], below=below),
        _ratio(record["cpu_ratio"], below=below),
        _memory(record),
        _verdict(record),
    ]


def _seconds(record: Record) -> list[str]:
    unit = record["unit"]
    middle = len(record["pairs"]) // 2
    ours, peer = (
        sorted(pair[who]["wall"] for pair in record["pairs"])[middle]
        for who in ("ours", "peer")
    )
    return [
        f"[{record['name']}]({record['name']}.json)",
        f"{ours:.3g} {unit}",
        f"{peer:.3g} {unit}",
        str(len(record["pairs"])),
        f"`{record['command']}`",
    ]


def _limited(record: Record) -> list[str]:
    unit, wall = record["unit"], record["wall"]
    most = record["at_most"]
    return [
        record["what"] or record["name"],
        f"{most:.3g} {unit}" if most else "–",
        f"{wall['median']:.3g} {unit} [{wall['min']:.3g}, {wall['max']:.3g}]",
        _memory(record),
        _verdict(record),
    ]


def reached(record: Record) -> bool | None:
    """Tell whether a record reaches what is wanted of it; None where nothing is."""
    verdicts = []
    if record.get("bar") is not None:
        verdicts.append(record["ratio"]["median"] >= record["bar"])
    if record.get("memory_bar") is not None:
        verdicts.append(record["memory_ratio"] >= record["memory_bar"])
    if record.get("at_most") is not None and "wall" in record:
        verdicts.append(record["wall"]["median"] <= record["at_most"])
    if record.get("memory_at_most_mb") is not None:
        verdicts.append(record["peak_mb"]["ours"] <= record["memory_at_most_mb"])
    if record.get("lower"):
        verdicts.append(False)
    return all(verdicts) if verdicts else None


def missed(records: list[Record]) -> list[Record]:
    """Return the records that do not reach what is wanted of them."""
    return [record for record in records if reached(record) is False]


def _verdict(record: Record) -> str:
    if record.get("lower") and reached({**record, "lower": None}):
        return f"reached in time, **NOT reached**: {record['lower']}"
    return {None: "", True: "reached", False: "**NOT reached**"}[reached(record)]


def _bar(bar: float | None) -> str:
    if bar is None:
        return "–"
    return f"≥ {bar:.3g} ×" if bar >= 1 else f"at most {1 / bar:.3g} × its time"


def _ratio(spread: dict[str, float], *, below: bool) -> str:
    low, middle, high = spread["min"], spread["median"], spread["max"]
    if below:
        low, middle, high = 1 / high, 1 / middle, 1 / low
    times = "× its time" if below else "×"
    return f"{middle:.3g} {times} [{low:.3g}, {high:.3g}]"


def _memory(record: Record) -> str:
    if "peak_mb" not in record:
        return ""
    ours, most = record["peak_mb"]["ours"], record.get("memory_at_most_mb")
    if "memory_ratio" in record:
        wanted = record["memory_bar"]
        bar = f" (≥ {wanted:.3g} ×)" if wanted else ""
        peer = record["peak_mb"]["peer"]
        return f"{ours:.0f} of {peer:.0f} MiB, {record['memory_ratio']:.3g} ×{bar}"
    return f"{ours:.0f} MiB" + (f" (at most {most:.0f})" if most else "")


def _curve(record: Record) -> str:
    rows = [[f"{value:.4g}" for value in row] for row in record["rows"]]
    grown = ["–" if e is None else f"{e:.2f}" for e in record["exponents"]]
    table = _table(record["columns"], [*rows, ["exponent", *grown]])
    return f"## {record['what'] or record['name']}\n\n{table}"


def _profile(record: Record) -> str:
    told = record["profile"] or "no profile was recorded"
    return f"- {record['what'] or record['name']}: {told}"


def _notes(record: Record) -> str:
    return f"- {record['what'] or record['name']}: {' '.join(record['notes'])}"


def _section(title: str, records: list[Record], line: Any) -> list[str]:
    if not records:
        return []
    return [f"## {title}\n", *map(line, records), ""]


def _total(record: Record) -> str:
    seconds = record["seconds"]
    rows = [[f"`{name}`", f"{one:.0f}"] for name, one in seconds.items()]
    total, most = sum(seconds.values()), record["at_most"]
    verdict = "reached" if total <= most else "**NOT reached**"
    rows.append([f"all; at most {most:.0f}", f"{total:.0f}, {verdict}"])
    if record["failed"]:
        rows.append(["failed", ", ".join(record["failed"])])
    return f"## How long `make bench` took\n\n{_table(('script', 'seconds'), rows)}"


def _made_with(records: list[Record]) -> str:
    told = []
    for record in records:
        one = record["machine"]
        versions = ", ".join(f"{name} {v}" for name, v in one["versions"].items())
        line = (
            f"- {one['cores']} cores of {one['cpu']}, {one['memory_gb']} GB, "
            f"{one['system']}, Python {one['python']}; {versions}"
        )
        if line not in told:
            told.append(line)
    return "\n".join(["## Made with\n", *told, ""])


def _table(columns: Iterable[str], rows: Iterable[list[str]]) -> str:
    names = list(columns)
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read_records(folder: Path) -> list[Record]:
    """Return the records in a folder, by name."""
    files = sorted(folder.glob("*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def main() -> None:
    """Write the page."""
    write_text(RESULTS / "README.md", page(read_records(RESULTS)))


if __name__ == "__main__":
    main()
