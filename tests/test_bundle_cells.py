"""Bundles of several cells, and of cells with a projection."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import (
    IDS,
    LEFT,
    MAPS,
    PAIRS,
    RIGHT,
    Edit,
    Members,
    in_tensors,
    make_cell,
    make_classifier,
    make_vectors,
    refused,
    save,
    tamper,
    tiny_network,
    write_npz,
)
from conftest import Run, write_image
from safetensors.numpy import load as load_tensors

from tllboost.bundle import read_manifest, save_bundle
from tllboost.calibration import Calibration
from tllboost.classifier import PairClassifier, ensemble, load_bundle
from tllboost.errors import UsageError
from tllboost.pairs import pairs_from_paths
from tllboost.projections import PROJECTIONS
from tllboost.vectorizers import make_vectorizer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own cache out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("vectors") / "net.npz")


# Ensembles


@pytest.fixture(scope="session")
def three(npz: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An ensemble of three cells of one vectorizer, its own curve and threshold."""
    choices = [("cosine", "dot"), ("logistic", "dot+l1"), ("random-forest", "l2")]
    cells = [make_cell(f"vectors:{npz}", head, merge) for head, merge in choices]
    cells[0] = replace(cells[0], weight=0.25)
    made = ensemble(cells, calibration=Calibration(1.5, 0.5), threshold=0.125)
    return save(tmp_path_factory.mktemp("three") / "best.tllb", made).read_bytes()


@pytest.fixture
def bundle(tmp_path: Path, three: bytes) -> Path:
    path = tmp_path / "best.tllb"
    path.write_bytes(three)
    return path


def test_an_ensemble_comes_back_as_it_was(tmp_path: Path, npz: Path) -> None:
    heads = ["cosine", "logistic", "xgboost"]
    cells = [make_cell(f"vectors:{npz}", head) for head in heads]
    cells[1] = replace(cells[1], weight=0.2)
    made = ensemble(cells, calibration=Calibration(1.5, 0.5), threshold=0.125)
    loaded = load_bundle(save(tmp_path / "best.tllb", made))
    assert [cell.scorer.head for cell in loaded.cells_] == heads
    assert [cell.weight for cell in loaded.cells_] == [1, 0.2, 1]
    assert loaded.calibration_ == made.calibration_
    assert loaded.threshold_ == 0.125
    for method in ("decision_function", "predict_proba", "predict"):
        np.testing.assert_array_equal(
            getattr(loaded, method)(PAIRS), getattr(made, method)(PAIRS)
        )
    names = [IDS[right] for right in RIGHT[:9]]
    assert loaded.rank(IDS[0], names) == made.rank(IDS[0], names)


def test_a_loaded_ensemble_can_be_saved_again(bundle: Path, tmp_path: Path) -> None:
    loaded = load_bundle(bundle)
    again = load_bundle(save(tmp_path / "again.tllb", loaded))
    np.testing.assert_array_equal(
        again.predict_proba(PAIRS), loaded.predict_proba(PAIRS)
    )


def test_cells_share_networks_and_open_them_once(tmp_path: Path) -> None:
    network = tiny_network(tmp_path / "net.onnx")
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(network.read_bytes())
    names = [f"onnx:{network}", f"onnx:{copy}+pixels?size=4", "pixels?size=4"]
    widths = [make_vectorizer(name).n_dims for name in names]
    cells = [
        make_cell(name, "cosine", n_dims=width)
        for name, width in zip(names, widths, strict=True)
    ]
    made = ensemble(cells)
    bundle = save(tmp_path / "best.tllb", made)
    manifest = read_manifest(bundle)
    members = [name for name in manifest["members"] if name.startswith("network/")]
    assert members == ["network/net.onnx"]
    assert [one["label"] for one in manifest["vectorizers"]] == [
        "onnx:net",
        "pixels?size=4",
    ]
    parts = [[one["index"] for one in cell["vectorizer"]] for cell in manifest["cells"]]
    assert parts == [[0], [0, 1], [1]]
    paths = [write_image(tmp_path / f"{i}.jpg", seed=i) for i in range(4)]
    wanted = made.decision_function([paths[:2], paths[2:]])
    for path in (network, copy):
        path.unlink()
    loaded = load_bundle(bundle)
    one, fusion, other = (cell.vectorizer for cell in loaded.cells_)
    assert fusion.parts == [one, other]  # type: ignore[attr-defined]
    told: list[tuple[int, int, str]] = []
    table = pairs_from_paths([paths[:2], paths[2:]])
    scores = loaded.score_table(
        table,
        table.left,
        table.right,
        progress=lambda *args: told.append(args),
    )
    assert [label for done, _, label in told if done == 4] == [
        "onnx:net",
        "pixels?size=4",
    ]
    np.testing.assert_allclose(scores.score - loaded.threshold_, wanted, rtol=1e-6)


def test_cells_of_one_vectorizer_keep_its_golden_vectors_once(
    bundle: Path, npz: Path
) -> None:
    with zipfile.ZipFile(bundle) as archive:
        arrays = load_tensors(archive.read("golden.safetensors"))
    assert set(arrays) == {"vectors.0", "scores"}
    assert arrays["scores"].shape == (4, 8)
    assert len(read_manifest(bundle)["vectorizers"]) == 1


def test_golden_vectors_are_given_for_every_cell(tmp_path: Path, npz: Path) -> None:
    vectors = make_vectors()
    block = (vectors[LEFT[:4]], vectors[RIGHT[:4]])
    made = ensemble([make_cell(f"vectors:{npz}", head) for head in ("cosine", "mlp")])
    both = [block, block]
    save_bundle(tmp_path / "a.tllb", made, cell={}, metrics={}, golden=both)
    assert len(load_bundle(tmp_path / "a.tllb").cells_) == 2
    with pytest.raises(UsageError, match="pairs for each of 2 cells"):
        save_bundle(tmp_path / "b.tllb", made, cell={}, metrics={}, golden=[block])


def test_golden_vectors_are_of_the_same_pairs_for_every_cell(
    tmp_path: Path, npz: Path
) -> None:
    vectors = make_vectors()
    cells = [
        make_cell(f"vectors:{npz}", "cosine"),
        make_cell("pixels?size=2", "cosine"),
    ]
    blocks = [(vectors[:n], vectors[n : 2 * n]) for n in (4, 5)]
    with pytest.raises(UsageError, match="the same pairs"):
        save_bundle(
            tmp_path / "a.tllb", ensemble(cells), cell={}, metrics={}, golden=blocks
        )


def test_an_ensemble_without_end_is_refused(tmp_path: Path, npz: Path) -> None:
    cell = make_cell(f"vectors:{npz}", "cosine")
    with pytest.raises(UsageError, match="65 cells is too large"):
        save(tmp_path / "best.tllb", ensemble([cell] * 65))
    loaded = load_bundle(save(tmp_path / "best.tllb", ensemble([cell] * 64)))
    assert len(loaded.cells_) == 64


def _rescore(cell: int) -> Edit:
    return in_tensors(
        "golden.safetensors", lambda arrays: arrays["scores"][cell].__imul__(1.01)
    )


def _without_last(arrays: dict[str, np.ndarray]) -> None:
    arrays["scores"] = arrays["scores"][:-1].copy()


FORGED: dict[str, tuple[Edit, str]] = {
    "score of one cell": (_rescore(1), "scores .* and scored"),
    "score of the whole": (_rescore(-1), "scores .* and scored"),
    "a score is missing": (
        in_tensors("golden.safetensors", _without_last),
        "golden pairs are",
    ),
    "a head is missing": (
        lambda _, members: members.pop("1/head.safetensors"),
        "member '1/head.safetensors' is missing",
    ),
    "heads are swapped": (
        lambda manifest, _: manifest["cells"].insert(0, manifest["cells"].pop(1)),
        "do not use it",
    ),
    "a cell is missing": (
        lambda manifest, _: manifest["cells"].pop(),
        "member '2/head.safetensors' is not used",
    ),
    "a calibration is another": (
        lambda manifest, _: manifest["cells"][0]["calibration"].update(slope=0.5),
        "golden pair",
    ),
    "a weight is another": (
        lambda manifest, _: manifest["cells"][0].update(weight=1),
        "golden pair",
    ),
    "a weight is none": (
        lambda manifest, _: manifest["cells"][0].update(weight=-1),
        r"cells\[0\].weight is not legal",
    ),
    "two tell one fingerprint": (
        lambda manifest, _: manifest["vectorizers"].append(
            {**manifest["vectorizers"][0], "n_dims": 99}
        ),
        "two of its vectorizers have the same fingerprint",
    ),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_forged_ensembles_are_refused(bundle: Path, forgery: str) -> None:
    edit, reason = FORGED[forgery]
    tamper(bundle, edit)
    with refused(reason) as caught:
        load_bundle(bundle)
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)


def test_heads_that_unpack_to_more_than_memory_are_refused_unread(
    bundle: Path,
) -> None:
    def swell(manifest: dict[str, Any], _: Members) -> None:
        one = manifest["members"]["1/head.safetensors"]
        manifest["members"] |= {
            f"{n}/head.skops": {**one, "size": 4 * 10**8} for n in (0, 1, 2)
        }

    tamper(bundle, swell, sealed=False)
    with refused(r"heads and projections of 1,2.* are allowed"):
        read_manifest(bundle)


# Projections


@pytest.fixture(scope="session")
def projected(npz: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    made = make_classifier(f"vectors:{npz}", projection="infonce?components=5")
    return save(tmp_path_factory.mktemp("one") / "best.tllb", made).read_bytes()


@pytest.mark.parametrize("head", ["cosine", "logistic", "xgboost"])
@pytest.mark.parametrize(
    "projection", [*MAPS, "infonce?components=8&depth=2/contrastive"]
)
def test_every_projection_comes_back_as_it_was(
    tmp_path: Path, npz: Path, projection: str, head: str
) -> None:
    made = make_classifier(f"vectors:{npz}", head, projection=projection)
    bundle = save(tmp_path / "best.tllb", made)
    assert read_manifest(bundle)["cells"][0]["projection"] == projection
    assert "0/projection.safetensors" in read_manifest(bundle)["members"]
    loaded = load_bundle(bundle)
    np.testing.assert_array_equal(
        loaded.decision_function(PAIRS), made.decision_function(PAIRS)
    )
    assert loaded.get_params()["projection"] == projection


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_projection_keeps_its_options(tmp_path: Path, npz: Path, depth: int) -> None:
    spec = f"infonce?components=4&depth={depth}"
    made = make_classifier(f"vectors:{npz}", "cosine", projection=spec)
    loaded = load_bundle(save(tmp_path / "best.tllb", made))
    assert make_spec(loaded) == make_spec(made)
    np.testing.assert_array_equal(
        loaded.decision_function(PAIRS), made.decision_function(PAIRS)
    )


def make_spec(classifier: Any) -> str:
    return str(classifier.cells_[0].projection.spec)


@pytest.mark.skipif("siamese-cnn" not in PROJECTIONS, reason="not registered")
def test_a_network_from_scratch_comes_back_as_it_was(tmp_path: Path) -> None:
    spec = "siamese-cnn?components=16&epochs=1"
    made = make_classifier("pixels?size=16", "cosine", n_dims=768, projection=spec)
    loaded = load_bundle(save(tmp_path / "best.tllb", made))
    assert make_spec(loaded) == spec
    pair = [write_image(tmp_path / f"{i}.jpg", seed=i) for i in range(2)]
    np.testing.assert_allclose(
        loaded.decision_function([pair]), made.decision_function([pair]), rtol=1e-6
    )


def test_a_projection_scores_without_torch(tmp_path: Path, projected: bytes) -> None:
    bundle = tmp_path / "best.tllb"
    bundle.write_bytes(projected)
    code = """
import sys
from tllboost.classifier import load_bundle
print(load_bundle(sys.argv[1]).decision_function([sys.argv[2:]])[0])
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle), *PAIRS[0]],
        capture_output=True,
        text=True,
        check=True,
    )
    score, has_torch = done.stdout.split()
    assert float(score) == load_bundle(bundle).decision_function(PAIRS[:1])[0]
    assert has_torch == "False"


def test_an_ensemble_may_mix_cells_with_and_without_projection(
    tmp_path: Path, npz: Path
) -> None:
    cells = [
        make_cell(f"vectors:{npz}", projection=projection)
        for projection in ("infonce", "none", "triplet")
    ]
    made = ensemble(cells)
    bundle = save(tmp_path / "best.tllb", made)
    names = [n for n in read_manifest(bundle)["members"] if "projection" in n]
    assert names == ["0/projection.safetensors", "2/projection.safetensors"]
    np.testing.assert_array_equal(
        load_bundle(bundle).decision_function(PAIRS), made.decision_function(PAIRS)
    )


PROJECTION = "0/projection.safetensors"


def _first(change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    """Return an edit of the largest tensor of the projection."""

    def edit(arrays: dict[str, np.ndarray]) -> None:
        key = max(arrays, key=lambda name: arrays[name].size)
        arrays[key] = change(arrays[key])

    return in_tensors(PROJECTION, edit)


FORGED_PROJECTIONS: dict[str, tuple[Edit, str]] = {
    "NaN weights": (_first(lambda one: one * np.float32("nan")), "not a finite number"),
    "infinite weights": (
        _first(lambda one: one + np.float32("inf")),
        "not a finite number",
    ),
    "other weights": (_first(lambda one: -one[::-1].copy()), "golden pair"),
    "fewer rows": (_first(lambda one: one[1:].copy()), "do not use it"),
    "fewer columns": (_first(lambda one: one[:, 1:].copy()), "do not use it"),
    "flat weights": (_first(lambda one: one.ravel()), "do not use it"),
    "whole numbers": (_first(lambda one: one.astype(np.int8)), "do not use it"),
    "no weights": (in_tensors(PROJECTION, lambda arrays: arrays.clear()), "can't be"),
    "noise": (lambda _, members: members.update({PROJECTION: b"x"}), "is damaged"),
    "missing": (
        lambda _, members: members.pop(PROJECTION),
        "safetensors' is missing",
    ),
    "not named": (
        lambda manifest, _: manifest["cells"][0].update(projection="none"),
        "projection.safetensors' is not used",
    ),
    "another option": (
        lambda manifest, _: manifest["cells"][0].update(projection="infonce?x=1"),
        "unknown option 'x'",
    ),
    "no such": (
        lambda manifest, _: manifest["cells"][0].update(projection="infonse"),
        "unknown projection 'infonse'",
    ),
    "code": (
        lambda manifest, _: manifest["cells"][0].update(projection="no_such:Own"),
        "'no_such:Own' is not allowed in a bundle",
    ),
    "code in a chain": (
        lambda manifest, _: manifest["cells"][0].update(projection="infonce/a.b:Own"),
        "is not allowed in a bundle",
    ),
}


@pytest.mark.parametrize("forgery", FORGED_PROJECTIONS)
def test_forged_projections_are_refused(
    tmp_path: Path, projected: bytes, forgery: str
) -> None:
    bundle = tmp_path / "best.tllb"
    bundle.write_bytes(projected)
    edit, reason = FORGED_PROJECTIONS[forgery]
    tamper(bundle, edit)
    with refused(reason) as caught:
        load_bundle(bundle)
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)


def test_a_projection_of_ones_own_is_refused(tmp_path: Path, npz: Path) -> None:
    from tllboost.projections.base import Projection
    from tllboost.scoring import FittedCell

    class Own(Projection):
        name = "own"

    cell = make_cell(f"vectors:{npz}", "cosine")
    own = FittedCell(cell.vectorizer, Own(), cell.scorer)
    with pytest.raises(UsageError, match="Own' can't go into a bundle: built-in"):
        save(tmp_path / "best.tllb", ensemble([own]))


# Commands


def test_bundle_show_lists_the_cells(run: Run, bundle: Path) -> None:
    shown = run("bundle", "show", bundle).stdout
    for text in ("1 of 3", "3 of 3", "dot+l1", "random-forest", "net.npz"):
        assert text in shown
    assert shown.count("in the bundle") == 1
    assert len(run("bundle", "show", bundle, "--json").json["cells"]) == 3


def test_commands_take_ensembles(run: Run, tmp_path: Path) -> None:
    network = tiny_network(tmp_path / "net.onnx")
    names = [f"onnx:{network}", f"onnx:{network}+pixels?size=2"]
    cells = [
        make_cell(name, "cosine", n_dims=make_vectorizer(name).n_dims) for name in names
    ]
    bundle = save(tmp_path / "best.tllb", ensemble(cells))
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [write_image(folder / f"{i}.jpg", seed=i) for i in range(3)]
    loaded = load_bundle(bundle)
    scored = run("score", bundle, *paths[:2], "--json").json
    probability = loaded.predict_proba([paths[:2]])[0, 1]
    assert scored["probability"] == pytest.approx(probability)
    assert scored["threshold"] == 0.5
    rows = run("rank", bundle, paths[0], "--among", folder, "--json").json
    ranked = loaded.rank(paths[0], paths[1:])
    assert [row["candidate"] for row in rows] == [str(path) for path, _ in ranked]
    verified = run("bundle", "verify", bundle)
    assert (verified.returncode, verified.stderr) == (0, "")


# Real weights and images


@pytest.mark.shared
def test_a_real_ensemble_ranks_matches_of_new_pairs_first(
    run: Run, shared: Path, tll: Path, tmp_path: Path
) -> None:
    rows = [row.split(",") for row in (tll / "pairs.csv").read_text().split()[1:141]]
    sides = [tll / "left", tll / "right"]
    pairs = [
        [folder / f"{one}.jpg" for folder, one in zip(sides, row, strict=True)]
        for row in rows
    ]
    squeezenet = f"onnx:{shared / 'weights' / 'squeezenet1_1.onnx'}"
    store = tmp_path / "store"
    cells = [
        PairClassifier(name, projection=projection, head="cosine", store=store)
        .fit(pairs[:120])
        .cells_[0]
        for name, projection in (
            (squeezenet, "none"),
            (f"{squeezenet}+pixels", "infonce"),
        )
    ]
    table = pairs_from_paths(pairs)
    vectors, _ = ensemble(cells, store=store).vectors_of(table.paths, table.ids)
    left, right = table.left[:8], table.right[:8]
    bundle = tmp_path / "best.tllb"
    save_bundle(
        bundle,
        ensemble(cells),
        cell={},
        metrics={},
        golden=[(block[left], block[right]) for block in vectors],
    )
    rights = ",".join(right for _, right in rows[120:])
    table = tmp_path / "candidates.csv"
    header = ",".join(["left", *(f"c{i}" for i in range(20))])
    lines = [header, *(f"{left},{rights}" for left, _ in rows[120:])]
    table.write_text("\n".join(lines))
    folders = ("--left", tll / "left", "--right", tll / "right", "--store", store)
    done = run("rank", bundle, "--candidates", table, *folders)
    scores = np.array([[float(row[f"c{i}"]) for i in range(20)] for row in done.table])
    rank = (scores >= np.diag(scores)[:, None]).sum(axis=1)
    assert (rank <= 5).mean() >= 0.5  # chance: 0.25
    assert run("bundle", "verify", bundle).returncode == 0
