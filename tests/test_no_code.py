"""Nothing that is read is run: no pickle in any file, no code in weights."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import IDS, LEFT, RIGHT, make_cell, make_classifier, save, write_npz
from conftest import HEADS_HERE
from reliability import count

import tllboost
from tllboost.classifier import ensemble
from tllboost.errors import TllboostError, WeightsError
from tllboost.vectorizers.weights import read_weights

PACKAGE = Path(tllboost.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

UNPICKLERS = {
    "pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve",
    "jsonpickle", "copyreg",
}  # fmt: skip
# What a process of cells and its parent tell each other, over pipes of their own.
OWN_PROCESSES = {"processes.py": {"pickle", "cloudpickle"}}
# What may be called of a library that could unpickle, and how.
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "joblib.load", "torch.hub.load", "torch.package",
    "pandas.read_pickle", "torch.jit.trace", "os.system",
}  # fmt: skip


def imports_of(tree: ast.AST) -> set[str]:
    """Return every module that is imported anywhere in a file."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def calls_of(tree: ast.AST) -> list[tuple[str, dict[str, str]]]:
    """Return what is called, by its dotted name, with its keywords as source."""
    return [
        (
            ast.unparse(node.func),
            {one.arg: ast.unparse(one.value) for one in node.keywords if one.arg},
        )
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_module_unpickles_or_evaluates_anything(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = {name.split(".")[0] for name in imports_of(tree)}
    assert modules & UNPICKLERS == OWN_PROCESSES.get(path.name, set())
    assert "joblib.numpy_pickle" not in imports_of(tree)
    for name, options in calls_of(tree):
        assert name not in FORBIDDEN_CALLS, name
        if name == "torch.load":
            assert options.get("weights_only") == "True"
        if name in ("np.load", "numpy.load"):
            assert options.get("allow_pickle", "False") == "False"
        if name.endswith(("skops.io.load", "skops.io.loads")):
            assert options.get("trusted") == "[]"
        assert "weights_only" not in options or options["weights_only"] == "True"


def test_every_module_writes_strict_json() -> None:
    texts = [path.read_text(encoding="utf-8") for path in SOURCES]
    calls = [
        options.get("allow_nan")
        for text in texts
        if "json.dump" in text
        for name, options in calls_of(ast.parse(text))
        if name in ("json.dump", "json.dumps")
    ]
    written = [
        name
        for text in texts
        if "write_json" in text
        for name, _ in calls_of(ast.parse(text))
        if name == "write_json"
    ]
    assert len(calls + written) > 8
    assert set(calls) == {"False"}


def test_what_decodes_strangers_images_is_never_unpickled() -> None:
    tree = ast.parse((PACKAGE / "images" / "decoders.py").read_text(encoding="utf-8"))
    used = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "tllboost.processes"
        for alias in node.names
    }
    assert "Processes" not in used


def test_the_look_at_modules_sees_what_it_looks_for() -> None:
    tree = ast.parse("def f():\n    import pickle\n    torch.load(x, weights_only=no)")
    assert "pickle" in imports_of(tree)
    assert calls_of(tree) == [("torch.load", {"weights_only": "no"})]


# Loading with pickle disabled

LOADER = """
import pickle, sys

def refuse(*_, **__):
    raise SystemExit("something was unpickled")

def no_globals(event, arguments):
    if event == "pickle.find_class":
        refuse()

from tllboost.bundle import read_manifest
from tllboost.classifier import load_bundle
import skops.io, sklearn.linear_model, xgboost

sys.addaudithook(no_globals)
pickle.load = pickle.loads = pickle._load = pickle._loads = refuse
pickle.Unpickler = pickle._Unpickler = refuse
for path in sys.argv[1:]:
    read_manifest(path)
    classifier = load_bundle(path)
    print(float(classifier.decision_function([["left000", "right000"]])[0]))
"""


def test_every_kind_of_bundle_loads_and_scores_with_pickle_disabled(
    tmp_path: Path,
) -> None:
    base = f"vectors:{write_npz(tmp_path / 'net.npz')}"
    heads = [name for name in HEADS_HERE if name != "joined"]
    made = {
        **{name: make_classifier(base, name) for name in heads},
        "skops": make_classifier(base, "sklearn.linear_model:RidgeClassifier"),
        "projected": make_classifier(base, "cosine", projection="infonce?epochs=2"),
        "ensemble": ensemble([make_cell(base, "cosine"), make_cell(base, "mlp")]),
    }
    paths = [save(tmp_path / f"{name}.tllb", one) for name, one in made.items()]
    done = subprocess.run(
        [sys.executable, "-c", LOADER, *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted = [
        one.decision_function([[IDS[LEFT[0]], IDS[RIGHT[0]]]])[0]
        for one in made.values()
    ]
    np.testing.assert_allclose([float(x) for x in done.stdout.split()], wanted)
    count("results compared", len(wanted))


def test_the_loader_would_notice_an_unpickler(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(pickle.dumps(Path("x")))
    quick = [line for line in LOADER.splitlines() if "sklearn" not in line]
    code = "\n".join(quick).split("for path in")[0].replace("from tllboost", "#") + (
        "import _pickle\nwith open(sys.argv[1], 'rb') as file: _pickle.load(file)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "p"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "something was unpickled" in done.stderr


# Files of weights from strangers


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def pickled(path: Path, marker: Path) -> Path:
    path.write_bytes(pickle.dumps({"w": Touch(marker)}))
    return path


def torch_pickled(path: Path, marker: Path) -> Path:
    import torch

    torch.save({"w": Touch(marker)}, path)
    return path


def torch_legacy(path: Path, marker: Path) -> Path:
    import torch

    torch.save({"w": Touch(marker)}, path, _use_new_zipfile_serialization=False)
    return path


def whole_module(path: Path, _: Path) -> Path:
    import torch

    torch.save(torch.nn.Linear(2, 2), path)
    return path


def scripted(path: Path, marker: Path) -> Path:
    """Write a TorchScript module that writes a file when it is loaded."""
    import torch

    class Evil(torch.nn.Module):
        def __init__(self, target: str) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(3))
            self.target = target

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

        @torch.jit.export
        def __getstate__(self):  # type: ignore[no-untyped-def]
            return self.w, self.target, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[torch.Tensor, str, bool]):  # type: ignore[no-untyped-def]
            torch.ops.aten.save(state[0], state[1])
            self.w = state[0]
            self.target = state[1]
            self.training = state[2]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Evil(str(marker))).save(str(path))
    return path


def noise(path: Path, _: Path) -> Path:
    path.write_bytes(b"\x80\x04no weights" * 10)
    return path


def half(path: Path, _: Path) -> Path:
    import torch

    torch.save({"w": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    return path


def no_dictionary(path: Path, _: Path) -> Path:
    import torch

    torch.save([torch.ones(3)], path)
    return path


def lying_header(path: Path, _: Path) -> Path:
    path.write_bytes((2**60).to_bytes(8, "little") + b"{}")
    return path


BAD_WEIGHTS: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "pickle": (pickled, "net.pt"),
    "pickle in torch's archive": (torch_pickled, "net.pt"),
    "pickle in torch's old form": (torch_legacy, "net.pth"),
    "whole module": (whole_module, "net.pt"),
    "code that loading runs": (scripted, "net.pt"),
    "noise": (noise, "net.pt"),
    "cut off": (half, "net.pt"),
    "no dictionary": (no_dictionary, "net.pt"),
    "pickle by another name": (pickled, "net.safetensors"),
    "header without end": (lying_header, "net.safetensors"),
    "empty": (lambda path, _: path.touch() or path, "net.safetensors"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", BAD_WEIGHTS)
def test_weights_that_are_more_than_tensors_are_refused_unrun(
    tmp_path: Path, kind: str
) -> None:
    make, name = BAD_WEIGHTS[kind]
    marker = tmp_path / "was run"
    file = make(tmp_path / name, marker)
    with pytest.raises(WeightsError) as caught:
        read_weights(file, what="timm:net")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, TllboostError)
    assert caught.value.exit_code == 3
    assert not marker.exists()
    count("bad networks tried")
