"""Names, import paths and objects, resolved in one place."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tllboost.errors import MissingLibraryError, UnknownNameError
from tllboost.heads import HEADS
from tllboost.merges import MERGES
from tllboost.registry import Entry, Registry, import_path
from tllboost.vectorizers import VECTORIZERS, make_vectorizer

REGISTRIES = pytest.mark.parametrize(
    "registry", [HEADS, MERGES, VECTORIZERS], ids=["heads", "merges", "vectorizers"]
)
NUMBERS = Registry(
    "number", {"pi": Entry("math:pi", "3.14"), "tau": Entry("math:tau", "6.28")}
)


@REGISTRIES
def test_every_name_leads_to_something_and_says_what(registry: Registry) -> None:
    for entry in registry.values():
        assert callable(import_path(entry.path))
        assert entry.description
        assert len(entry.description) < 80


@REGISTRIES
def test_a_path_of_an_entry_is_the_entry(registry: Registry) -> None:
    for name, entry in registry.items():
        if all(map(find_spec, entry.needs)):
            assert registry.resolve(entry.path) is registry.resolve(name)


def test_an_object_is_itself() -> None:
    thing = object()
    assert NUMBERS.resolve(thing) is thing


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("logstic", "logistic"), ("xgbost", "xgboost"), ("Cosine", "cosine")],
)
def test_a_misspelt_name_is_told_the_nearest(wrong: str, hint: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean '{hint}'") as caught:
        HEADS.resolve(wrong)
    assert repr(wrong) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(name in str(caught.value) for name in HEADS)


def test_a_name_like_no_other_gets_no_hint() -> None:
    with pytest.raises(UnknownNameError, match="unknown number 'qqq': known: pi, tau"):
        NUMBERS.resolve("qqq")


def test_a_registry_is_a_mapping() -> None:
    assert list(NUMBERS) == ["pi", "tau"]
    assert len(NUMBERS) == 2
    assert "pi" in NUMBERS
    assert "e" not in NUMBERS
    assert NUMBERS["pi"].path == "math:pi"


def test_an_attribute_of_any_module_can_be_named() -> None:
    assert NUMBERS.resolve("math:inf") == math.inf


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_such_package:Head", "no module 'no_such_package'"),
        ("math.no_such_module:Head", "no module"),
        ("math:no_such_name", "'math' has no 'no_such_name'"),
        ("math:", "'math' has no ''"),
        ("math:pi:e", "'math' has no 'pi:e'"),
        (":pi", "before the colon"),
        (".math:pi", "before the colon"),
        ("..:pi", "before the colon"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(path: str, reason: str) -> None:
    with pytest.raises(UnknownNameError, match=reason) as caught:
        import_path(path, kind="head")
    assert f"unknown head {path!r}" in str(caught.value)


def test_a_missing_library_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needy_head.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingLibraryError, match="pip install no_such_library"):
        import_path("needy_head:Head")


@pytest.mark.parametrize("name", ["looks_of_mine.py", "looks_of_mine/__init__.py"])
def test_a_module_of_this_folder_that_python_does_not_see_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    with pytest.raises(UnknownNameError, match=r"in this folder.*PYTHONPATH=\."):
        import_path("looks_of_mine:Thing")
    with pytest.raises(UnknownNameError, match=r"in this folder.*PYTHONPATH=\."):
        make_vectorizer("looks_of_mine:Thing")


@given(st.text(max_size=12).filter(lambda text: text not in NUMBERS))
def test_any_other_text_is_refused_in_one_error_of_ours(text: str) -> None:
    for choice in (text, f"no_module {text}:{text}", f"\0{text}:{text}"):
        with pytest.raises(UnknownNameError):
            NUMBERS.resolve(choice)
