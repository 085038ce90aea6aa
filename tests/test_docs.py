"""What the documents say is run, and what there is is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from nextmask.cli import app
from nextmask.selection.types import EVIDENCE
from nextmask.study.config import StudyConfig

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
    for name in ("README.md", "docs/one-round.md", "docs/log.md", "benchmarks/real_runs.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text()):
            assert ((ROOT / name).parent / link).exists(), f"{name}: {link}"
