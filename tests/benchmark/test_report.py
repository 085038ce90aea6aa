"""The report of a benchmark: no more than is known, whatever is missing, in one file that loads nothing."""

from __future__ import annotations

import csv
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.benchmark.made_benchmark import CLASSES, config_of, dice_of, made
from tests.study.test_report_html import Page

from nextmask.benchmark import report
from nextmask.benchmark.arm_picks import Picks, picks_of
from nextmask.benchmark.report import finite, write_benchmark_report
from nextmask.benchmark.units import Benchmark, open_benchmark
from nextmask.data.images import read_mask
from nextmask.study.report import Picture
from nextmask.study.study import Study


def page(benchmark: Benchmark) -> Page:
    return Page(write_benchmark_report(benchmark).read_text(encoding="utf-8"))


def table(benchmark: Benchmark, name: str) -> list[dict[str, str]]:
    with (benchmark.folder / "report" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(benchmark: Benchmark):
    def refuse(constant: str):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((benchmark.folder / "report" / "report.json").read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """A benchmark that is done, reported; not to be changed."""
    benchmark = made(tmp_path_factory.mktemp("whole"))
    write_benchmark_report(benchmark)
    return benchmark


@pytest.fixture(scope="module")
def shown(whole: Benchmark) -> Page:
    return Page((whole.folder / "report.html").read_text(encoding="utf-8"))


def test_the_answer_names_what_was_planted_and_what_random_would_have_cost(shown):
    assert "Better than random, in Dice on average along the curve: typiclust (by 0.06" in shown.text
    assert "Worse than random, in Dice on average along the curve: k_center (by 0.06" in shown.text
    assert re.search(r"random took [\d.]+ samples or [\d.]+ minutes in the median of 4 seeds; typiclust", shown.text)
    assert "With 4 seeds and paired t-tests with Holm's correction for 2 comparisons" in shown.text
    assert "12 of 12" in shown.text
    assert "not done" not in shown.text


def test_the_page_loads_nothing_and_runs_nothing(shown):
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)|url\(|@import|<script", shown.source)
    assert "default-src 'none'" in shown.source


def test_every_figure_has_a_name_that_says_what_it_shows(shown):
    names = [attributes.get("aria-label") for tag, attributes in shown.tags if tag == "svg"]
    assert len(names) == 4
    assert all(name for name in names)
    assert "typiclust ends at 0.8" in names[0]
    assert "typiclust +0.06" in names[3]
    assert "better" in names[3]


def test_the_switch_has_every_axis_and_needs_no_script(shown):
    radios = [attributes for tag, attributes in shown.tags if attributes.get("type") == "radio"]
    assert [radio["value"] for radio in radios] == ["samples", "foreground_voxels", "minutes"]
    assert [radio["value"] for radio in radios if "checked" in radio] == ["samples"]
    for radio in radios:
        assert f".over:has(input[value={radio['value']}]:checked)" in shown.source


def test_the_figures_are_files_of_their_own(whole):
    files = sorted((whole.folder / "report").glob("*.svg"))
    assert [file.name for file in files] == [
        "hearts-curves-foreground_voxels.svg", "hearts-curves-minutes.svg", "hearts-curves-samples.svg", "hearts-differences.svg"
    ]  # fmt: skip
    for file in files:
        root = ElementTree.fromstring(file.read_text(encoding="utf-8"))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert any("prefers-color-scheme: dark" in (each.text or "") for each in root.iter())
        width, height = map(int, root.attrib["viewBox"].split()[2:])
        with Image.open(file.with_suffix(".png")) as picture:
            assert (picture.format, picture.size) == ("PNG", (2 * width, 2 * height))


def test_the_numbers_are_those_of_the_units(whole):
    curves = [row for row in table(whole, "curves") if (row["axis"], row["arm"]) == ("samples", "typiclust")]
    assert [float(row["spent"]) for row in curves] == [10, 20, 40]
    units = [job.unit for job in whole.jobs if job.unit.strategy == "typiclust"]
    mean = np.mean([dice_of(unit, 2, patient) for unit in units for patient in range(6)])
    assert float(curves[-1]["dice"]) == pytest.approx(mean)
    decided = {(row["measure"], row["arm"]): row["decision"] for row in table(whole, "comparisons")}
    assert decided["aubc_samples", "typiclust"] == "better"
    assert decided["last", "k_center"] == "worse"
    assert {(row["arm"], row["beats"]): row["share_of_budgets"] for row in table(whole, "penalty")}[
        "typiclust", "random"
    ] == "1.0"


def test_fg_eff_stands_beside_the_areas_and_among_the_comparisons(tmp_path, monkeypatch):
    picks = Picks(1, 1, 80, 8000, (), (), {}, {}, CLASSES, ())
    monkeypatch.setattr(report, "picks_of", lambda jobs, played: picks)
    benchmark = made(tmp_path, config_of(full_score=0.95))
    text = page(benchmark).text
    rates = {row["arm"]: float(row["mean"]) for row in table(benchmark, "comparisons") if row["measure"] == "fg_eff"}
    assert rates["typiclust"] > rates["random"] > rates["k_center"] > 0
    assert "LettersFG-Eff" in "".join(text.split())
    assert f"{rates['typiclust']:.2f}" in text
    assert "towards 0.950, as the file gives for all labels" in " ".join(text.split())


def test_one_page_shows_images_and_the_other_none(tmp_path, monkeypatch):
    drawn = Picture("p01", 1, np.eye(8), np.eye(8, dtype=np.uint8))
    picks = Picks(1, 1, 80, 8000, (), (), {}, {"typiclust": (drawn,)}, CLASSES, ())
    monkeypatch.setattr(report, "picks_of", lambda jobs, played: picks)
    whole = write_benchmark_report(made(tmp_path)).read_text(encoding="utf-8")
    without = (tmp_path / "report" / "without-images.html").read_text(encoding="utf-8")
    assert whole.count("<img") == 2
    assert "<img" not in without
    assert "data:image" not in without
    assert "typiclust ends at" in without


def test_fg_eff_is_left_out_with_a_reason(whole, shown):
    assert "FG-Eff, the rise of Dice with annotated foreground, is not given." in shown.text
    assert "fg_eff" not in {row["measure"] for row in table(whole, "comparisons")}


def test_what_is_never_reached_is_said_in_words_and_null_in_json(whole, shown):
    reached = {row["arm"]: row["median"] for row in numbers(whole)["targets"] if row["axis"] == "samples"}
    assert reached["k_center"] is None
    assert reached["random"] > 0
    assert "not reached; 0 of 4 seeds" in shown.text
    assert {row["arm"]: row["median"] for row in table(whole, "targets")}["k_center"] == "inf"
    assert not re.findall(r"\b(?:nan|inf)\b|\bNone\b(?!\.)", shown.text)


def test_metrics_that_are_not_defined_are_said_to_be(shown):
    assert "not defined" in shown.text


def test_what_is_gone_is_said(shown):
    assert "The study's own files are gone" in shown.text


def test_an_empty_benchmark_says_that_nothing_is_known(tmp_path):
    benchmark = made(tmp_path, done=lambda unit: False)
    text = page(benchmark).text
    assert "Nothing can be said yet" in text
    assert "12 of 12 units are not done" in text
    assert "None of the 12 units of this study has a result yet" in text
    assert numbers(benchmark)["curves"] == []


def test_one_seed_claims_nothing(tmp_path):
    text = page(made(tmp_path, config_of(seeds=1))).text
    assert "Nothing can be told apart" in text
    assert "no difference, however large, can be shown" in text
    assert "interval not known" in text
    assert "No bands" in text
    assert "Better than" not in text


def test_noise_is_not_told_apart_and_not_called_alike(tmp_path):
    def noisy(unit, point, patient):
        seed = [unit.seed, point, patient, len(unit.strategy)]
        return 0.6 + float(np.random.default_rng(seed).normal(0, 0.1))

    text = page(made(tmp_path, score=noisy)).text
    assert "can be told apart from random here. That does not show that they are alike." in text
    assert "Better than" not in text
    assert "Equivalent to" not in text


def test_the_same_scores_are_equivalent(tmp_path):
    text = page(made(tmp_path, score=lambda unit, point, patient: 0.5 + 0.1 * point + 0.01 * patient)).text
    assert "Equivalent to random, within 0.01 Dice: " in text


def test_one_strategy_is_shown_alone(tmp_path):
    text = page(made(tmp_path, config_of(arms=[{"strategies": ["typiclust"]}]))).text
    assert "typiclust was played alone: there is nothing to compare it with." in text
    assert "nothing here says what plain random would have cost" in text
    assert "Penalty matrix" not in text


def test_unfinished_and_failed_units_are_told_with_their_errors(tmp_path):
    benchmark = made(
        tmp_path, done=lambda unit: unit.seed < 3, failed=lambda unit: unit.seed == 3 and unit.strategy == "k_center"
    )
    text = page(benchmark).text
    assert "3 of 12 units are not done, 1 of them failed" in text
    assert "MemoryError: too large <b>" in text
    assert "Traceback: line 1" in text
    assert "With 4 seeds" in text  # as planned


def test_no_scored_patient_is_no_result(tmp_path):
    text = page(made(tmp_path, score=lambda unit, point, patient: np.nan)).text
    assert "Nothing can be said yet" in text


def test_one_budget_is_shown_and_compared_there(tmp_path):
    text = page(made(tmp_path, config_of(budgets=[20]))).text
    assert "Better than random, in Dice at 20 samples: typiclust" in text
    assert "Not given." in text


def test_baseline_margin_and_target_are_those_of_the_file(tmp_path):
    text = page(made(tmp_path, config_of(baseline="k_center", margin=0.1, target=0.7))).text
    assert "Equivalent to k_center, within 0.1 Dice: random." in text
    assert "Better than k_center, in Dice on average along the curve: typiclust (by 0.12" in text
    assert "What it takes to reach a Dice of 0.700" in text
    assert "The target was set in the benchmark's file." in text


def test_each_study_has_its_own_answer_and_names_are_escaped(tmp_path):
    of_one = {"images": "a.csv", "classes": ["x"]}
    config = config_of(
        studies={"hearts": of_one, "lungs": of_one}, arms=[{"name": "<i>mine</i>", "strategies": ["random"]}]
    )
    found = page(made(tmp_path, config, done=lambda unit: unit.study == "hearts"))
    assert "Study hearts" in found.text
    assert "None of the 4 units of this study has a result yet" in found.text
    assert "<i>mine</i> was played alone" in found.text
    assert "<i>mine" not in found.source


def test_what_is_not_finite_becomes_none():
    assert finite({"a": [1.0, float("inf")], "b": (float("nan"), "x", None)}) == {
        "a": [1.0, None],
        "b": [None, "x", None],
    }


def test_cost_time_and_memory_are_those_of_the_units(whole, shown):
    (row,) = [row for row in table(whole, "effort") if row["arm"] == "k_center"]
    told = {
        name: row[name]
        for name in ("units", "samples", "foreground_voxels", "minutes", "train_seconds", "total", "peak_mb")
    }
    assert told == {
        "units": "4", "samples": "40.0", "foreground_voxels": "4001.5", "minutes": "80.0", "train_seconds": "8.0",
        "total": "120.0", "peak_mb": "900",
    }  # fmt: skip
    assert "900 MB" in shown.text


def test_the_metrics_are_those_of_the_last_round_by_class(whole, shown):
    units = [job.unit for job in whole.jobs if job.unit.strategy == "random"]
    mean = np.mean([dice_of(unit, 2, patient) for unit in units for patient in range(6)])
    squeezed = shown.text.replace(" ", "")
    assert f"randomchamber{mean:.3f}notdefined{mean:.3f}notdefinedwall{mean:.3f}" in squeezed


def test_the_end_of_units_that_ask_for_each_budget_at_once_is_the_largest(tmp_path):
    def by_budget(unit, point, patient):
        return 0.01 * sum(unit.sizes)

    benchmark = made(tmp_path, config_of(budgets=[[10], [20], [40]], seeds=1), score=by_budget)
    squeezed = page(benchmark).text.replace(" ", "")
    assert "randomchamber0.400notdefined" in squeezed
    assert {row["samples"] for row in table(benchmark, "effort")} == {"40.0"}
    assert {row["total"] for row in table(benchmark, "effort")} == {"90.0"}


def test_the_seeds_that_every_arm_has_are_what_can_show_something(tmp_path):
    arms = [{"strategies": ["random"], "seeds": 6}, {"strategies": ["typiclust"], "seeds": 3}]
    assert "With 3 seeds and a paired t-test" in page(made(tmp_path, config_of(arms=arms))).text


def test_versions_and_code_that_differ_between_units_are_all_told(tmp_path):
    benchmark = made(tmp_path, config_of(budgets=[5], seeds=1))
    path = benchmark.jobs[0].home / "done.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "versions": {"python": "3.12"}, "code": "other"}))
    text = page(benchmark).text
    assert "python3.11, 3.12" in text
    assert "codec0de, other; other than what is installed now" in text.replace("code c0de", "codec0de")


# -- a benchmark that was played ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(made_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tiny benchmark, played; tests copy its folder before they change it."""
    from nextmask.benchmark.executors import in_this_process
    from nextmask.benchmark.units import make_benchmark, run_benchmark

    folder = tmp_path_factory.mktemp("real")
    shutil.copytree(made_study, folder, dirs_exist_ok=True)
    file = folder / "b.toml"
    file.write_text(
        'budgets = [3]\nsettings = {device = "cpu"}\nstudies.hearts.folder = "study"\n[[arms]]\nstrategies = ["random"]\n'
    )
    run_benchmark(make_benchmark(file), in_this_process)
    return file


def test_what_was_picked_is_shown_on_the_map_in_pictures_and_counted(real):
    benchmark = open_benchmark(real)
    found = page(benchmark)
    (done,) = (job.done for job in benchmark.jobs)
    asked = done["rounds"][0]["asked"]
    assert all(f"{name}, asked for in round 1" in found.text for name in asked)
    assert len(found.of_class("asked")) == 3
    alts = [attributes["alt"] for tag, attributes in found.tags if tag == "img"]
    assert {alt for alt in alts if not alt.startswith("mask of")} == set(asked)
    (row,) = table(benchmark, "coverage")
    study = benchmark.jobs[0].study
    assert float(row["patients"]) == len({name.split("_")[0] for name in asked})
    assert study.exists()
    assert sum(float(row[f"part_{part}"]) for part in range(1, 6)) == pytest.approx(1)
    assert 0 < float(row["class_chamber"]) <= 1


def test_the_pools_foreground_is_that_of_its_masks(real):
    benchmark = open_benchmark(real)
    found = picks_of(benchmark.jobs, [])
    study = Study(benchmark.jobs[0].study)
    masks = [read_mask(Path(case.mask))[0] for case in study.cohort.on("pool").cases]
    assert found.foreground == sum(int((mask > 0).sum()) for mask in masks) > 0


def test_masks_and_images_that_are_gone_are_said_to_be_and_the_rest_is_shown(real, tmp_path):
    shutil.copytree(real.parent, tmp_path, dirs_exist_ok=True)
    benchmark = open_benchmark(tmp_path / "b.toml")
    shutil.rmtree(benchmark.jobs[0].home / "masks")
    found = page(benchmark)
    assert "are not counted" in found.text
    assert "not known" in found.text
    assert "Cost, time and memory" in found.text
    for path in benchmark.jobs[0].home.iterdir():
        if path.name != "done.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert f"The folder of {benchmark.jobs[0].key} is gone" in page(benchmark).text
