"""Names that are no text, or that are a page's code; folders that can't be listed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from conftest import Run, write_image
from PIL import Image
from reliability import count

from tllboost.grid.records import read_images
from tllboost.images.folders import name_images
from tllboost.pairs import read_pairs

LINUX = sys.platform.startswith("linux")
NAMES = (b"no-text-\xff", b"<img src=x onerror=alert(1)>", b"</script>", "é\n".encode())


def hostile_groups(folder: Path, n_groups: int = 24) -> Path:
    """Make groups of two images that are alike, under names of every evil kind."""
    for number in range(n_groups):
        rng = np.random.default_rng(number)
        colours = rng.integers(0, 256, (6, 6, 3))
        name = NAMES[number % len(NAMES)].replace(b"/", b"\xe2\x88\x95")
        group = folder / f"{number}{os.fsdecode(name)}"
        group.mkdir(parents=True)
        for view in range(2):
            pixels = np.clip(colours + rng.normal(0, 20, colours.shape), 0, 255)
            image = Image.fromarray(pixels.astype(np.uint8)).resize((48, 48))
            image.save(group / os.fsdecode(b"%d\xfe.png" % view))
    return folder


@pytest.mark.skipif(not LINUX, reason="names like these need Linux")
def test_images_under_any_name_go_through_a_grid_a_report_and_a_bundle(
    run: Run, tmp_path: Path
) -> None:
    folder = hostile_groups(tmp_path / os.fsdecode(b"images-\xff"))
    out = tmp_path / os.fsdecode(b"out-\xff")
    store = ("--store", tmp_path / "store")
    how = ("-v", "pixels?size=4", "-c", "cosine", "--distractors", 3, "--jobs", 1)
    done = run("grid", folder, "--groups", "folder", *how, *store, "--out", out)
    assert done.returncode == 0, done.stderr
    # What was written names the same images when it is read.
    table = read_pairs(out / "splits.csv", images=folder)
    images = read_images(out)
    assert images is not None
    assert list(table.ids) == images[0] == list(name_images([folder]))
    done = run("grid", "--config", out / "run.toml", *store, "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert "1 of 1 cells are finished" in done.stderr
    assert run("report", out).returncode == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    images = sorted(folder.glob("0*/*"))
    done = run("score", out / "best.tllb", *images, *store)
    assert done.returncode == 0, done.stderr
    done = run("rank", out / "best.tllb", images[0], "--among", folder / "0x", *store)
    assert done.returncode == 3
    done = run(
        *("rank", out / "best.tllb", images[0], "--among", images[1].parent, *store)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    bundle, splits, npz = out / "best.tllb", out / "splits.csv", out / "v.npz"
    for arguments in (
        ("vectorize", folder, *how[:2], "--out", npz, *store),
        ("check", splits, "--images", folder),
        ("score", bundle, "--pairs", splits, "--images", folder, *store),
        ("grid", splits, "-v", f"vectors:{npz}", *how[2:], "--out", out / "again"),
        ("compare", out, out / "again", "--all"),
        ("bundle", "verify", bundle),
        ("explain", bundle, *images, "--grid", 2, "--out", out / "pair.html", *store),
        ("store", "info", "--store", out / os.fsdecode(b"\xff")),
    ):
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
    count("bad images tried", len(NAMES))


CLOSED = """
import os, sys
from tllboost.errors import DataError
from tllboost.pairs.groups import read_groups
from tllboost.images.folders import name_images
if os.getuid() == 0:  # nothing is closed to root
    os.setresuid(65534, 65534, 65534)
for read in (read_groups, lambda folder: name_images([folder])):
    try:
        read(sys.argv[1])
    except DataError as error:
        print(error.exit_code, error)
(table,) = [read_groups(sys.argv[2])]
print(*table.notes)
"""


@pytest.mark.skipif(not hasattr(os, "setresuid"), reason="no such permissions here")
def test_a_folder_that_can_not_be_listed_is_named() -> None:
    """The one that was given is refused, one of its subfolders is passed over."""
    with TemporaryDirectory() as name:  # pytest's own folders are closed to others
        root = Path(name)
        root.chmod(0o755)
        closed = root / "closed"
        for group in (root / "open", closed):
            group.mkdir()
            write_image(group / "a.png", seed=0)
            write_image(group / "b.png", seed=1)
        closed.chmod(0)
        try:
            done = subprocess.run(
                [sys.executable, "-c", CLOSED, closed, root],
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            closed.chmod(0o755)
        assert (done.returncode, done.stderr) == (0, "")
        said = f"3 can't list the folder {str(closed)!r} (Permission denied): "
        *refused, passed = done.stdout.splitlines()
        assert done.stdout.count(said) == len(refused) == 2
        kind = "folders that can't be listed"
        assert passed == f"{root}: skipped {kind} (1, {str(closed)!r} first)"
    count("bad images tried", 2)
