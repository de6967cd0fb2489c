"""report.html in a real browser: a run with hostile names, driven as people would."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import DESKTOP, PHONE, OpenPage, is_sideways, keep_image

from tllboost.demo import make_scenes
from tllboost.files import csv_text
from tllboost.grid.run import run_grid
from tllboost.metrics import METRICS
from tllboost.pairs import read_pairs
from tllboost.report import read_run, report_page, write_report

if TYPE_CHECKING:
    from playwright.sync_api import Page

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect

TAG = "<img src=x onerror=alert(1)>"
REASON = "<b>no</b> </script>"  # of bad_heads:Refuses
LONG = "sklearn.naive_bayes:GaussianNB?var_smoothing=1e-08"
SCRIPT = "<"  # a folder: with its file "script>…", the end of a script


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a small real run, some of whose images have bad names."""
    folder = tmp_path_factory.mktemp("browser")
    scenes = make_scenes(folder / "scenes", n_scenes=60, n_views=2)
    pairs = hostile_names(scenes, folder / "images")
    out = folder / "<b>run"
    result = run_grid(
        read_pairs(pairs, images=pairs.parent),
        ["classic"],
        ["dot", "l1"],
        ["logistic", LONG, "bad_heads:Refuses"],
        out=out,
        store=folder / "store",
        settings={"pairs": str(pairs)},
    )
    assert result.exit_code == 4
    return write_report(out)


def hostile_names(scenes: Path, folder: Path) -> Path:
    """Copy the scenes under names that would be a tag, or the end of a script."""
    (folder / SCRIPT).mkdir(parents=True)
    with scenes.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = [["left", "right"]]
    for number, row in enumerate(rows):
        left, right = f"{TAG}{number}.jpg", f"{SCRIPT}/script>{number}.jpg"
        shutil.copy(scenes.parent / f"{row['left']}.jpg", folder / left)
        shutil.copy(scenes.parent / f"{row['right']}.jpg", folder / right)
        lines.append([left, right])
    table = folder / "pairs.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    return table


@pytest.fixture
def page(report: Path, open_page: OpenPage) -> Page:
    return open_page(report)


def texts(page: Page, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_text_contents()]


def test_every_part_of_the_report_is_there(page: Page) -> None:
    shown = texts(page, "main h2")
    assert shown == [
        *("What was run", "The matrix", "One cell", "Images", "All cells"),
        *("Gain over the plain cosine", "Accuracy against cost", "Failures", "Leaks"),
    ]
    plots = ["Top k", "ROC", "Precision and recall", "Reliability", "Scores"]
    assert texts(page, "figure.chart h3") == plots
    labels = page.locator("svg.plot").evaluate_all(
        "all => all.map(one => one.getAttribute('aria-label'))"
    )
    assert len(labels) == len(plots) + 1
    assert all(labels)
    told = page.locator("body").inner_text()
    assert "1 seed" in told
    assert "seeds 0" not in told


def test_the_title_says_metric_data_and_day_and_each_figure_is_told_once(
    page: Page, report: Path
) -> None:
    day = f"{date.today():%-d %B %Y}"
    title = f"{report.parent.name}: top-2 accuracy on images/pairs.csv, {day}"
    assert texts(page, "h1") == [title]
    assert page.title() == f"{title} · tllboost"
    tiles = texts(page, "#headline .label")
    assert tiles[0] == "Chosen on validation"
    assert len(tiles) == len(set(tiles))
    # One choice gave what the chosen cell has, and the tiles say what the lines said.
    assert "What choosing gave" not in tiles
    assert json.loads((report.parent / "summary.json").read_text("utf-8"))["lines"]
    assert page.locator(".note", has_text="validation").count() == 0
    page.select_option("#metric", "brier")
    assert "Brier score on" in page.title()


def test_every_image_has_a_text_and_every_control_a_name(page: Page) -> None:
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('img')].filter(one => !one.alt).length
        + [...document.querySelectorAll('button, select, input')].filter(one =>
            !(one.textContent.trim() || one.ariaLabel || one.labels?.length
              || one.querySelector('img[alt]'))).length"""
    )
    assert nameless == 0
    assert page.locator("#gallery img").count() > 100


def test_the_matrix_switches_its_metric(page: Page) -> None:
    before = texts(page, ".heat td button")
    page.select_option("#metric", "brier")
    after = texts(page, ".heat td button")
    assert before != after
    expect(page.locator("#legend")).to_contain_text("Brier score")
    expect(page.locator("#legend")).to_contain_text("lower is better")
    expect(page.locator("table.all thead")).to_contain_text("Brier score ▲")
    best = page.locator(".heat .best").first
    assert float(best.text_content().strip("*")) == min(
        float(text.strip("*=")) for text in after if text not in ("", "failed")
    )


def test_the_numbers_are_those_of_the_run(page: Page, report: Path) -> None:
    rows = read_run(report.parent).rows()
    for metric in METRICS:
        page.select_option("#metric", metric)
        shown = page.locator(".heat td button").evaluate_all(
            "all => all.map(one => [one.dataset.cell, one.firstChild.textContent])"
        )
        assert len(shown) == 8
        for cell, text in shown:
            row = rows[int(cell)]
            failed = row["status"] != "ok"
            assert text == ("failed" if failed else f"{row[metric]:.3f}")


def test_a_long_name_is_short_in_the_matrix_and_told_in_full_below(page: Page) -> None:
    short = "GaussianNB?vs=1e-08"
    assert short in texts(page, ".heat thead th")
    name = page.locator("table.all button", has_text=short).first
    assert name.get_attribute("title").endswith(LONG)
    assert LONG not in page.locator("#gains").inner_text()
    told = page.locator("details", has_text="Short names").inner_text()
    assert short in told
    assert LONG in told


def test_numbers_are_rounded_as_python_rounds_them(page: Page) -> None:
    values = [0.8125, 0.1875, 0.0625, -0.0625, 0.0005, 0.2965, 1.0, 2.5, -0.0004]
    shown = page.evaluate("values => values.map((one) => decimals(one))", values)
    assert [text.replace("−", "-") for text in shown] == [f"{x:.3f}" for x in values]


def test_the_matrix_is_readable_without_colour(page: Page) -> None:
    cells = texts(page, ".heat td button")
    assert any(cell.endswith("*") for cell in cells)
    assert cells.count("failed") == 2
    name = page.locator(".heat .best").first.get_attribute("aria-label")
    assert "best of all on the test images" in name


def test_hovering_and_focus_both_show_the_interval(page: Page, report: Path) -> None:
    cell = page.locator(".heat td button").first
    cell.hover()
    expect(page.locator("#tip")).to_be_visible()
    hovered = page.locator("#tip").text_content()
    row = read_run(report.parent).rows()[int(cell.get_attribute("data-cell"))]
    low, high = (row[f"top2_{end}"] for end in ("low", "high"))
    told = f"top-2 accuracy {row['top2']:.3f} [{low:.3f}, {high:.3f}]"
    assert told in hovered.replace("\xa0", " ")
    page.mouse.move(2, 2)
    expect(page.locator("#tip")).to_be_hidden()
    page.locator("#metric").focus()
    page.keyboard.press("Tab")
    for _ in range(6):
        if page.evaluate("document.activeElement.closest('.heat') !== null"):
            break
        page.keyboard.press("Tab")
    expect(page.locator("#tip")).to_have_text(hovered)
    page.keyboard.press("Escape")
    expect(page.locator("#tip")).to_be_hidden()


def test_the_keyboard_alone_reaches_a_cell_and_its_plots(page: Page) -> None:
    page.locator(".heat td button[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".cell-name")).to_contain_text("classic · l1 · logistic")
    assert page.evaluate("document.activeElement.id") == "cell-title"
    assert page.locator(".heat [tabindex='0']").count() == 1


def test_a_failed_cell_says_why(page: Page) -> None:
    page.locator(".heat .failed").first.click()
    expect(page.locator("#details")).to_contain_text("failed: ")
    expect(page.locator("#details")).to_contain_text(REASON)
    expect(page.locator("#failures")).to_contain_text(REASON)


def test_the_table_sorts_by_any_column(page: Page) -> None:
    button = page.locator("[data-sort='fit_s']")
    button.click()
    heading = page.locator("th:has([data-sort='fit_s'])")
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert page.evaluate("document.activeElement.dataset.sort") == "fit_s"
    up = texts(page, "table.all tbody th")
    page.keyboard.press("Enter")
    expect(heading).to_have_attribute("aria-sort", "descending")
    down = texts(page, "table.all tbody th")
    done = [name for name in up if "Refuses" not in name]
    assert [name for name in down if "Refuses" not in name] == done[::-1]
    assert "Refuses" in up[-1]
    assert "Refuses" in down[-1]


def test_the_table_filters_by_words_head_and_ties(page: Page) -> None:
    page.fill("#words", "L1 gaussian")
    assert len(texts(page, "table.all tbody th button")) == 1
    expect(page.locator("#count")).to_have_text("1 of 7 cells")
    page.fill("#words", "no such thing")
    expect(page.locator("#count")).to_have_text("0 of 7 cells")
    page.fill("#words", "")
    page.select_option("#only-head", "logistic")
    expect(page.locator("#count")).to_have_text("2 of 7 cells")
    page.select_option("#only-head", "")
    page.check("#only-ties")
    ties = texts(page, "table.all tbody td:nth-of-type(2)")
    assert ties
    assert set(ties) <= {"* best", "= tied"}


def test_an_image_enlarges_beside_its_query_and_escape_closes(page: Page) -> None:
    first = page.locator("#best-queries .query").first
    first.locator(".candidates button").first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#enlarged")
    expect(dialog).to_be_visible()
    expect(dialog.locator("img")).to_have_count(2)
    expect(dialog).to_contain_text("candidate 1 of")
    page.keyboard.press("ArrowRight")
    expect(dialog).to_contain_text("candidate 2 of")
    keep_image(page, "report-enlarged")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_the_match_is_framed_and_named_wherever_it_ranks(page: Page) -> None:
    more = page.locator(".shelf > .rest")
    while more.count():
        more.first.click()
        assert page.evaluate("document.activeElement.className") == "image"
    assert page.locator(".query:visible").count() == page.locator(".query").count() > 10
    for query in page.locator(".query").all():
        match = query.locator(".candidates li.match").first
        expect(match).to_be_visible()
        expect(match).to_contain_text("match")
        border = "one => getComputedStyle(one).borderTopWidth"
        assert match.locator("button").evaluate(border) == "4px"


def test_all_candidates_come_when_asked_for(page: Page) -> None:
    query = page.locator("#worst-queries .query").first
    seen = query.locator(".candidates li:visible")
    assert seen.count() == 8
    query.locator(".more").click()
    assert seen.count() == query.locator(".candidates li").count() > 8
    expect(query.locator(".more")).to_have_attribute("aria-expanded", "true")


def test_hostile_names_are_text_and_nothing_else(page: Page, report: Path) -> None:
    assert "<b>run" not in report.read_text(encoding="utf-8")
    assert page.locator("h1").text_content().startswith(f"{report.parent.name}: ")
    assert page.locator("h1 b").count() == 0
    names = page.locator("#gallery img").evaluate_all("all => all.map(one => one.alt)")
    assert any(TAG in name for name in names)
    assert any("</script>" in name for name in names)
    assert page.locator("img[src='x']").count() == 0
    # Below each image stands the name of its file, in full where the pointer rests.
    under = texts(page, "#gallery .query .name")
    assert any(name.startswith("script>") for name in under)
    assert all(name.startswith((TAG, "script>")) for name in under)
    assert len(under) == page.locator("#gallery .query img").count()


def test_the_images_are_of_whatever_cell_is_chosen(page: Page) -> None:
    queries = page.locator("#gallery .query")
    n_own = queries.count()
    before = texts(page, "#gallery .query .name")
    chosen = page.locator("#whose").input_value()
    assert chosen == page.locator("#which").input_value()
    other = next(
        one
        for one in page.evaluate("Object.keys(run.gallery.cells)")
        if one != chosen and page.evaluate("one => cells[one].merge", one) == "l1"
    )
    page.select_option("#whose", other)
    assert page.locator("#which").input_value() == other
    assert queries.count() == 10 < n_own
    assert texts(page, "#gallery .query .name") != before
    page.locator(".heat .failed").first.click()
    expect(page.locator("#gallery")).to_contain_text("This cell failed")
    page.evaluate("delete run.gallery.cells[0]; choose('cell', 0)")
    expect(page.locator("#gallery")).to_contain_text("room for no more")


def test_every_table_can_be_had_as_a_file(page: Page, report: Path) -> None:
    found = {}
    for part in ("matrix", "cells", "gain", "cost", "failures", "leaks"):
        with page.expect_download() as download:
            page.locator(f"#{part} .csv").click()
        path = download.value.path()
        with path.open(newline="", encoding="utf-8") as file:
            found[part] = list(csv.reader(file))
        assert download.value.suggested_filename.endswith(".csv")
        assert len({len(row) for row in found[part]}) == 1
        assert len(found[part]) > 1
    with (report.parent / "matrix.csv").open(newline="", encoding="utf-8") as file:
        for told, row in zip(found["matrix"], csv.reader(file), strict=True):
            assert told[:3] == row[:3]
            for ours, theirs in zip(told[3:], row[3:], strict=True):
                text = theirs.replace(".", "").isdecimal()
                assert (f"{float(ours):.4f}" if text else ours) == theirs
    rows = read_run(report.parent).rows()
    names, *cells = found["cells"]
    assert [dict(zip(names, cell, strict=True))["head"] for cell in cells].count(
        "bad_heads:Refuses"
    ) == sum(row["status"] != "ok" for row in rows)
    told = {tuple(cell[:4]): cell[names.index("brier_high")] for cell in cells}
    for row in rows:
        key = tuple(row[name] for name in names[:4])
        high = row.get("brier_high")
        assert float(told[key] or "nan") == pytest.approx(
            float("nan") if high is None else high, abs=1e-5, nan_ok=True
        )
    values = ["=1+1", "'=1", "-1.5e-3", -2, "a=b", 'a "b", c', "+x", None]
    shown = page.evaluate("values => values.map(csvField)", values)
    assert f"{','.join(shown)}\n" == csv_text(values, [])


def test_the_command_is_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#copy")
    expect(page.locator("#copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("tllboost grid")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_page_fits_the_screen_in_both_schemes(
    report: Path, open_page: OpenPage, size: tuple[int, int], scheme: str
) -> None:
    page = open_page(report, size=size, scheme=scheme)
    assert not is_sideways(page)
    red, _, _ = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
    )
    assert (red < 60) == (scheme == "dark")
    if size == PHONE:
        menu = page.locator(".menu")
        expect(menu).to_have_class("menu more")
        faded = "one => getComputedStyle(one.firstElementChild).maskImage"
        assert "gradient" in menu.evaluate(faded)
        page.evaluate("byId('parts').scrollLeft = 9999")
        expect(menu).to_have_class("menu before")
    for part in ("top", "matrix", "cell", "gallery", "gain"):
        page.evaluate("part => document.getElementById(part).scrollIntoView()", part)
        keep_image(page, f"report-{part}-{scheme}-{size[0]}")
    page.locator(".query button").first.click()
    assert not is_sideways(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_lies_below_it(
    report: Path, open_page: OpenPage, scheme: str
) -> None:
    page = open_page(report, scheme=scheme)
    assert page.evaluate(CONTRAST, "body *") == []
    # Nor does the pointer make a number unreadable, whatever its colour.
    page.locator(".heat td button").first.hover()
    paint = "step => (document.querySelector('.heat button').className = `h${step}`)"
    for step in range(9):
        page.evaluate(paint, step)
        assert page.evaluate(CONTRAST, ".heat tr:first-of-type td button") == [], step


CONTRAST = """(selector) => {
  const light = (text) => {
    const [r, g, b] = text.match(/[0-9.]+/g).map((one) => {
      const share = one / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const solid = (text) => /^rgb\\(/.test(text);
  const below = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (solid(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const written = (one) =>
    [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll(selector)]
    .filter((one) => written(one) && one.checkVisibility())
    .filter((one) => !(one instanceof SVGElement))
    .map((one) => {
      const [a, b] = [light(getComputedStyle(one).color), light(below(one))];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      return [contrast, one.className, one.textContent];
    })
    .filter(([contrast]) => contrast < 4.5);
}"""


def test_a_large_matrix_hides_what_only_failed(
    open_page: OpenPage, tmp_path: Path
) -> None:
    page = open_page(made_page(tmp_path, n_rows=60, n_lost=10))
    rows = page.locator(".heat tbody tr")
    assert rows.count() == 60
    assert page.locator(".heat tbody tr:visible").count() == 50
    page.check("#show-lost")
    assert page.locator(".heat tbody tr:visible").count() == 60
    assert "weights" in page.locator("#failures").text_content()
    assert page.locator("#failures tbody tr").count() == 1
    page.locator(".heat td button").first.focus()
    for _ in range(70):
        page.keyboard.press("ArrowDown")
    row = "Number(document.activeElement.dataset.row)"
    assert page.evaluate(row) == 59
    # Colours: as far from the best cosine as the farthest, none where it may be chance.
    colours = page.locator(".heat td:first-of-type button").evaluate_all(
        "all => all.map(one => Number(one.classList[0].slice(1)))"
    )
    assert colours[10:] == sorted(colours[10:])
    assert (colours[10], colours[29:32], colours[-1]) == (1, [4, 4, 4], 8)
    # A small gain that is no chance stays pale: the scale is 0.1 wide at least.
    pale = "heatOf({ status: 'ok', over: { top2: [0.02, 0.01, 0.03] } }, LEAST_END)"
    assert page.evaluate(pale) == 5


def test_a_page_of_nothing_opens(open_page: OpenPage, tmp_path: Path) -> None:
    path = tmp_path / "empty.html"
    path.write_text(report_page({"title": "nothing"}), encoding="utf-8")
    assert texts(open_page(path), "main h2") == ["What was run", "Failures"]


def made_page(folder: Path, *, n_rows: int, n_lost: int) -> Path:
    """Write the page of a run that was never made, in the form that payload() has."""
    heads = ["cosine", "logistic", "mlp"]
    rows = [
        [f"net-{row // 3}?long=option&more=of-it", "none", "dot"]
        for row in range(n_rows)
    ]
    cells = [
        {
            **dict(zip(("vectorizer", "projection", "merge"), row, strict=True)),
            "head": head,
            "name": "",
            **({"status": "ok"} if place >= n_lost else {"status": "failed"}),
            "error": "no weights",
            "figures": {"top2": [place / n_rows, None, None]},
            "over": {
                "top2": [place / n_rows - 0.5 + by / n_rows for by in (0, -1.5, 1.5)]
            },
        }
        for place, row in enumerate(rows)
        for head in heads
    ]
    failures = [
        {"what": "cell", "where": f"{place}", "why": "no weights"}
        for place in range(n_lost)
    ]
    places = [[3 * place, 3 * place + 1, 3 * place + 2] for place in range(n_rows)]
    shown = {
        "title": "made",
        "metrics": [{"name": "top2", "title": "top-2 accuracy", "lower": False}],
        "metric": "top2",
        "cells": cells,
        "matrix": {"rows": rows, "heads": heads, "places": places},
        "chosen": None,
        "failures": failures,
    }
    path = folder / "made.html"
    path.write_text(report_page(shown), encoding="utf-8")
    return path


def test_a_run_without_images_has_a_page_without_them(
    report: Path, open_page: OpenPage, tmp_path: Path
) -> None:
    copy = shutil.copytree(report.parent, tmp_path / "run")
    page = open_page(write_report(copy, gallery=0))
    assert "Images" not in texts(page, "main h2")
    assert page.locator("img").count() == 0
    assert page.locator(".heat .best").count() > 0
