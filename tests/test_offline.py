"""The network is asked for what names a hub model, and for nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import make_classifier, save, tiny_network, write_npz
from conftest import Run, write_image

import tllboost

# Any connection, and any look-up of a name, ends the process. All commands in one: most
# of each is the import of libraries.
NO_NETWORK = """
import contextlib, io, json, os, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        if not str(arguments[-1]).startswith("/"):  # a socket of this machine's own
            os.write(2, f"asked the network: {event} {arguments}\\n".encode())
            os._exit(99)

sys.addaudithook(refuse)
from tllboost.cli import main
for name, (environment, arguments) in json.loads(sys.argv[1]).items():
    os.environ |= environment
    sys.argv[1:] = arguments
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code or 0
    with open(os.environ["TOLD"], "a") as file:
        print(json.dumps([name, code, said.getvalue()]), file=file)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit code and messages of commands in a process that may not ask the network."""
    folder = tmp_path_factory.mktemp("offline")
    network = tiny_network(folder / "net.onnx")
    classifier = make_classifier(f"onnx:{network}", "cosine", n_dims=3)
    bundle = save(folder / "best.tllb", classifier, 3)
    write_npz(folder / "net.npz")
    image = write_image(folder / "a.png", seed=1)
    local = ("-v", "classic", "-v", "pocket", "-v", f"onnx:{network}")
    store = ("--store", folder / "store")
    hub = ("vectorize", image, "-v", "timm:resnet18", *store)
    commands = {
        "vectorize": ({}, ("vectorize", image, *local, *store)),
        "score": ({}, ("score", bundle, image, image)),
        "option": ({}, (*hub, "--offline")),
        "environment": ({"TLLBOOST_OFFLINE": "1"}, hub),
    }
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, json.dumps(commands, default=str)],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "HF_HOME": str(folder / "hub"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "TOLD": str(folder / "told"),
        },
    )
    assert done.returncode == 0, done.stderr
    lines = map(json.loads, (folder / "told").read_text().splitlines())
    return {name: (code, said) for name, code, said in lines}


@pytest.mark.parametrize("command", ["vectorize", "score"])
def test_nothing_but_a_hub_model_opens_a_connection(
    told: dict[str, tuple[int, str]], command: str
) -> None:
    code, said = told[command]
    assert code == 0, said


@pytest.mark.parametrize("how", ["option", "environment"])
def test_offline_opens_no_connection_for_a_hub_model_either(
    told: dict[str, tuple[int, str]], how: str
) -> None:
    code, said = told[how]
    assert code == 3, said
    assert "offline; " in said
    assert "Traceback" not in said


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
    page = "http://127.0.0.1:9/timm/resnet18.a1_in1k/resolve/main/model.safetensors"
    assert f"; download {page} on" in told[0]
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
