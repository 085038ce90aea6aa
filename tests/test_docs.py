"""What the documents say is run, and what there is is documented."""

from __future__ import annotations

import re
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import typer

from nextmask.benchmark.grid import Arm, BenchmarkConfig, units
from nextmask.benchmark.results import OF_CASE, OF_ROUND, OF_UNIT
from nextmask.cli import app
from nextmask.features.encoders import ENCODERS
from nextmask.selection import STRATEGIES
from nextmask.selection.types import EVIDENCE
from nextmask.study.config import StudyConfig
from nextmask.study.evaluation import METRICS
from nextmask.study.learners import LEARNERS

ROOT = Path(__file__).parent.parent


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


def test_one_round_runs_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks("docs/one-round.md", "python"):
        exec(compile(block, "docs/one-round.md", "exec"), names)


def test_the_readme_names_every_command_of_the_command_line():
    text = (ROOT / "README.md").read_text()
    commands = typer.main.get_command(app).commands
    shown = {
        name
        for block in re.findall(r"```\n(.*?)```", text, re.DOTALL)
        for name in re.findall(r"^nextmask (\w+)", block, re.M)
    }
    assert shown == set(commands) - {"demo"}
    assert "make demo" in text


def test_the_curve_that_trust_shows_runs_as_it_is_written(capsys):
    (block,) = blocks("docs/trust.md", "python")
    exec(compile(block, "docs/trust.md", "exec"), {})
    assert re.fullmatch(r"0\.0\d\d \(0\.0\d\d to 0\.0\d\d\)\nFalse\n", capsys.readouterr().out)


def test_every_command_and_option_explains_itself():
    for name, command in typer.main.get_command(app).commands.items():
        assert command.help, name
        for parameter in command.params:
            if getattr(parameter, "help", None) is None and parameter.name not in ("help",):
                assert parameter.name in ("as_json", "option"), f"{name} {parameter.name}"


def test_every_setting_of_a_study_has_a_description():
    assert all(field.description for field in StudyConfig.model_fields.values())


@pytest.mark.parametrize(
    "word", ["case", "sample", "pool", "labeled", "mask", "query", "round", "ledger", "study", "evidence"]
)
def test_the_glossary_has_the_words_of_the_code(word):
    assert re.search(rf"^\| {word} ", (ROOT / "GLOSSARY.md").read_text(), re.MULTILINE)


def test_every_kind_of_evidence_says_what_it_is():
    assert all(evidence.meaning for evidence in EVIDENCE.values())


def test_documents_name_only_files_that_are_there():
    for name in (
        "README.md",
        "docs/one-round.md",
        "docs/learners.md",
        "docs/oracles.md",
        "docs/log.md",
        "docs/trust.md",
        "benchmarks/real_runs.md",
    ):
        for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text()):
            assert ((ROOT / name).parent / link).exists(), f"{name}: {link}"


@pytest.fixture(scope="module")
def make_strategies():
    spec = spec_from_file_location("make_strategies", ROOT / "docs" / "make_strategies.py")
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_list_of_strategies_says_what_their_docstrings_say(make_strategies):
    written = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    # Not asserted on the texts themselves: a difference of a thousand lines helps nobody.
    same = written == make_strategies.document()
    assert same, "docs/strategies.md is out of date: run python docs/make_strategies.py"


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_says_whence_when_and_at_what_cost(name, make_strategies):
    said = set(
        re.findall(r"^(\w+): ", make_strategies.text_of(make_strategies.unwrapped(STRATEGIES[name])), re.MULTILINE)
    )
    assert {"Source", "Use", "Cost"} <= said
    assert said & {"Faithful", "Adapted"}


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_has_its_entry(name, make_strategies):
    text = make_strategies.document()
    assert f"| [{name}](#{name}) |" in text
    assert f"\n### {name}\n" in text


def test_the_list_of_strategies_links_to_what_is_there():
    text = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^#+ (.*)$", text, re.MULTILINE))
    for link in re.findall(r"\]\(([^):]+)\)", text):
        assert link[1:] in headings if link.startswith("#") else (ROOT / "docs" / link).exists(), link


def test_every_key_of_a_benchmark_is_explained_and_every_column_named():
    text = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    keys = {
        key for row in re.findall(r"^\| (`.*?) \| (?:top|both|arm) \|", text, re.MULTILINE) for key in row.split(", ")
    }
    assert {key.strip("`") for key in keys} == {*BenchmarkConfig.model_fields, *Arm.model_fields}
    assert all(field.description for model in (BenchmarkConfig, Arm) for field in model.model_fields.values())
    assert all(f"`{name}`" in text for name in (*OF_UNIT, *OF_ROUND, *OF_CASE, "class", *METRICS))
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / "docs" / link).exists(), link


def test_the_benchmark_that_is_shown_is_in_order():
    (block,) = blocks("docs/benchmark.md", "toml")
    found = units(BenchmarkConfig.model_validate(tomllib.loads(block)))
    assert len(found) == 2 * 10 + 2 * 2 * 3 + 2 * 2 * 3


def test_every_encoder_and_its_options_are_listed():
    text = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) == set(ENCODERS)
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / "docs" / link).exists(), link


def test_every_learner_is_listed():
    text = (ROOT / "docs" / "learners.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) == set(LEARNERS)
