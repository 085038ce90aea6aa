"""The page of all recipes: what each reached, and no more than its report says."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.benchmark.made_benchmark import config_of, made
from tests.study.test_report_html import Page

from nextmask.benchmark.recipes_page import write_recipes_page
from nextmask.benchmark.report import write_benchmark_report
from nextmask.benchmark.units import Benchmark, collect


def reported(folder: Path, name: str, *, source: str = "", **given) -> Benchmark:
    """Report a made-up benchmark as if it were recipe ``name``, played in ``folder``."""
    benchmark = made(folder / name, **given)
    write_benchmark_report(benchmark)
    collect(benchmark)
    studies = 'studies = {hearts = {images = "nowhere.csv"}}\n'
    (folder / f"{name}.toml").write_text(source or f"# {name.upper()}: a title.\n#\n# More.\n\n{studies}")
    return benchmark


def shown(folder: Path) -> Page:
    return Page(write_recipes_page(folder).read_text(encoding="utf-8"))


def test_every_recipe_that_was_played_has_its_answer_its_arms_and_its_report(tmp_path):
    benchmark = reported(tmp_path, "saal")
    reported(tmp_path, "ceal", config=config_of(seeds=1))
    page = shown(tmp_path)
    assert re.findall(r'href="([^"]*)"', page.source) == ["ceal/report.html", "saal/report.html"]
    assert (tmp_path / "saal" / "report.html").exists()
    assert "SAAL: a title." in page.text
    assert "More." not in page.text
    assert "Better than random, in Dice on average along the curve: typiclust" in page.text
    assert "Nothing can be told apart" in page.text
    told = json.loads((benchmark.folder / "report" / "report.json").read_text())["comparisons"]
    best = next(row for row in told if (row["measure"], row["arm"]) == ("aubc_samples", "typiclust"))
    assert f"{best['mean']:.3f} {best['lower']:.3f} to {best['upper']:.3f}" in " ".join(page.text.split())
    assert (
        page.source.count('<tr><th scope="row">') == 3 + 3
    )  # of the measure that the answer rests on, and of no other
    assert "interval not known" in page.text
    assert not re.search(r"\bNone\b|\bnan\b|\binf\b", page.text)


def test_studies_of_a_recipe_are_answered_apart(tmp_path):
    two = {name: {"images": "cases.csv", "classes": ["lv", "rv"]} for name in ("hearts", "lungs")}
    reported(tmp_path, "saal", config=config_of(studies=two))
    page = shown(tmp_path)
    assert page.source.count("<table") == 2
    assert page.source.count('<tr><th scope="row">') == 2 * 3
    assert re.findall(r"<h3>(.*?)</h3>", page.source) == ["hearts", "lungs"]
    assert page.text.count("Better than random, in Dice on average along the curve: typiclust") == 2


def test_one_budget_is_compared_there(tmp_path):
    reported(tmp_path, "saal", config=config_of(budgets=[20]))
    assert "Dice at the last budget that all arms have" in shown(tmp_path).text


def test_what_is_not_done_or_drawn_is_said(tmp_path):
    reported(
        tmp_path, "saal", done=lambda unit: unit.seed < 3, source="studies = {skin = {synthetic = {patients = 3}}}\n"
    )
    text = shown(tmp_path).text
    assert "3 of 12 units are not done." in text
    assert "Played on drawn patients" in text


def test_nothing_done_shows_no_table(tmp_path):
    reported(tmp_path, "saal", done=lambda unit: False)
    page = shown(tmp_path)
    assert "Nothing can be said yet" in page.text
    assert "<table" not in page.source


def test_a_benchmark_that_is_no_recipe_is_left_out_and_an_empty_folder_says_what_to_do(tmp_path):
    reported(tmp_path, "mine")
    assert "No recipe was played here yet" in shown(tmp_path).text
