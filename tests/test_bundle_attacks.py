"""Attacks on whoever is sent a bundle, as the command line meets them."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import (
    Members,
    make_cell,
    make_classifier,
    save,
    tamper,
    tiny_network,
    write_npz,
)
from conftest import Run, write_image
from reliability import count
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from tllboost.heads.boosting import XGBoostHead

Attack = Callable[[Path], None]
GOLDEN, HEAD = "golden.safetensors", "0/head.safetensors"


def edited(edit: Callable[[dict[str, Any], Members], None]) -> Attack:
    """Forge a bundle whose every sha256 is right."""
    return lambda path: tamper(path, edit) and None


def with_member(name: str, data: bytes, packing: int = zipfile.ZIP_STORED) -> Attack:
    """Put a further member beside the others."""

    def attack(path: Path) -> None:
        with zipfile.ZipFile(path, "a", packing) as archive:
            archive.writestr(zipfile.ZipInfo(name), data, packing, compresslevel=1)

    return attack


def unsealed(path: Path) -> None:
    """Change a weight and nothing else."""
    tamper(path, _weights("coef", lambda one: one * 2), sealed=False)


def _weights(key: str, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    def edit(_: dict[str, Any], members: Members) -> None:
        arrays = load_tensors(members[HEAD])
        members[HEAD] = save_tensors({**arrays, key: change(arrays[key])})

    return edit


def _scores(_: dict[str, Any], members: Members) -> None:
    arrays = load_tensors(members[GOLDEN])
    members[GOLDEN] = save_tensors({**arrays, "scores": arrays["scores"] + 1})


def _skops(of: Any) -> Callable[[dict[str, Any], Members], None]:
    def edit(manifest: dict[str, Any], members: Members) -> None:
        import skops.io

        del members[HEAD]
        members["0/head.skops"] = skops.io.dumps(of)
        manifest["cells"][0]["head"] = {"name": "sklearn.tree:X", "format": "skops"}

    return edit


def _tree() -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier().fit(np.eye(4), [0, 1, 0, 1])


def _boosted(manifest: dict[str, Any], members: Members) -> None:
    """Put a boosted head in, whose first tree leads far beyond its last node."""
    trees = XGBoostHead(start="none", n_estimators=20, max_depth=3)
    arrays = make_cell("classic", trees).scorer.fitted.tensors()
    arrays["left"][0] = 10**6
    members[HEAD] = save_tensors(arrays)
    manifest["cells"][0]["head"] = {"name": "xgboost", "format": "trees"}


ATTACKS: dict[str, tuple[Attack, str]] = {
    "zip-slip": (with_member("../../evil.py", b"x"), "has no place in a bundle"),
    "absolute path": (with_member("/tmp/evil", b"x"), "has no place in a bundle"),
    "zip bomb": (
        with_member("0/head.skops", bytes(500_000_001), zipfile.ZIP_DEFLATED),
        "at most 500,000,000 are allowed",
    ),
    "unknown member": (with_member("setup.py", b"x"), "has no place in a bundle"),
    "unlisted member": (with_member("1/head.skops", b"{}"), "is not in the manifest"),
    "tampered member": (unsealed, "was changed: its sha256 differs"),
    "wrong golden scores": (edited(_scores), "and scored"),
    "newer format": (
        edited(lambda manifest, _: manifest.update(version=99)),
        "format version 99",
    ),
    "older format": (
        edited(lambda manifest, _: manifest.update(version=3)),
        "format version 3,",
    ),
    "skops outside the list": (edited(_skops(_tree())), "not safe to load"),
    "skops of a function": (edited(_skops(os.system)), "not safe to load"),
    "child out of range": (edited(_boosted), "indices out of range"),
    "NaN weights": (
        edited(_weights("coef", lambda one: one * np.float32("nan"))),
        "not a finite number",
    ),
    "infinite weights": (
        edited(_weights("coef", lambda one: one + np.float32("inf"))),
        "not a finite number",
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("made")
    classifier = make_classifier(f"vectors:{write_npz(folder / 'net.npz')}")
    return save(folder / "best.tllb", classifier).read_bytes()


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_end_with_exit_code_5_before_anything_is_done(
    run: Run, tmp_path: Path, made: bytes, attack: str
) -> None:
    bundle = tmp_path / "best.tllb"
    bundle.write_bytes(made)
    change, reason = ATTACKS[attack]
    change(bundle)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("left,right\nleft000,right000\n", encoding="utf-8")
    for arguments in (
        ("score", bundle, "--pairs", pairs, "--csv"),
        ("bundle", "verify", bundle),
    ):
        done = run(*arguments)
        assert done.returncode == 5, done.stderr
        assert done.stdout == ""
        assert reason in done.stderr
        assert "Traceback" not in done.stderr
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert after - before == {pairs}
    count("bad bundles tried")


def test_a_network_that_is_not_the_recorded_one_scores_nothing(
    run: Run, tmp_path: Path
) -> None:
    network = tiny_network(tmp_path / "net.onnx")
    classifier = make_classifier(f"onnx:{network}", "cosine", n_dims=3)
    bundle = save(tmp_path / "best.tllb", classifier, 3)

    def other(manifest: dict[str, Any], _: Members) -> None:
        text = json.dumps(manifest["vectorizers"]).replace("224x224", "160x160")
        manifest["vectorizers"] = json.loads(text)

    tamper(bundle, other)
    image = write_image(tmp_path / "a.jpg", seed=1)
    done = run("score", bundle, image, image)
    assert done.returncode == 5
    assert done.stdout == ""
    assert "the fingerprint is not what the bundle says" in done.stderr
    count("bad bundles tried")
