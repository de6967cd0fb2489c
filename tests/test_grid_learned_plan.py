"""Which learned cells a grid plans: refused ones, named ones, aliases."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted_grid import (
    INFONCE,
    QUICK,
    TRIPLET,
    grid,
    read_csv,
    row_of,
    write_planted,
)

from tllboost.errors import UsageError
from tllboost.grid.cells import Cell, plan_cells, suits
from tllboost.pairs import PairTable, read_pairs
from tllboost.vectorizers import make_vectorizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def table(folder: Path) -> PairTable:
    return read_pairs(folder / "pairs.csv")


@pytest.fixture(scope="module")
def planted(folder: Path) -> str:
    return f"vectors:{folder / 'planted.npz'}"


# --- what fails, and what is refused


def test_a_projection_that_fails_is_failed_rows_with_the_reason(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    easy = f"triplet?{QUICK}&margin=1e-06&negatives=semi-hard"
    result = grid(
        table,
        tmp_path / "out",
        vectorizers=[planted],
        projections=[easy, INFONCE],
        heads=["cosine", "logistic"],
    )
    failed = [row for row in result.rows if row["status"] == "failed"]
    assert [row["projection"] for row in failed] == [easy, easy]
    assert all("no triplet" in row["error"] for row in failed)
    assert result.exit_code == 4
    assert row_of(result, projection=INFONCE, head="logistic")["status"] == "ok"
    assert result.chosen is not None
    failures = read_csv(result.out / "failures.csv")
    assert [easy in one["where"] for one in failures] == [True, True]


def test_fine_tuning_that_suits_no_vectorizer_is_refused_before_anything_is_written(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="'finetune' goes with none of the vectorize"):
        grid(table, tmp_path / "o", vectorizers=[planted], projections=["finetune"])
    named = [
        {
            "name": "B6",
            "vectorizer": planted,
            "projection": "finetune",
            "head": "cosine",
        }
    ]
    with pytest.raises(UsageError, match="does not go with that vectorizer"):
        grid(table, tmp_path / "o", vectorizers=[], named=named)
    assert not (tmp_path / "o").exists()


def test_a_projection_may_suit_one_vectorizer_and_not_another() -> None:
    cells = plan_cells(
        ["pixels", "classic"],
        [],
        ["cosine"],
        ["none", "siamese-cnn"],
        suits=lambda vectorizer, projection: vectorizer == "pixels",
    )
    assert [(cell.vectorizer, cell.projection) for cell in cells] == [
        ("pixels", "none"),
        ("pixels", "siamese-cnn"),
        ("classic", "none"),
    ]


@pytest.mark.parametrize(
    ("vectorizer", "projection", "is_so"),
    [
        ("classic", "triplet/contrastive", True),
        ("classic", "siamese-cnn", False),
        ("classic", "siamese-cnn/infonce", False),
        ("pixels", "siamese-cnn/infonce", True),
        ("pixels", "infonce/siamese-cnn", False),
        ("pixels", "finetune", False),
        ("pixels+classic", "siamese-cnn", False),
        ("timm:resnet50", "finetune/infonce", True),
        ("timm:resnet50", "finetune/siamese-cnn", False),
        ("timm:resnet50+classic", "finetune", True),
        ("timm:resnet50+classic", "finetune/infonce/triplet", True),
        ("timm:resnet50+classic", "finetune/siamese-cnn", False),
        ("timm:resnet50+clip:RN50:openai", "finetune", False),
        ("onnx:net.onnx+classic", "finetune", False),
        ("timm:resnet50+classic", "infonce", True),
        ("clip:RN50:openai", "finetune?stages=1", True),
        ("onnx:net.onnx", "finetune", False),
    ],
)
def test_fine_tuning_wants_one_network_and_a_new_network_wants_pixels(
    vectorizer: str, projection: str, is_so: bool
) -> None:
    assert suits(make_vectorizer(vectorizer), projection) is is_so


@pytest.mark.parametrize(
    "projection", ["none", "infonce", "contrastive?joined=false", "contrastive/triplet"]
)
def test_the_joined_network_needs_a_contrastive_projection(projection: str) -> None:
    with pytest.raises(UsageError, match="contrastive"):
        plan_cells(["classic"], ["dot"], ["joined"], [projection])
    with pytest.raises(UsageError, match="contrastive"):
        plan_cells([], [], [], named=[Cell("classic", projection, "none", "joined")])


@pytest.mark.parametrize(
    ("projection", "said"),
    [
        ("infonec", "did you mean 'infonce'"),
        ("infonce?depht=1", "unknown option 'depht'"),
        ("infonce?depth=7", "0, 1 or 2"),
        ("finetune?epochs=0", "epochs"),
        ("finetune?colour=1", "unknown option 'colour'"),
        ("finetune/infonec", "did you mean 'infonce'"),
    ],
)
def test_a_wrong_projection_is_refused_before_anything_is_written(
    projection: str, said: str, table: PairTable, planted: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        grid(table, tmp_path / "o", vectorizers=[planted], projections=[projection])
    assert not (tmp_path / "o").exists()


# --- named cells and aliases


def test_named_cells_stand_beside_the_product_under_their_names(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    named = [
        {"name": "A1", "vectorizer": "mine", "projection": TRIPLET, "head": "cosine"},
        {"name": "A4", "vectorizer": "mine", "merge": "l1", "head": "logistic"},
    ]
    result = grid(
        table,
        tmp_path / "out",
        vectorizers=["mine"],
        named=named,
        aliases={"mine": planted},
    )
    found = {row["name"]: row for row in read_csv(result.out / "results.csv")}
    assert set(found) == {"", "A1", "A4"}
    assert {row["vectorizer"] for row in found.values()} == {"mine"}
    assert found["A1"]["projection"] == TRIPLET
    assert (found["A4"]["merge"], found["A4"]["head"]) == ("l1", "logistic")
    assert (found[""]["projection"], found[""]["head"]) == ("none", "cosine")


def test_named_cells_alone_bring_the_frozen_cosine_along(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    named = [
        {"name": "A1", "vectorizer": planted, "projection": TRIPLET, "head": "cosine"}
    ]
    result = grid(table, tmp_path / "out", vectorizers=[], named=named)
    assert [row["name"] for row in result.rows] == ["", "A1"]
    assert result.rows[1]["gain"] == pytest.approx(
        result.rows[1]["top2"] - result.rows[0]["top2"]
    )


def test_one_cell_of_two_names_is_refused(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    one = {"vectorizer": planted, "head": "cosine"}
    named = [{"name": "A1", **one}, {"name": "A9", **one}]
    with pytest.raises(UsageError, match="'A1' and 'A9' are the same"):
        grid(table, tmp_path / "o", vectorizers=[], named=named)


def test_two_names_of_one_vectorizer_learn_once(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    result = grid(
        table,
        tmp_path / "out",
        vectorizers=["one", "two"],
        aliases={"one": planted, "two": planted},
        projections=[INFONCE],
    )
    assert len(list(result.out.glob("projections/*.safetensors"))) == 1
    one, two = (
        row_of(result, vectorizer=name, projection=INFONCE) for name in ("one", "two")
    )
    assert one["top2"] == two["top2"]
