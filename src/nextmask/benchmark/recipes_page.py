"""One page of all recipes that were played in a folder: what each reached, with its own report a link away."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextmask.benchmark import arm_words as words
from nextmask.benchmark.recipes import recipes
from nextmask.data.files import write_text
from nextmask.study.report import page_of

HERE = Path(__file__).parent
MEASURES = {
    "aubc_samples": "mean Dice along the curve, over samples",
    "last": "Dice at the last budget that all arms have",
}
"""What an answer may rest on, by its name in comparisons.csv."""


@dataclass(frozen=True)
class Answer:
    """What came of one study: ``rows`` are arms as comparisons.csv has them, best first, of the measure that counts."""

    study: str
    text: str
    measure: str
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Played:
    """What came of one recipe."""

    name: str
    title: str
    done: int
    of: int
    drawn: bool
    answers: tuple[Answer, ...]


def write_recipes_page(folder: Path) -> Path:
    """Write index.html into the folder that recipes were played in, from the reports that lie there; return its path.

    A recipe that was not played there is left out, and so is a benchmark that is no recipe.
    """
    path = folder / "index.html"
    write_text(path, page_of(HERE / "recipes.html.jinja", {"recipes": list(_played(folder)), "words": words}))
    return path


def _played(folder: Path) -> Iterator[Played]:
    for name in sorted(recipes()):
        file, report = folder / f"{name}.toml", folder / name / "report" / "report.json"
        results = folder / name / "results.json"
        if file.exists() and report.exists() and results.exists():
            source = file.read_text(encoding="utf-8")
            told, count = (json.loads(path.read_text(encoding="utf-8")) for path in (report, results))
            drawn = any("synthetic" in study for study in tomllib.loads(source)["studies"].values())
            answers = tuple(_answer(study, told["comparisons"]) for study in told["studies"])
            yield Played(name, _title(source), count["done"], count["of"], drawn, answers)


def _title(source: str) -> str:
    """Return the first line of a recipe's comment."""
    first = source.partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _answer(study: Mapping[str, Any], comparisons: Sequence[Mapping[str, Any]]) -> Answer:
    """Take of a study the measure that its answer rests on, which comes first, and its rows."""
    own = [row for row in comparisons if row["study"] == study["study"]]
    measure = next((row["measure"] for row in own if row["measure"] in MEASURES), "")
    rows = tuple(row for row in own if row["measure"] == measure)
    return Answer(study["study"], study["answer"], MEASURES.get(measure, ""), rows)
