"""The numbers of docs/statistics.md are those that the code gives, and what it shows can be run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nextmask import statistics

TEXT = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")


def test_the_table_of_seeds_is_what_the_code_computes():
    comparisons = [int(n) for n in re.findall(r"(\d+) comparisons? \|", TEXT)]
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 7
    for seeds, *smallest in rows:
        found = [statistics.smallest_effect(int(seeds), each) for each in comparisons]
        assert [float(each) for each in smallest] == pytest.approx(found, abs=0.006)


def test_the_examples_run_as_they_are_written(capsys):
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "docs/statistics.md", "exec"), {})
    said, *rows = capsys.readouterr().out.splitlines()
    assert said.startswith("With 4 seeds and paired t-tests")
    assert [row.split()[0] for row in rows] == ["typiclust", "random"]
    assert rows[0].endswith("better a")


def test_every_function_it_names_is_there():
    named = set(re.findall(r"`([a-z_]{4,})`", TEXT)) - {"at_once", "told_apart"}
    assert named <= set(statistics.__all__)
    assert {"compare", "plan", "penalty_matrix", "area_under_budget_curve"} <= named
