"""The grammar of vectorizer names, and what every vectorizer promises by its name."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tllboost.errors import UnknownNameError, UsageError, WeightsError
from tllboost.registry import parse_spec
from tllboost.vectorizers import VECTORIZERS, Vectorizer, make_vectorizer, split_fusion

NAMES = [
    "classic",
    "onnx:net.onnx",
    "onnx:net.onnx?size=160&mean=0.5,0.5,0.5&normalize=true",
    "timm:resnet50",
    "timm:resnet50.tv_in1k@some/file.pth?size=96&fit=squash",
    "clip:RN50x4:openai",
    "clip:ViT-B-32:openai@file.pt?normalize=false",
    "clip:RN50@file.pt",
    "vectors:mine.npz",
    "classic?trim=true&flip=true&views=whole,centre,grey",
    "pixels?size=16",
    "pocket",
    "pocket?trim=true&views=whole,centre",
    "onnx:net.onnx?mean=0.48145466,0.4578275,1e-05&cells=3&views=grey",
    "timm-grid:resnet50@some/file.pth?cells=3&size=96&flip=true",
    "clip-grid:ViT-B-32:openai@file.pt?trim=true&views=whole,centre",
    "classic+onnx:a.onnx?size=96+timm:vgg16@vgg.pth",
]


@pytest.mark.parametrize("name", NAMES)
def test_spec_spells_a_vectorizer_so_that_it_can_be_made_again(name: str) -> None:
    vectorizer = make_vectorizer(name)
    assert vectorizer.spec == name
    assert repr(make_vectorizer(vectorizer.spec)) == repr(vectorizer)


@pytest.mark.parametrize("name", NAMES)
def test_clones_pickles_and_copies_are_equal_and_load_nothing(name: str) -> None:
    from sklearn.base import clone

    vectorizer = make_vectorizer(name)
    for other in (
        clone(vectorizer),
        pickle.loads(pickle.dumps(vectorizer)),
        copy.deepcopy(vectorizer),
    ):
        assert other is not vectorizer
        assert other.spec == name
        assert set(vars(other)) == set(vectorizer.get_params())


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("onnx:some/where/net.onnx", "onnx:net"),
        ("onnx:net.onnx?fit=squash", "onnx:net?fit=squash"),
        ("timm:resnet50@some/file.pth", "timm:resnet50"),
        ("clip:RN50x4:openai@file.pt", "clip:RN50x4:openai"),
        ("onnx:a.onnx+classic", "onnx:a+classic"),
        ("pocket+classic?weight=0.30", "pocket+classic?weight=0.3"),
        ("pocket?flip=yes&weight=2+classic", "pocket?flip=true&weight=2+classic"),
        ("pocket?weight=1+classic", "pocket+classic"),
    ],
)
def test_labels_are_short_and_tell_options_that_change_vectors(
    name: str, label: str
) -> None:
    assert make_vectorizer(name).label == label


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("onnx:a+b.onnx+classic", ["onnx:a+b.onnx", "classic"]),
        ("classic+my.module:Class", ["classic", "my.module:Class"]),
        ("vectors:c++.npz?x=1+timm:a", ["vectors:c++.npz?x=1", "timm:a"]),
        ("onnx:a+classical.onnx", ["onnx:a+classical.onnx"]),
    ],
)
def test_plus_joins_only_before_a_kind(text: str, parts: list[str]) -> None:
    assert split_fusion(text, VECTORIZERS) == parts


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clasic", "did you mean 'classic'"),
        ("onx:net.onnx", "did you mean 'onnx'"),
        ("", "known: classic, clip, clip-grid, onnx, pixels, pocket, timm"),
        ("no.such.module:Class", "there is no module 'no'"),
        ("pathlib:Nothing", "has no 'Nothing'"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(
    name: str, message: str
) -> None:
    with pytest.raises(UnknownNameError, match=message):
        make_vectorizer(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("onnx:", "write onnx:FILE"),
        ("vectors:", "write vectors:FILE.npz"),
        ("timm:", "write timm:NAME"),
        ("timm:resnet50@", "write timm:NAME"),
        ("clip:RN50", "write clip:ARCH:TAG"),
        (
            "onnx:a.onnx?sise=3",
            r"did you mean 'size'\? known: size \(a whole number above zero\), mean ",
        ),
        ("vectors:a.npz?size=3", "unknown option 'size'.*known: none"),
        ("classic?size=3", "unknown option 'size'.*known: trim .*, flip .*, views"),
        ("classic:3", "options may follow 'classic'"),
        ("pixels:3", "options may follow 'pixels'"),
        ("pocket:3", "options may follow 'pocket'"),
        ("pocket?size=3", "unknown option 'size'.*known: trim .*, flip .*, views"),
        ("timm-grid:", "write timm-grid:NAME"),
        ("clip-grid:RN50", "write clip-grid:ARCH:TAG"),
        (
            "timm-grid:a?normalize=true",
            "known: cells .*, size .*, fit .*, trim",
        ),
        ("classic?views=whole,gray", "views='whole,gray'.*of whole, centre, grey"),
        ("classic?views=grey,grey", "views='grey,grey'.*each once"),
        ("timm-grid:a?cells=0", "whole number above zero"),
        ("onnx:a.onnx?size=big", "size='big'.*whole number above zero"),
        ("onnx:a.onnx?mean=1,2", "mean='1,2'.*three numbers"),
        ("onnx:a.onnx?fit=stretch", "fit='stretch'.*crop, squash, pad"),
        ("onnx:a.onnx?normalize=maybe", "normalize='maybe'.*true or false"),
        ("onnx:a.onnx?size", "write it as key=value"),
        ("onnx:a.onnx?size=1&size=2", "given twice"),
        ("math:sqrt", "has no transform"),
        ("classic?weight=2", "unknown option 'weight'"),
        ("pocket+classic?weight=0", "weight='0'.*write a number above zero"),
        ("pocket+classic?weight=-1", "write a number above zero"),
        ("pocket+classic?weight=nan", "write a number above zero"),
        ("pocket+classic?weight=inf", "write a number above zero"),
        ("pocket+classic?weight=1e300", "from 1e-6 to 1e6"),
        ("pocket+classic?weight=1e-60", "from 1e-6 to 1e6"),
        ("pocket?weight=much+classic", "weight='much'.*write a number above zero"),
        ("pocket+classic?weight=1&weight=2", "given twice"),
    ],
)
def test_wrong_names_and_options_are_refused_with_what_is_legal(
    name: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make_vectorizer(name).fingerprint  # noqa: B018


def test_a_missing_file_with_a_plus_says_how_fusions_are_written() -> None:
    with pytest.raises(WeightsError, match="'\\+' joins vectorizers only where"):
        make_vectorizer("onnx:net.onnx+clasic").fingerprint  # noqa: B018


def test_set_params_forgets_what_was_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"a")
    (tmp_path / "b.npz").write_bytes(b"b")
    vectorizer = make_vectorizer(f"vectors:{tmp_path / 'a.npz'}")
    before = vectorizer.fingerprint
    assert vectorizer.set_params(file=tmp_path / "b.npz").fingerprint != before
    with pytest.raises(TypeError, match="unexpected keyword argument 'fille'"):
        vectorizer.set_params(fille="x")


def test_a_vectorizer_is_returned_as_it_is() -> None:
    vectorizer = make_vectorizer("classic")
    assert make_vectorizer(vectorizer) is vectorizer
    with pytest.raises(UsageError, match="is not a vectorizer"):
        make_vectorizer(3)


def test_every_registered_kind_is_a_vectorizer() -> None:
    for name in VECTORIZERS:
        assert issubclass(VECTORIZERS.resolve(name), Vectorizer)
        assert VECTORIZERS[name].description.startswith(name)


def test_naming_vectorizers_imports_no_big_library() -> None:
    code = (
        "import sys; from tllboost.vectorizers import make_vectorizer as make;"
        f"[make(name) for name in {NAMES!r}];"
        "big = {'torch','timm','open_clip','onnxruntime','onnx','skimage','sklearn'};"
        "sys.exit(repr(big & set(sys.modules)) if big & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_options_may_hold_equals_signs() -> None:
    assert parse_spec("onnx:a.onnx?output=a=b").options == {"output": "a=b"}
