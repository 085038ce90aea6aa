"""Simulated studies on the real images of a data folder; resumable; writes real_runs.csv and the tables of real_runs.md.

    python benchmarks/real_runs.py DATA RUNS [--only acdc-mask] [--seeds 0]

DATA is a folder with acdc/, hippocampus/, sunnybrook/ and skin/; RUNS is where the studies go. Nothing was tuned on a test
case: training settings were chosen on ACDC patients 001 to 050, so ACDC is tested on later ones only; on the other data sets
nothing was chosen at all, and their test patients are drawn by the study. Interrupt it as you like: the same command goes
on where it was. Two of these may run side by side on different entries.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nextmask.errors import StudyError
from nextmask.study.config import FILE, parse_config
from nextmask.study.rounds import labeled_after, mean_dice
from nextmask.study.simulate import simulate, simulations
from nextmask.study.study import Study

HERE = Path(__file__).parent
MARKS = ("<!-- tables: written by real_runs.py -->", "<!-- end of tables -->")


@dataclass(frozen=True)
class Entry:
    """One data set with the strategies to play on it."""

    study: str
    settings: dict[str, Any]
    strategies: tuple[str, ...]
    query_size: int
    rounds: int
    changes: dict[str, Any] = field(default_factory=dict)


ACDC = {"images": "acdc/cases.csv", "unit": "slice", "classes": ["rv", "myo", "lv"], "scribble_codes": {"4": "ignore"}}
HIPPOCAMPUS = {
    "images": "hippocampus/cases.csv",
    "classes": ["anterior", "posterior"],
    "columns": {"patient": "subject_group"},
}
SUNNYBROOK = {"images": "sunnybrook/cases.csv", "classes": ["lv"], "mask_codes": {"255": 1}}
SKIN = {"images": "skin/cases.csv", "classes": ["lesion"], "mask_codes": {"255": 1}, "test_fraction": 0.3}

ENTRIES = {
    "acdc-mask": Entry("acdc", ACDC, ("random", "typiclust"), 18, 4),
    "acdc-scribble": Entry("acdc", ACDC, ("random", "typiclust"), 18, 4, {"supervision": "scribble"}),
    "hippocampus": Entry("hippocampus", HIPPOCAMPUS, ("random", "k_center"), 5, 3),
    "sunnybrook": Entry("sunnybrook", SUNNYBROOK, ("random", "typiclust"), 10, 3),
    "skin": Entry("skin", SKIN, ("random", "k_center"), 5, 3),
}


def main() -> None:
    """Play what is missing, then write the table of all that has been played."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--only", choices=ENTRIES, action="append")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--table", action="store_true", help="play nothing, write the table of what was played")
    wanted = parser.parse_args()
    for seed in [] if wanted.table else wanted.seeds:
        for name in wanted.only or ENTRIES:
            for strategy in ENTRIES[name].strategies:
                played = play(wanted.data, wanted.runs, ENTRIES[name], strategy, seed)
                print(name, strategy, seed, [mean_dice(round) for round in played.rounds], flush=True)
    write_table(wanted.runs)


def play(data: Path, runs: Path, entry: Entry, strategy: str, seed: int) -> Study:
    """Play one simulation to its end."""
    images = acdc_table(data, runs) if entry.study == "acdc" else data / entry.settings["images"]
    home = make_study(runs / entry.study, {**entry.settings, "images": str(images.resolve())})
    return simulate(
        home,
        strategy=strategy,
        query_size=entry.query_size,
        rounds=entry.rounds,
        seed=seed,
        settings=entry.changes,
        report=tell,
    )


def acdc_table(data: Path, runs: Path) -> Path:
    """Write ACDC's table with three test patients of each group that no setting was chosen on (numbers above 050).

    patient074 and patient076 are one exam read twice; both stay in the pool.
    """
    with (data / "acdc" / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    untouched = sorted({(row["group"], row["patient_id"]) for row in rows if row["patient_id"] > "patient050"})
    untouched = [one for one in untouched if one[1] not in ("patient074", "patient076")]
    rng, test = np.random.default_rng(0), set()
    for group in sorted({group for group, _ in untouched}):
        test |= set(rng.permutation([patient for own, patient in untouched if own == group])[:3].tolist())
    for row in rows:
        row["split"] = "test" if row["patient_id"] in test else "pool"
        row |= {name: str((data / "acdc" / row[name]).resolve()) for name in ("image", "mask", "scribble")}
    path = runs / "acdc.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_study(home: Path, settings: dict[str, Any]) -> Path:
    """Make the study of a data set, or find it made."""
    if (home / FILE).exists():
        try:
            return Study(home).folder
        except StudyError:
            pass
    Study.create(home, parse_config(settings))
    return home


def tell(what: str, done: int, total: int) -> None:
    """Print that a piece of work is done."""
    if done == total:
        print(f"  {what}: {total}", flush=True)


def write_table(runs: Path) -> None:
    """Write every round that was played as CSV, and the tables of real_runs.md between their marks."""
    rows = [row for name, entry in ENTRIES.items() for row in rows_of(runs / entry.study, name, entry)]
    with (HERE / "real_runs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    path = HERE / "real_runs.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    tables = "\n".join(table_of(name, [row for row in rows if row["entry"] == name]) for name in ENTRIES)
    path.write_text(f"{before}{MARKS[0]}\n\n{tables}\n{MARKS[1]}{after}", encoding="utf-8")


def table_of(name: str, rows: list[dict[str, Any]]) -> str:
    """Write one entry's simulations, a line each: mean Dice after each round, and the last round's classes."""
    if not rows:
        return f"### {name}\n\nNot run yet.\n"
    counts = sorted({row["labeled"] for row in rows})
    classes = " / ".join(ENTRIES[name].settings["classes"])
    known = any(row["hd95"] for row in rows)
    head = ["strategy", "seed", *(f"{n} labeled" for n in counts), f"last: {classes}", *(["HD95 mm"] if known else [])]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for strategy, seed in sorted({(row["strategy"], row["seed"]) for row in rows}, key=str):
        own = {row["labeled"]: row for row in rows if (row["strategy"], row["seed"]) == (strategy, seed)}
        last = own[max(own)]
        cells = [
            strategy,
            str(seed),
            *(own[n]["mean_dice"] if n in own else "" for n in counts),
            last["dice"].replace(" ", " / "),
        ]
        lines.append("| " + " | ".join([*cells, *([last["hd95"].replace(" ", " / ")] if known else [])]) + " |")
    seconds = [float(row["seconds"]) for row in rows]
    said = (
        f"{rows[0]['test_cases']} test cases, {rows[0]['iterations']} iterations a round, "
        f"{min(seconds):.0f} to {max(seconds):.0f} s each."
    )
    return "\n".join([f"### {name}", "", *lines, "", said, ""])


def rows_of(home: Path, name: str, entry: Entry) -> list[dict[str, Any]]:
    """List the rounds of one entry's simulations."""
    suffix = "".join(f"-{key}={value}" for key, value in entry.changes.items())
    rows = []
    for study in simulations(home):
        strategy, _, rest = study.folder.name.partition(f"-n{entry.query_size}-seed")
        if strategy in entry.strategies and rest.partition("-")[2] == suffix.lstrip("-"):
            for round, labeled in zip(study.rounds, labeled_after(study.rounds), strict=True):
                if round.scores is not None:
                    rows.append(row_of(name, study, round, labeled))
    return rows


def row_of(name: str, study: Study, round: Any, labeled: int) -> dict[str, Any]:
    """One line of the table; scores of several classes stand in one cell, in the order of the classes."""
    # By name: the ledger's JSON sorts its keys, so the order of round.scores is the alphabet's, not the study's.
    known = {m: [round.scores[name][m] for name in study.config.classes] for m in ("dice", "hd95", "nsd", "assd")}
    cells = {
        metric: " ".join("" if value is None else f"{value:.3f}" for value in values)
        for metric, values in known.items()
    }
    return {
        "entry": name,
        "strategy": round.strategy,
        "seed": study.config.seed,
        "round": round.number,
        "labeled": labeled,
        "share": f"{labeled / len(study.pool):.3f}",
        "mean_dice": f"{mean_dice(round):.3f}",
        **{f"{metric}": cell.strip() for metric, cell in cells.items()},
        "test_cases": round.evaluation["cases"],
        "iterations": round.training["config"]["iterations"],
        "seconds": round.training["seconds"],
    }


if __name__ == "__main__":
    main()
