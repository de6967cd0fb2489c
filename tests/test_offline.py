"""The network is asked for what names a hub model, and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import make_classifier, save, tiny_network, write_npz
from conftest import Run, write_image

import tllboost

# Any connection, and any look-up of a name, ends the process.
NO_NETWORK = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        if not str(arguments[-1]).startswith("/"):  # a socket of this machine's own
            import os
            os.write(2, f"asked the network: {event} {arguments}\\n".encode())
            os._exit(99)

sys.addaudithook(refuse)
sys.argv = ["tllboost", *sys.argv[1:]]
from tllboost.cli import main
main()
"""


def alone(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that may not ask the network."""
    return subprocess.run(
        [sys.executable, "-c", NO_NETWORK, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_nothing_but_a_hub_model_opens_a_connection(tmp_path: Path) -> None:
    network = tiny_network(tmp_path / "net.onnx")
    classifier = make_classifier(f"onnx:{network}", "cosine", n_dims=3)
    bundle = save(tmp_path / "best.tllb", classifier, 3)
    write_npz(tmp_path / "net.npz")
    image = write_image(tmp_path / "a.png", seed=1)
    vectorizers = ("-v", "classic", "-v", "pocket", "-v", f"onnx:{network}")
    for arguments in (
        ("vectorize", image, *vectorizers, "--store", tmp_path / "store"),
        ("score", bundle, image, image),
    ):
        done = alone(*arguments, XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["option", "environment"])
def test_offline_opens_no_connection_for_a_hub_model_either(
    tmp_path: Path, how: str
) -> None:
    image = write_image(tmp_path / "a.png", seed=1)
    offline = ("--offline",) if how == "option" else ()
    environment = {"TLLBOOST_OFFLINE": "1"} if how == "environment" else {}
    done = alone(
        "vectorize", image, "-v", "timm:resnet18", *offline,
        "--store", tmp_path / "store",
        HF_HOME=str(tmp_path / "hub"), XDG_CACHE_HOME=str(tmp_path / "cache"),
        **environment,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "offline; " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hub_that_fails_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("TLLBOOST_OFFLINE", raising=False)
    image = write_image(tmp_path / "a.png", seed=1)
    done = run("vectorize", image, "-v", "timm:resnet18", "--store", tmp_path / "store")
    assert done.returncode == 3
    told = [line for line in done.stderr.splitlines() if "timm:resnet18" in line]
    assert len(told) == 1
    assert "@FILE" in told[0]
    assert "Traceback" not in done.stderr


def test_a_hub_is_reached_through_one_place_alone() -> None:
    package = Path(tllboost.__file__).parent
    asking = ("hf_hub_download", "get_session", "urlopen", "torch.hub.load")
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in asking)
    }
    assert found <= {"vectorizers/weights.py"}
