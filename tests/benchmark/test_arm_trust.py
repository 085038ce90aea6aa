"""What came of predictions and of stopping: of units whose curves were made."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from tests.benchmark.made_benchmark import config_of, made, played
from tests.study.test_report_html import Page

from nextmask.benchmark.arm_trust import COLUMNS, trust_of, trust_rows
from nextmask.benchmark.report import write_benchmark_report
from nextmask.study.trust import ranking

BUDGETS = [10, 20, 30, 40, 50, 60]


def curves(folder: Path, score, **changes):
    """Units of one arm with two seeds, whose Dice at each point ``score(seed, point)`` gives."""
    config = config_of(**{"seeds": 2, "budgets": BUDGETS, "arms": [{"strategies": ["random"]}], **changes})
    return made(folder, config, patients=1, score=lambda unit, point, patient: score(unit.seed, point))


def flat(seed: int, point: int) -> float:
    return 0.8


def rising(seed: int, point: int) -> float:
    return 0.9 - 0.5 * 0.8**point


def test_a_unit_whose_curve_has_ended_stops_at_the_first_prediction(tmp_path):
    (found,) = trust_of(played(curves(tmp_path, flat)), margin=0.01)
    assert (found.predicted, found.held) == (6, 6)
    assert (found.stopped, found.units) == (2, 2)
    assert found.saved == pytest.approx(1 - 30 / 60)
    assert (found.lost, found.most_lost) == (0.0, 0.0)


def test_a_unit_that_still_rises_goes_on_to_its_end(tmp_path):
    (found,) = trust_of(played(curves(tmp_path, rising)), margin=0.01)
    assert (found.stopped, found.saved, found.lost) == (0, 0.0, 0.0)


def test_stopping_is_charged_what_came_after(tmp_path):
    """One seed stands still at first and jumps later, which no curve foretells; the other stays where it is."""
    later = [0.7, 0.7, 0.7, 0.7, 0.7, 0.95]
    (found,) = trust_of(played(curves(tmp_path, lambda seed, point: later[point] if seed else 0.7)), margin=0.01)
    assert found.most_lost == pytest.approx(0.25)
    assert found.lost == pytest.approx(0.125)
    assert found.predicted - found.held == 1


def test_a_larger_margin_stops_sooner(tmp_path):
    units = played(curves(tmp_path, rising))
    strict, loose = (trust_of(units, margin)[0] for margin in (0.001, 0.2))
    assert strict.saved < loose.saved
    assert loose.lost > 0


def test_too_few_rounds_judge_nothing(tmp_path):
    (found,) = trust_of(played(curves(tmp_path, flat, budgets=[10, 20, 30])), margin=0.01)
    assert (found.predicted, found.units, found.saved) == (0, 0, None)


def test_a_prediction_is_of_as_many_samples_as_came_and_sees_no_later_round(tmp_path):
    short = played(curves(tmp_path / "short", rising, budgets=[10, 20, 40, 80]))
    long = played(curves(tmp_path / "long", rising, budgets=[10, 20, 40, 80, 160]))
    rows, longer = ([*trust_rows(units[0])] for units in (short, long))
    assert rows[2]["next_samples"] == 40
    assert rows[2]["gain"] == longer[2]["gain"]
    assert rows[2]["came"] == pytest.approx(rising(0, 3) - rising(0, 2))
    assert rows[3].get("gain") is None
    assert "gain" not in rows[1]


def test_a_round_without_a_score_is_neither_predicted_nor_predicted_from(tmp_path):
    units = played(curves(tmp_path, lambda seed, point: np.nan if point == 3 else 0.8))
    (found,) = trust_of(units, margin=0.01)
    assert found.predicted == 2
    assert found.stopped == 2


def with_ranks(benchmark, patients: int = 8):
    """Write into every unit of a benchmark a ranking of each round: none in the first, perfect from the second on."""
    for job in benchmark.jobs:
        done = job.done
        for round in done["rounds"]:
            order = np.random.default_rng(0).permutation(patients) if round["round"] == 1 else np.arange(patients)
            cases = [
                {"patient": str(p), "dice": 0.9 - p / 20, "uncertainty": float(order[p]), "error_auroc": 0.8}
                for p in range(patients)
            ]
            round["trust"] = {"gain": None, "ranking": ranking(cases, "entropy"), "agreement": 0.9}
        (job.home / "done.json").write_text(json.dumps(done))
    return benchmark


def test_the_ranks_are_averaged_by_round_with_how_often_they_hold(tmp_path):
    (found,) = trust_of(played(with_ranks(curves(tmp_path, flat))), margin=0.01)
    assert [each.ranks for each in found.rounds] == [0, 2, 2, 2, 2, 2]
    assert found.rounds[1].rank == pytest.approx(1.0)
    assert abs(found.rounds[0].rank) < 0.8


def test_units_that_were_played_before_ranks_were_kept_have_none(tmp_path):
    (found,) = trust_of(played(curves(tmp_path, flat)), margin=0.01)
    assert {(each.rank, each.units) for each in found.rounds} == {(None, 0)}


def test_the_report_says_it_in_a_table_and_in_files(tmp_path):
    benchmark = with_ranks(curves(tmp_path, flat))
    page = Page(write_benchmark_report(benchmark).read_text(encoding="utf-8"))
    assert "When to stop, and whether to ask by uncertainty" in page.text
    assert re.search(r"random\s*6 of 6\s*2 of 2 units\s*50 %\s*\+0\.000\s*\+0\.000", page.text)
    assert "1.00 (2 of 2)" in page.text
    with (benchmark.folder / "report" / "trust.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["study", *COLUMNS]
    assert len(rows) == 2 * len(BUDGETS)
    assert rows[-1]["gain"] == rows[-1]["came"] == ""
    stopping = json.loads((benchmark.folder / "report" / "report.json").read_text())["stopping"]
    assert [(row["arm"], row["held"], row["stopped"]) for row in stopping] == [("random", 6, 2)]


def test_too_few_rounds_are_said_to_be(tmp_path):
    page = Page(write_benchmark_report(curves(tmp_path, flat, budgets=[10, 20])).read_text(encoding="utf-8"))
    assert page.text.count("too few rounds") == 2
