"""Fine-tuned networks, and networks from scratch, in a grid."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import plant
from planted_grid import (
    TUNING,
    grid,
    records_of,
    row_of,
    stamps,
)
from tuning import ARCH, SIZE, pairs_of_images, random_network

from tllboost.classifier import load_bundle
from tllboost.finetune import trained_on
from tllboost.finetune.settings import read_record
from tllboost.grid import best
from tllboost.grid.measure import Bench
from tllboost.grid.records import read_scores
from tllboost.pairs import PairTable, read_pairs
from tllboost.splits import Protocol, SplitTable, make_splits, match_components

# --- fine-tuning, networks and pixels


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> PairTable:
    folder = tmp_path_factory.mktemp("images")
    left, right = pairs_of_images(folder)
    rows = [f"{a.stem},{b.stem}" for a, b in zip(left, right, strict=True)]
    (folder / "pairs.csv").write_text("\n".join(["left,right", *rows]) + "\n")
    random_network(folder / "net.safetensors")
    return read_pairs(folder / "pairs.csv", images=folder)


def test_projections_and_fusions_stand_on_a_fine_tuned_network(
    images: PairTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever validation would pick: one bundle shall hold them all.
    monkeypatch.setattr(best, "select_members", lambda cells, *_: np.ones(len(cells)))
    network = Path(images.source).parent / "net.safetensors"
    short = f"{TUNING}/infonce?components=4&epochs=2"
    cells = [("net", TUNING, "none", "cosine"), ("net", short, "none", "cosine")]
    cells.append(("net", TUNING, "dot", "xgboost"))
    cells.append(("fused", TUNING, "none", "cosine"))
    named = [
        {
            "name": f"{number}",
            "vectorizer": vectorizer,
            "projection": projection,
            "merge": merge,
            "head": head,
        }
        for number, (vectorizer, projection, merge, head) in enumerate(cells)
    ]
    net = f"timm:{ARCH}@{network}?size={SIZE}"
    given = {
        "vectorizers": [],
        "named": named,
        "aliases": {"net": net, "fused": f"{net}&views=whole,centre+pixels?size=4"},
        "protocol": Protocol(n_distractors=3, validation_fraction=0.25),
        "ensemble": 6,
        "device": "cpu",
    }
    result = grid(images, tmp_path / "out", **given)
    assert {row["status"] for row in result.rows} == {"ok"}, result.rows
    files = list(result.out.glob("projections/*.safetensors"))
    assert len(files) == 2  # the network, trained once for all views, and the map
    assert row_of(result, name="1")["project_s"] > row_of(result, name="0")["project_s"]

    before = stamps(result.out, "projections/*")
    lines: list[str] = []
    grid(images, result.out, **given, message=lines.append)
    assert stamps(result.out, "projections/*") == before
    assert "6 of 6 cells are finished already" in lines
    ensemble = load_bundle(result.out / "ensemble.tllb", device="cpu")

    # All is trained again on all images, as many epochs: also where a run was killed
    # between the end of a training and the record of it.
    for path in result.out.glob("projections/*.json"):
        path.unlink()
    again = grid(images, result.out, **given, refit=True)
    assert not any("fitted again" in note for note in again.notes)
    assert load_bundle(result.out / "ensemble.tllb").refitted_ == 24 * 6
    files = list(result.out.glob("projections/*.safetensors"))
    assert len(files) == 4
    tuned: Any = {file: read_record(file) for file in files if trained_on(file)}
    seen = sorted(len(trained_on(file)) for file in tuned)
    assert seen == [38, 48]
    first, second = (json.loads(record["history"]) for record in tuned.values())
    assert [one["validation"] for one in first] == [o["validation"] for o in second]

    assert len(ensemble.cells_) == 6
    made = [cell.vectorizer for cell in ensemble.cells_]
    alone = {one.fingerprint for one in made if not hasattr(one, "parts")}
    parts = {part.fingerprint for one in made for part in getattr(one, "parts", ())}
    assert len(alone) == 2  # the network as it was, and tuned
    assert {one.partition("|looks")[0] for one in parts} > alone
    record = next(r for r in records_of(result.out) if "members" in r)
    protocol = given["protocol"]
    test = _test_set(images, protocol)
    scored = ensemble.score_table(images, test.left, test.right)
    np.testing.assert_allclose(
        ensemble.calibration_.log_odds(scored.score),
        read_scores(result.out, record["id"])["test"][0],
        rtol=1e-3,
        atol=1e-3,
    )


def _test_set(table: PairTable, protocol: Protocol) -> Any:
    order = np.lexsort((table.label, table.right, table.left))
    left, right = table.left[order], table.right[order]
    (split,) = make_splits(
        SplitTable(
            left,
            right,
            table.label[order],
            match_components(table.n_images, left, right),
        ),
        protocol=protocol,
        seed=0,
    )
    return split.test


def test_heads_see_no_vectors_that_a_bundle_has_not() -> None:
    data = plant(30, n_dims=3, n_signal=3)
    bench = Bench(data.vectors, data.split, "dot", 0)
    for features in bench.features:
        assert features.vectors is data.vectors
        assert features.frozen is data.vectors


def test_a_network_from_scratch_learns_on_pixels_and_fails_on_too_few(
    images: PairTable, tmp_path: Path
) -> None:
    result = grid(
        images,
        tmp_path / "out",
        vectorizers=["pixels?size=16", "pixels?size=8", "classic"],
        projections=["none", "siamese-cnn?epochs=1&components=8"],
        protocol=Protocol(n_distractors=3),
    )
    status = {
        (row["vectorizer"], row["projection"].partition("?")[0]): row["status"]
        for row in result.rows
    }
    assert status == {
        ("pixels?size=16", "none"): "ok",
        ("pixels?size=16", "siamese-cnn"): "ok",
        ("pixels?size=8", "none"): "ok",
        ("pixels?size=8", "siamese-cnn"): "failed",
        ("classic", "none"): "ok",
    }
    failed = next(row for row in result.rows if row["status"] == "failed")
    assert "of size 16 to 512" in failed["error"]
    assert result.exit_code == 4


@pytest.mark.shared
def test_fine_tuning_real_weights_is_a_row_and_so_is_what_stands_on_it(
    shared: Path, tmp_path: Path
) -> None:
    from tllboost.pairs.groups import read_groups

    folder = tmp_path / "covers"
    for group in sorted((shared / "data" / "dvd-covers").iterdir())[:16]:
        (folder / group.name).mkdir(parents=True)
        for image in sorted(group.iterdir())[:2]:
            shutil.copy(image, folder / group.name)
    weights = shared / "weights" / "mobilenetv2_100.safetensors"
    network = f"timm:mobilenetv2_100@{weights}?size=64"
    result = grid(
        read_groups(folder, "folder"),
        tmp_path / "out",
        vectorizers=[network],
        projections=[TUNING, f"{TUNING}/infonce?components=4&epochs=2"],
        protocol=Protocol(n_distractors=2, validation_fraction=0.25),
    )
    assert [row["status"] for row in result.rows] == ["ok"] * 3, result.rows
    assert all(row["gain"] == 0 for row in result.rows[:1])
    assert result.exit_code == 0
