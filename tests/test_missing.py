"""Libraries that are not installed: each is named, with how to install it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bundles import IDS, N_PAIRS, make_cell, make_classifier, save, write_npz
from conftest import Run

from tllboost.errors import MissingLibraryError
from tllboost.grid.cells import RECIPES
from tllboost.grid.run import run_grid
from tllboost.heads import HEADS, make_head
from tllboost.pairs import read_pairs
from tllboost.projections import PROJECTIONS
from tllboost.registry import Registry
from tllboost.vectorizers import VECTORIZERS, make_vectorizer

NEED = [
    (kind, name, library)
    for kind in (VECTORIZERS, HEADS, PROJECTIONS)
    for name, entry in kind.items()
    for library in entry.needs
]
MAKE: dict[str, Callable[[str], object]] = {
    "vectorizer": lambda name: make_vectorizer(f"{name}:x:y"),
    "head": make_head,
    "projection": PROJECTIONS.resolve,
}
PACKAGES = {
    "skimage": "scikit-image",
    "open_clip": "open_clip_torch",
    **{name: f"'tllboost[{name}]'" for name in ("lightgbm", "catboost")},
}


def hide(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    """Make imports of libraries fail as they do where these are not installed."""
    for library in libraries:
        for name in [*sys.modules, library]:
            if name == library or name.startswith(f"{library}."):
                monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(("kind", "name", "library"), NEED)
def test_a_name_whose_library_is_missing_says_what_to_install(
    kind: Registry, name: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, library)
    with pytest.raises(MissingLibraryError) as caught:
        MAKE[kind.kind](name)
    assert f"{name!r} needs {library!r}" in str(caught.value)
    remedy = f"pip install {PACKAGES.get(library, library)}"
    assert str(caught.value).endswith(remedy)


@pytest.mark.parametrize(
    ("option", "library"),
    [
        (("-v", "timm:resnet18"), "timm"),
        (("-v", "classic+clip:RN50:openai"), "open_clip"),
        (("-p", "infonce", "-c", "cosine"), "torch"),
        (("-c", "mlp"), "torch"),
        (("-c", "xgboost"), "xgboost"),
    ],
)
def test_a_grid_that_asks_for_what_is_missing_is_one_line_and_exit_2(
    option: tuple[str, ...],
    library: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch, library)
    vectors = (
        () if "-v" in option else ("-v", f"vectors:{write_npz(tmp_path / 'v.npz')}")
    )
    done = run(
        "grid", write_pairs(tmp_path), *vectors, *option, "--out", tmp_path / "out"
    )
    assert done.returncode == 2
    assert f"needs {library!r}, not installed: pip install" in done.stderr
    assert done.stderr.count("\n") == 1


def write_pairs(folder: Path) -> Path:
    rows = [f"{IDS[n]},{IDS[n + N_PAIRS]}\n" for n in range(N_PAIRS)]
    (folder / "pairs.csv").write_text("".join(["left,right\n", *rows]))
    return folder / "pairs.csv"


def test_the_usual_heads_leave_out_what_is_missing_with_one_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "torch", "xgboost")
    monkeypatch.setattr("tllboost.grid.run.DEFAULT_HEADS", ("cosine", "mlp", "xgboost"))
    notes: list[str] = []
    result = run_grid(
        read_pairs(write_pairs(tmp_path)),
        [f"vectors:{write_npz(tmp_path / 'own.npz')}"],
        ["dot"],
        ("cosine", "mlp", "xgboost"),
        out=tmp_path / "out",
        store=tmp_path / "store",
        message=notes.append,
    )
    assert [row["head"] for row in result.rows] == ["cosine"]
    assert result.exit_code == 0
    (note,) = (line for line in notes if line.startswith("left out"))
    assert "pip install torch" in note
    assert "pip install xgboost" in note


def test_a_recipe_leaves_out_the_projection_that_misses_a_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "torch")
    notes: list[str] = []
    result = run_grid(
        read_pairs(write_pairs(tmp_path)),
        [f"vectors:{write_npz(tmp_path / 'own.npz')}"],
        heads=["cosine"],
        projections=RECIPES["default"]["projection"],
        out=tmp_path / "out",
        store=tmp_path / "store",
        message=notes.append,
    )
    assert [row["projection"] for row in result.rows] == ["none"]
    (note,) = (line for line in notes if line.startswith("left out"))
    assert "'infonce' needs 'torch'" in note


def test_what_a_bundles_vectorizer_misses_is_not_blamed_on_the_image(
    image: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = make_classifier("pocket", "cosine", n_dims=384)
    bundle = save(tmp_path / "best.tllb", classifier)
    hide(monkeypatch, "onnxruntime")
    done = run("score", bundle, image, image)
    assert done.returncode == 2
    assert done.stderr == (
        "tllboost: this needs 'onnxruntime', not installed: pip install onnxruntime\n"
    )


def test_a_projection_that_can_not_train_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch, "torch")
    with pytest.raises(MissingLibraryError, match="pip install torch"):
        make_cell("pixels", "cosine", projection="infonce")


def test_a_library_missing_anywhere_is_no_bug_of_ours(
    image: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "platformdirs")
    done = run("vectorize", image, "-v", "pixels")
    assert done.returncode == 2
    assert done.stderr.endswith(
        "'platformdirs', not installed: pip install platformdirs\n"
    )
