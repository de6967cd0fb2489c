"""The commands of README and of two guides, run in a folder laid out for them."""

from __future__ import annotations

import csv
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import Run
from guides import shell_lines

from tllboost.demo import make_scenes

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/grid.md", "docs/networks.md")
LINES = list(
    dict.fromkeys(
        line
        for page in PAGES
        for line in shell_lines((ROOT / page).read_text(encoding="utf-8"))
        if line.startswith("tllboost ")
        # The recipe of a write-up runs for an hour; its results are committed.
        and "benchmarks/tll.toml" not in line
    )
)
N_SCENES = 24


def narrowed(line: str) -> str:
    """Give a grid two heads on one merge of small vectors: the demo's test has all.

    What each line adds to that one is another option, not other heads. What a grid
    tries by default, test_grid_defaults.py runs.
    """
    if "--quick" in line:
        return line
    line = line.replace(" --full", "")
    has_heads = " -c " in line or "--config" in line or "--print-config" in line
    if has_heads or not line.startswith("tllboost grid "):
        return line
    # An ensemble of five takes five cells.
    vectors = "" if " -v " in line or "--ensemble" in line else " -v pocket"
    return f"{line}{vectors} -m l1 -c logistic"


def asks_a_hub(line: str) -> bool:
    """Tell whether a command needs weights that only a hub has."""
    is_tuning = "timm:resnet50 -p" in line or "finetune pairs.csv" in line
    return "clip:RN50x4" in line or "timm-grid:resnet50?" in line or is_tuning


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the README calls by name, but no results."""
    folder = tmp_path_factory.mktemp("desk")
    images = folder / "images"
    make_scenes(images, n_scenes=N_SCENES, n_views=2)
    (images / "pairs.csv").unlink()
    for name in ("left", "right", "holidays", "archive", "photos", "catalogue"):
        (folder / name).mkdir()
    names = sorted(path.stem.removesuffix("_0") for path in images.glob("*_0.jpg"))
    for number, name in enumerate(names):
        left, right = images / f"{name}_0.jpg", images / f"{name}_1.jpg"
        (folder / "covers" / name).mkdir(parents=True)
        for place, view in enumerate((left, right)):
            shutil.copy(view, folder / "covers" / name)
            shutil.copy(view, folder / "holidays" / f"{1000 + number}{place:02d}.jpg")
        for place in ("left", "archive", "photos"):
            shutil.copy(left, folder / place)
        for place in ("right", "catalogue"):
            shutil.copy(right, folder / place)
    shutil.copy(images / f"{names[0]}_0.jpg", folder / "one.jpg")
    shutil.copy(images / f"{names[0]}_1.jpg", folder / "other.jpg")
    shutil.copy(images / f"{names[1]}_0.jpg", folder / "query.jpg")
    pairs = [(f"{name}_0", f"{name}_1") for name in names]
    write(folder / "pairs.csv", ["left", "right"], pairs)
    write(folder / "new.csv", ["left", "right"], pairs[:3])
    classes = [(f"{1000 + i // 2}{i % 2:02d}.jpg", f"{i // 2}") for i in range(8)]
    write(folder / "classes.csv", ["image", "class"], classes)
    lists = [
        (pairs[i][0], *(pairs[(i + k) % N_SCENES][1] for k in range(5)))
        for i in range(3)
    ]
    write(
        folder / "candidates.csv", ["left", *(f"c{place}" for place in range(5))], lists
    )
    return folder


def write(path: Path, header: list[str], rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture(scope="module")
def networks(desk: Path, shared: Path) -> Path:
    """The networks that the README calls by name: real ones, another's for ResNet."""
    import timm
    from safetensors.torch import save_file

    weights = shared / "weights"
    (desk / "net.onnx").symlink_to(weights / "squeezenet1_1.onnx")
    network = timm.create_model("resnet50", pretrained=False)
    tensors = {name: one.contiguous() for name, one in network.state_dict().items()}
    for name in ("resnet50.safetensors", "tuned.safetensors"):
        save_file(tensors, desk / name)
    return desk


@pytest.fixture
def at_desk(
    desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    """Run in that folder, whose store is kept from one command to the next."""
    monkeypatch.chdir(desk)
    monkeypatch.setenv("XDG_CACHE_HOME", str(desk / "cache"))
    monkeypatch.setenv("TLLBOOST_OFFLINE", "1")
    return run


@pytest.fixture
def results(desk: Path, at_desk: Run) -> Path:
    """Two finished runs, one beside the other, as the README's later commands ask."""
    if not (desk / "runs" / "kept").exists():
        grid = "grid pairs.csv --images images -v classic -m dot -c logistic"
        assert at_desk(*shlex.split(grid), "--out", "runs/kept").returncode == 0
        toml = desk / "runs" / "kept" / "run.toml"
        toml.write_text(toml.read_text().replace('"runs/kept"', '"results/mine"'))
    for name in ("mine", "other"):
        shutil.rmtree(desk / "results" / name, ignore_errors=True)
        shutil.copytree(desk / "runs" / "kept", desk / "results" / name)
    return desk / "results"


def ready(line: str, request: pytest.FixtureRequest) -> None:
    """Lay out what one command needs beside the images."""
    if "onnx:" in line or "resnet50" in line:
        request.getfixturevalue("networks")
    desk: Path = request.getfixturevalue("desk")
    if "results/mine" in line.partition("--out")[0]:
        request.getfixturevalue("results")
    else:
        # Each grid stands for itself: a folder with a run in it would be refused.
        shutil.rmtree(desk / "results", ignore_errors=True)
    if "mine.npz" in line:
        run: Run = request.getfixturevalue("at_desk")
        run("vectorize", "images", "-v", "classic", "--out", "mine.npz")


@pytest.mark.parametrize("line", [line for line in LINES if not asks_a_hub(line)])
def test_every_readme_command_ends_well(
    line: str, at_desk: Run, request: pytest.FixtureRequest
) -> None:
    ready(line, request)
    done = at_desk(*shlex.split(narrowed(line))[1:])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", [line for line in LINES if asks_a_hub(line)])
def test_a_readme_command_without_its_hub_is_one_clear_line(
    line: str,
    at_desk: Run,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    shutil.rmtree(request.getfixturevalue("desk") / "results", ignore_errors=True)
    # As for a newcomer: what is exported or stored already needs no weights.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = at_desk(*shlex.split(line)[1:])
    assert done.returncode == 3
    (said,) = done.stderr.splitlines()
    assert "weights are not in the local cache, and offline" in said
    assert "give the file: " in said
