"""Write results/bench/README.md from the records beside it: no figure is typed in.

Run it as ``python benchmarks/bench_page.py``, or by ``make bench``.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import RESULTS

from tllboost.files import write_text

Record = dict[str, Any]

TITLE = "# Speed: what a person waits for\n"
# By name of the record, the most telling first: as many as fit into ten lines.
GAINS = {
    "grid": "A grid is {times} × as fast as a notebook: {ours}, not {peer}",
    "vectorize-command-exported": "A folder becomes vectors by one command {times} × "
    "as fast as by a plain script: in {ours}, not {peer}",
    "vectorize-mobilenetv2-loop": "Images become vectors {times} × as fast as in a "
    "plain torch loop: {ours}, not {peer}",
    "vectorize-vit-b32-loop": "A transformer gains as well, {times} ×: {ours}, not "
    "{peer}",
    "pocket_vectorize": "The network inside the package needs no torch: {ours}",
    "cold_start_score": "Two new images are scored {times} × as fast as by a script "
    "of one's own: after {ours}, not {peer}",
    "search_boosted": "A query among stored vectors is answered in {ours}",
    "similar_faiss": "All images of a folder are held against each other {times} × as "
    "fast as by faiss: in {ours}, not {peer}",
    "rank_all_dot": "Ranking all against all is {times} × as fast as scoring merged "
    "pairs: {ours}, not {peer}",
    "folds": "Folds take {part} × the time of a single fit: {ours} beside {peer}",
}
TEN = 10  # lines that a reader sees first: the title, an empty one and the gains
HEAD = """\
## How it is measured

A figure is the time of a peer divided by ours for the same work. Both are measured in
turn in one run, and change their order from pair to pair. Figures are medians over the
pairs, with the smallest and the largest in brackets. Each script first checks that both
give the same vectors, scores or accuracy. The peers are written as their own README
shows them. `make bench` runs everything and writes this page; every figure on it, those
of the first lines too, is computed from the records beside it.
"""


def page(records: list[Record]) -> str:
    """Return the whole page."""
    compared = [record for record in records if record["kind"] == "compare"]
    limits = [record for record in records if record["kind"] == "limit"]
    curves = [record for record in records if record["kind"] == "curve"]
    gained = gains(records)
    parts = [TITLE, *([*gained, ""] if gained else []), HEAD]
    if compared:
        parts.append(_table(COMPARED, map(_compared, compared)))
        parts.append(_table(SECONDS, map(_seconds, compared)))
    if limits:
        parts.append(_table(LIMITS, map(_limited, limits)))
    parts += _bounds([record for record in records if record.get("bounds")])
    parts += [_curve(record) for record in curves]
    parts += _gpu([record for record in records if record["kind"] == "gpu"])
    parts += _section("Not reached, and why", missed(records), _profile)
    past = [record for record in records if reached(record) is None and beyond(record)]
    parts += _section("Beyond what the machine does, and why", past, _profile)
    parts += _section("Notes", [r for r in records if r["notes"]], _notes)
    parts += [_total(record) for record in records if record["kind"] == "total"]
    parts.append(_made_with(records))
    return "\n".join(parts)


def gains(records: list[Record]) -> list[str]:
    """Return what a user gains, a sentence a line, the sizes in brackets."""
    named = {record["name"]: record for record in records}
    lines = []
    for name, sentence in GAINS.items():
        if name in named:
            told = sentence.format(**_told(named[name]))
            lines.append(f"- {told} ({named[name]['what']}).")
    return lines[: TEN - 2]


def _told(record: Record) -> dict[str, str]:
    """Return the medians that a sentence may name."""
    if record["kind"] == "limit":
        return {"ours": _duration(record["wall"]["median"])}
    times = record["ratio"]["median"]
    return {
        **{who: _duration(_middle(record, who)) for who in ("ours", "peer")},
        "times": f"{times:.3g}",
        "part": f"{1 / times:.3g}",
    }


def _duration(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 0.1 else f"{seconds:.3g} s"


def _middle(record: Record, who: str) -> float:
    return statistics.median(pair[who]["wall"] for pair in record["pairs"])


COMPARED = ("work", "peer", "goal", "measured", "CPU", "peak memory", "")
SECONDS = ("record", "ours", "peer", "pairs", "command")
LIMITS = ("work", "at most", "measured", "peak memory", "")


def _compared(record: Record) -> list[str]:
    # Without a bar, what takes longer than its peer is told by how much.
    below = (record["bar"] or record["ratio"]["median"]) < 1
    return [
        record["what"] or record["name"],
        record["peer"],
        "its bound" if is_bound(record) else _bar(record["bar"]),
        _ratio(record["ratio"], below=below),
        _ratio(record["cpu_ratio"], below=below),
        _memory(record),
        _verdict(record),
    ]


def _seconds(record: Record) -> list[str]:
    unit = record["unit"]
    ours, peer = (_middle(record, who) for who in ("ours", "peer"))
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
        is_met = record["wall"]["median"] <= record["at_most"]
        if is_met or beyond(record) is None:
            verdicts.append(is_met)
    if record.get("memory_at_most_mb") is not None:
        verdicts.append(record["peak_mb"]["ours"] <= record["memory_at_most_mb"])
    if record["kind"] == "gpu":
        within = map(_is_within, record["rows"])
        verdicts += [verdict for verdict in within if verdict is not None]
        verdicts.append(not record["failed"])
    if record.get("lower"):
        verdicts.append(False)
    return all(verdicts) if verdicts else None


def beyond(record: Record) -> float | None:
    """Return the seconds of the bare work, if alone it takes more than all may.

    No program reaches such a limit on that machine: it is shown beside its bound.
    """
    most = record.get("at_most")
    if record["kind"] != "limit" or most is None:
        return None
    alone = [
        record["wall"]["median"] * bound["share"]["median"]
        for bound in record.get("bounds", ())
    ]
    return max((one for one in alone if one > most), default=None)


def is_bound(record: Record) -> bool:
    """Tell whether a record has no bar but what the machine does at most."""
    return record["bar"] is None and bool(record.get("bounds"))


def missed(records: list[Record]) -> list[Record]:
    """Return the records that do not reach what is wanted of them."""
    return [record for record in records if reached(record) is False]


def _verdict(record: Record) -> str:
    if record.get("lower") and reached({**record, "lower": None}):
        return f"reached in time, **NOT reached**: {record['lower']}"
    verdict = reached(record)
    if verdict is None and (least := beyond(record)) is not None:
        return f"its bound alone takes {least:.3g} {record['unit']}"
    return {None: "", True: "reached", False: "**NOT reached**"}[verdict]


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


BOUNDS = ("work", "bound", "ours", "the bound's", "share")
BOUNDED = """\
## Beside what bounds it

The bare operation on the same numbers runs in turn with ours, in the same run. Nothing
that does this work can be faster than it is. A share is that of each pair of runs.
Where the bare operation alone takes longer than a limit allows, no program reaches that
limit on this machine.

Folds are held against the pairs that they train on, as if a fit took as much longer as
it has more pairs: a share below 100 % is time saved.
"""


def _bounds(records: list[Record]) -> list[str]:
    if not records:
        return []
    rows = [
        [
            record["what"] or record["name"],
            bound["what"],
            _range(bound["ours"], bound["unit"]),
            _range(bound["bound"], bound["unit"]),
            _range({k: 100 * v for k, v in bound["share"].items()}, "%"),
        ]
        for record in records
        for bound in record["bounds"]
    ]
    return [BOUNDED, _table(BOUNDS, rows)]


def _range(spread: dict[str, float], unit: str) -> str:
    low, middle, high = (f"{spread[name]:.3g}" for name in ("min", "median", "max"))
    told = f"{middle} {unit}".strip()
    return told + ("" if low == high else f" [{low}, {high}]")


ON_GPU = ("work", "images a second", "from the CPU's vectors", "at most", "")
NO_GPU = """\
## On a GPU

Not measured: no record of a machine with one is here. `python benchmarks/gpu.py` writes
it, in minutes.
"""


def _gpu(records: list[Record]) -> list[str]:
    if not records:
        return [NO_GPU]
    return [
        f"## {record['what']}\n\n{_table(ON_GPU, map(_gpu_row, record['rows']))}"
        for record in records
    ]


def _gpu_row(row: Record) -> list[str]:
    most = row["within"]
    return [
        row["what"],
        _range(row["images_a_second"], ""),
        f"{row['apart']:.2g}",
        "–" if most is None else f"{most:g}",
        {None: "", True: "reached", False: "**NOT reached**"}[_is_within(row)],
    ]


def _is_within(row: Record) -> bool | None:
    return None if row["within"] is None else row["apart"] <= row["within"]


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
    table = _table(("script", "seconds"), rows)
    latest = "Of each script the latest run, which may have been one of it alone."
    return f"## How long `make bench` takes\n\n{latest}\n\n{table}"


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
