"""What two runs differ in besides their figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tllboost.report.recorded import Recorded

__all__ = ["differences"]


def differences(one: Recorded, two: Recorded, metric: str) -> list[str]:
    """Return a line for each thing that makes the figures of two runs less alike."""
    notes = []
    if not one.rows.keys() & two.rows.keys():
        notes.append(
            "no cell is in both runs; cells are told apart by their four names"
        )
    for run in (one, two):
        if run.metric != metric:
            notes.append(f"{run.out} shows {run.metric}; compared in {metric}")
    if one.data is None or two.data is None:
        notes.append("without both run.toml nobody knows whether the data is the same")
    elif one.data != two.data:
        notes.append("the data differs: other pairs or pictures")
    if one.protocol and two.protocol:
        notes += _listed("the protocol differs", one.protocol, two.protocol)
    else:
        notes += _listed("the protocol differs", _named(one), _named(two))
    if one.records and two.records and one.seeds != two.seeds:
        notes.append(_seeds(one.seeds, two.seeds))
    aliases = [run.run.get("alias", {}) for run in (one, two)]
    if all(isinstance(alias, dict) for alias in aliases):
        shared = aliases[0].keys() & aliases[1].keys()
        notes += _listed(
            "a short name stands for another vectorizer",
            *({name: alias[name] for name in sorted(shared)} for alias in aliases),
        )
    return notes + _listed("versions differ", one.versions, two.versions)


def _named(run: Recorded) -> dict[str, str]:
    return {"name": next(iter(run.rows.values()))["protocol"]}


def _listed(what: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Return one line on all keys under which two tables differ, or none."""
    keys = [key for key in {**one, **two} if one.get(key) != two.get(key)]
    if not keys:
        return []
    pairs = (f"{key} {one.get(key, '–')} → {two.get(key, '–')}" for key in keys)
    return [f"{what}: {', '.join(pairs)}"]


def _seeds(one: set[int], two: set[int]) -> str:
    shared = ", ".join(map(str, sorted(one & two)))
    return f"the seeds differ: {len(one)} before, {len(two)} after, " + (
        f"in both seed {shared}" if shared else "none in both"
    )
