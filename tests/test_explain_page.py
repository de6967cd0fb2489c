"""The page of an explanation, and the commands that write or print it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import make_classifier, save, tiny_network
from conftest import Run, write_image
from explained import looking, pair, scenes

from tllboost.classifier import ensemble
from tllboost.explain import Explanation, explain, write_page
from tllboost.explain.pair import signed, telling_patches

# Fixtures.
__all__ = ["pair", "scenes"]


@pytest.fixture(scope="module")
def covered(tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    folder = tmp_path_factory.mktemp("covered")
    images = [write_image(folder / f"{seed}.png", seed=seed) for seed in (1, 2)]
    return explain(ensemble([looking("pixels")]), *images, grid=2)


class Names(HTMLParser):
    """Collects the tags of a page and what they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.alts: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [key for key, _ in attrs if key.startswith("on")]
        if tag == "img":
            self.alts.append(dict(attrs).get("alt"))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_of_files_are_text_on_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "<script>alert(1)<"
    folder.mkdir()
    left = write_image(folder / '"><img src=x onerror=alert(1)>.png', seed=1)
    right = write_image(folder / "two\nlines\u202e&amp;.png", seed=2)
    found = explain(ensemble([looking("classic+pixels")]), left, right, grid=2)
    page = write_page(found, tmp_path / "pair.html", bundle=folder / "best.tllb")
    seen = Names()
    seen.feed(page.read_text(encoding="utf-8"))
    assert seen.tags.count("script") == 1
    assert seen.tags.count("img") == 2
    assert str(left) in seen.text
    assert "two\\nlines\\u202e&amp;.png" in seen.text
    assert all(seen.alts)


def test_a_name_that_is_no_text_can_be_shown(tmp_path: Path, pair: Any) -> None:
    odd = Path(f"{tmp_path}/\udcff.png")
    try:
        shutil.copy(pair[0], odd)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no name that is not UTF-8")
    found = explain(ensemble([looking("pixels")]), odd, pair[1], grid=2)
    page = write_page(found, tmp_path / "pair.html")
    assert "\\udcff.png" in page.read_text(encoding="utf-8")


def test_the_page_is_small_and_says_all_in_words(scenes: Path, tmp_path: Path) -> None:
    left = write_image(tmp_path / "large.jpg", seed=1, size=(3000, 2000))
    found = explain(ensemble([looking("pixels")]), left, scenes / "scene_0002_0.jpg")
    text = write_page(found, tmp_path / "pair.html").read_text(encoding="utf-8")
    assert len(text) < 2_000_000
    for row, column, change in telling_patches(found.left_map):
        assert f"row {row}, column {column}: {signed(change, '−')}" in text


@pytest.mark.parametrize(
    ("left", "right", "log_odds", "line"),
    [
        (
            -0.5,
            -0.9,
            3,
            "The match rests most on row 1, column 2 of the left image"
            " (−0.50) and row 1, column 2 of the right image (−0.90).",
        ),
        (
            -0.5,
            0.9,
            3,
            "The match rests most on row 1, column 2 of the left image (−0.50).",
        ),
        (
            -0.5,
            0,
            -3,
            "What speaks for a match rests most on row 1, column 2 of the left"
            " image (−0.50).",
        ),
        (0, 0.9, 3, "No one patch carries a match; some speak against it."),
        (
            -0.09,
            0,
            1,
            "Covering has nothing to say here: no one patch changes the"
            " log-odds by 0.10 or more.",
        ),
        (
            -0.4,
            0,
            9,
            "Covering has nothing to say here: no one patch changes the"
            " log-odds by 0.45 or more.",
        ),
    ],
)
def test_one_line_says_what_carries_the_match_or_that_nothing_does(
    covered: Explanation,
    tmp_path: Path,
    left: float,
    right: float,
    log_odds: float,
    line: str,
) -> None:
    maps = {
        f"{name}_map": np.array([[0, change], [0, 0]])
        for name, change in (("left", left), ("right", right))
    }
    decision = "match" if log_odds > 0 else "no match"
    found = replace(covered, **maps, log_odds=log_odds, decision=decision)
    text = write_page(found, tmp_path / "pair.html").read_text(encoding="utf-8")
    (told,) = re.findall(r'<p class="finding">(.*?)</p>', text, re.DOTALL)
    assert told.strip() == line
    # What tells nothing is pale: the map's colours are not stretched.
    strong = max(float(one) for one in re.findall(r'fill-opacity="(.*?)"', text))
    assert (strong < 1) == ("nothing" in line)


# commands


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    network = tiny_network(folder / "net.onnx")
    classifier = make_classifier(f"onnx:{network}", "cosine", n_dims=3)
    return save(folder / "best.tllb", classifier, 3)


def test_explain_writes_a_page_and_prints_the_short_form(
    run: Run, bundle: Path, pair: Any, tmp_path: Path
) -> None:
    page = tmp_path / "pair.html"
    done = run("explain", bundle, *pair, "--out", page, "--grid", 3)
    assert (done.returncode, done.stderr) == (0, f"page: {page}\n")
    plain = run("score", bundle, *pair)
    assert done.stdout.startswith(plain.stdout)
    assert "covering changes the log-odds: left, " in done.stdout
    assert "row " in done.stdout
    assert page.read_text(encoding="utf-8").count("<img ") == 2
    quiet = run("explain", bundle, *pair, "--out", page, "--grid", 3, "-q", "--json")
    assert quiet.stderr == ""
    assert len(quiet.json["left_map"]) == 3
    assert (
        quiet.json["probability"]
        == run("score", bundle, *pair, "--json").json["probability"]
    )


def test_the_page_says_for_which_prior_its_probability_is(
    run: Run, bundle: Path, pair: Any, tmp_path: Path
) -> None:
    page = tmp_path / "pair.html"
    words = ("explain", bundle, *pair, "--out", page, "--grid", 2, "-q", "--json")
    even, rare = run(*words).json, run(*words, "--prior", "1/20").json
    assert (even["prior"], rare["prior"], rare["threshold"]) == (0.5, 0.05, 0.5)
    assert rare["log_odds"] == pytest.approx(even["log_odds"] - np.log(19))
    np.testing.assert_allclose(rare["left_map"], even["left_map"], atol=1e-9)
    text = page.read_text(encoding="utf-8")
    assert "threshold 0.500: from this probability on" in text.lower()
    assert "for a prior of 0.05, the share of pairs that match" in text
    scored = run("score", bundle, *pair, "--prior", "1/20", "--explain").stdout
    assert "prior        0.05\n" in scored


def test_score_explains_without_a_page(
    run: Run, bundle: Path, pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = run("score", bundle, *pair, "--explain")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("  row ") == 6
    told = run("score", bundle, *pair, "--explain", "--json").json
    assert told["decision"] in done.stdout
    assert set(tmp_path.iterdir()) - set(before) <= {tmp_path / "cache"}
    for wrong in (["--csv"], ["--json", "--pairs", "pairs.csv"]):
        images = [] if "--pairs" in wrong else pair
        refused = run("score", bundle, *images, "--explain", *wrong)
        assert refused.returncode == 2
        assert "--explain" in refused.stderr


def test_a_bad_bundle_image_or_place_is_one_line(
    run: Run, bundle: Path, pair: Any, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.tllb"
    bad.write_bytes(bundle.read_bytes()[:-200])
    page = tmp_path / "pair.html"
    for code, arguments in (
        (5, [bad, *pair]),
        (3, [bundle, pair[0], tmp_path / "none.jpg"]),
        (2, [bundle, *pair, "--grid", "99"]),
    ):
        done = run("explain", *arguments, "--out", page)
        assert (done.returncode, done.stdout) == (code, ""), done
        assert code == 2 or done.stderr.count("\n") == 1
    assert not page.exists()
    (tmp_path / "file").touch()
    done = run("explain", bundle, *pair, "--grid", 2, "--out", tmp_path / "file" / "p")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
