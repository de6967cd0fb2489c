"""The command finetune, as a user meets it."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from conftest import Run
from tuning import ARCH, SIZE, pairs_of_images, random_network

from tllboost.finetune import trained_on
from tllboost.images import content_hash

FAST = ("--stages", "1", "--epochs", "1", "--views", "1", "--batch", "8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a table of their pairs, and a network."""
    folder = tmp_path_factory.mktemp("finetune")
    left, right = pairs_of_images(folder / "images")
    rows = [f"{a.stem},{b.stem}" for a, b in zip(left, right, strict=True)]
    (folder / "pairs.csv").write_text("\n".join(["left,right", *rows]) + "\n")
    random_network(folder / "net.safetensors")
    return folder


def arguments(folder: Path) -> tuple[object, ...]:
    network = f"timm:{ARCH}@{folder / 'net.safetensors'}?size={SIZE}"
    images = folder / "images"
    return ("finetune", folder / "pairs.csv", "--images", images, "-v", network)


def hashes_of(folder: Path, names: set[str]) -> set[str]:
    images = folder / "images"
    return {content_hash(images / f"{name}.png")[:16] for name in names}


def test_finetune_prints_the_name_of_the_new_vectorizer(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.safetensors"
    done = run(*arguments(folder), *FAST, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"timm:{ARCH}@{out}?size={SIZE}\n"
    assert "epoch 1 of 1" in done.stderr
    vectors = run("vectorize", folder / "images", "-v", done.stdout.strip())
    assert vectors.returncode == 0, vectors.stderr
    again = run(*arguments(folder), *FAST, "--out", out)
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    quiet = run(*arguments(folder), *FAST, "--out", out, "--quiet")
    assert (quiet.stdout, quiet.stderr) == (done.stdout, "")


def test_a_grid_of_the_same_seed_tests_on_images_never_seen(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.safetensors"
    run(*arguments(folder), *FAST, "--seed", "3", "--out", out)
    grid = tmp_path / "grid"
    done = run(
        *("grid", folder / "pairs.csv", "--images", folder / "images"),
        *("-v", "classic", "-c", "cosine", "--seed", "3", "--out", grid, "--quiet"),
    )
    assert done.returncode == 0, done.stderr
    seen = trained_on(out)
    with (grid / "splits.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    side = next(name for name in rows[0] if rows[0][name] in SIDES)
    for row in rows:
        pair = hashes_of(folder, {row["left"], row["right"]})
        assert pair.isdisjoint(seen) if row[side] == "test" else pair <= seen


SIDES = {"train", "validation", "test"}


def test_the_given_split_is_kept(run: Run, folder: Path, tmp_path: Path) -> None:
    lines = (folder / "pairs.csv").read_text().splitlines()
    sides = ["split", *(["train"] * 12 + ["validation"] * 6 + ["test"] * 6)]
    table = tmp_path / "pairs.csv"
    rows = [f"{line},{side}" for line, side in zip(lines, sides, strict=True)]
    table.write_text("\n".join(rows) + "\n")
    out = tmp_path / "new.safetensors"
    first, _, *rest = arguments(folder)
    done = run(first, table, *rest, *FAST, "--out", out)
    assert done.returncode == 0, done.stderr
    seen = {name for line in lines[1:19] for name in line.split(",")}
    assert trained_on(out) == hashes_of(folder, seen)


@pytest.mark.parametrize(
    ("extra", "code", "said"),
    [
        (("--out", "net.pt"), 2, ".safetensors"),
        (("--protocol", "kfold"), 2, "one network"),
        (("--protocol", "given"), 2, "split"),
        (("--stages", "9"), 2, "between 1 and"),
        (("--epochs", "0"), 2, "n_epochs"),
        (("--lr", "0"), 2, "learning_rate"),
        (("-v", "classic"), 2, "can't be fine-tuned"),
        (("-v", "timm:{arch}@none.safetensors"), 3, "none.safetensors"),
        (("--images", "none"), 3, "no such folder"),
        (("--out", "{net}"), 2, "holds other weights"),
    ],
)
def test_bad_input_is_one_line_and_its_exit_code(
    run: Run,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    extra: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    net = folder / "net.safetensors"
    before = net.read_bytes()
    filled = [one.format(arch=ARCH, net=net) for one in extra]
    done = run(*arguments(folder), "--out", "new.safetensors", *filled)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert net.read_bytes() == before
    assert not list(tmp_path.glob("*.safetensors*"))


@pytest.mark.shared
def test_real_covers_are_found_better_after_training(
    run: Run, shared: Path, tmp_path: Path
) -> None:
    covers = tmp_path / "covers"
    covers.mkdir()
    for cover in sorted((shared / "data" / "dvd-covers").iterdir())[:30]:
        shutil.copytree(cover, covers / cover.name)
    out = tmp_path / "new.safetensors"
    net = shared / "weights" / "mobilenetv2_100.safetensors"
    done = run(
        *("finetune", covers, "--groups", "folder", "--out", out),
        *("-v", f"timm:mobilenetv2_100@{net}?size=96", *("--lr", "1e-3")),
        *("--stages", "2", "--epochs", "2", "--views", "2"),
    )
    assert done.returncode == 0, done.stderr
    told = done.stderr.splitlines()[-1].partition("validation ")[2]
    before, now = (float(word.split()[0]) for word in told.split(" before, "))
    assert now < 0.8 * before
