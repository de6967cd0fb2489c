"""list: what can be named, how wide it is, and whether its weights are here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run
from huggingface_hub import constants

from tllboost.metrics import METRICS
from tllboost.vectorizers import NETWORKS, is_at_hand

HEAVY = ("scipy", "sklearn", "torch", "xgboost", "timm", "open_clip", "onnxruntime")
WITHOUT_WEIGHTS = {"classic": 3324, "pixels": 3072}


def put_into_cache(cache: Path, repository: str, name: str) -> None:
    """Lay a file down as the hub's client does."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / "0123456789abcdef"
    snapshot.mkdir(parents=True)
    (snapshot / name).write_bytes(b"weights")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123456789abcdef")


def test_networks_tell_what_they_are_and_whether_weights_are_here(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    put_into_cache(tmp_path / "hub", "timm/resnet18.a1_in1k", "model.safetensors")
    rows = {
        line.split()[0]: line
        for line in run("list", "networks").stdout.split("\n")
        if line
    }
    assert "  512  in the cache" in rows["timm:resnet18"]
    assert "  640  to download" in rows["clip:RN50x4:openai"]
    told = "the same object or place; 21.6 million weights, licence dinov3-license"
    assert told in rows["timm:vit_small_patch16_dinov3"]
    listed = run("list", "networks", "--json").json["networks"]
    for row in listed:
        for key, value in NETWORKS.get(row["name"], {}).items():
            assert row[key] == value or row[key].startswith(f"{value}; ")


def test_the_cache_is_looked_up_as_the_hub_s_client_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import try_to_load_from_cache

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    here = [name for number, name in enumerate(NETWORKS) if number % 3 == 0]
    for name in here:
        file = (
            "open_clip_model.safetensors"
            if name.startswith("clip")
            else "model.safetensors"
        )
        put_into_cache(cache, NETWORKS[name]["repository"], file)
        found = try_to_load_from_cache(
            NETWORKS[name]["repository"], file, cache_dir=cache
        )
        assert isinstance(found, str)
    assert [n for n, one in NETWORKS.items() if is_at_hand(one["repository"])] == here


def test_vectorizers_tell_their_width_and_where_weights_come_from(run: Run) -> None:
    listed = run("list", "vectorizers", "--json").json["vectorizers"]
    rows = {row["name"].partition(":")[0]: row for row in listed}
    for name, n_dims in WITHOUT_WEIGHTS.items():
        assert rows[name]["n_dims"] == n_dims
        assert rows[name]["weights"] == "none needed"
    assert rows["onnx"]["weights"] == "your file"
    assert rows["timm"]["weights"] == "hub or file"


def test_json_lists_everything_with_a_description(run: Run) -> None:
    listed = run("list", "--json").json
    assert [row["name"] for row in listed["metrics"]] == list(METRICS)
    for rows in listed.values():
        assert all(len(row["description"]) > 2 for row in rows)
    assert run("list", "heads", "--json").json == {"heads": listed["heads"]}


def test_list_imports_no_model_library_and_asks_no_network() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from tllboost.cli import main\n"
        "try:\n    main()\n"
        f"finally:\n    assert not [m for m in {HEAVY} if m in sys.modules]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "list"], capture_output=True, text=True, check=True
    )
    assert "networks" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_a_terminal_of_80_columns_folds_descriptions() -> None:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-m", "tllboost", "list"], stdout=theirs, env=environment
    ) as command:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 65536):
                seen += chunk
        except OSError:  # the other end is closed
            pass
        assert command.wait() == 0
    os.close(ours)
    lines = seen.decode().splitlines()
    assert len(lines) > 50
    assert max(map(len, lines)) <= 80
