"""What the command line prints: facts, tables, problems, progress."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

if TYPE_CHECKING:
    from nextmask.benchmark.units import Benchmark, Job
    from nextmask.data.scan import Problem
    from nextmask.study.embeddings import Embedding
    from nextmask.study.rounds import Round
    from nextmask.study.study import Report, Study

WIDE = 200
"""Columns of a file or pipe, which has none of its own: names of arms are long, and few tables fit into 80."""


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, emoji=False)  # else hu:100:150 would show a picture
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    return console


out, err = _console(stderr=False), _console(stderr=True)


@contextmanager
def open_study(folder: Path) -> Iterator[Study]:
    """Open a study that shows what it is doing."""
    from nextmask.study.study import Study

    with progress() as report:
        yield Study(folder, report=report)


@contextmanager
def progress() -> Iterator[Report]:
    """Show a bar for each kind of work; lines instead of bars where the output is no terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as shown:
        bars: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = shown.add_task(what, total=total)
            shown.update(bars[what], completed=done, total=total)
            if done == total and not err.is_terminal:
                err.print(f"{what}: {done}/{total}")

        try:
            yield report
        except KeyboardInterrupt:
            shown.stop()
            err.print("Interrupted. Nothing is lost: the same command goes on from here.")
            raise


def print_facts(study: Study) -> None:
    """Print what a study is and where it stands."""
    from nextmask.study.summary import facts

    table = Table(show_header=False, box=None)
    for name, value in facts(study).items():
        table.add_row(f"[bold]{escape(name)}[/]", escape(value))
    out.print(table)


def print_embedding(embedding: Embedding) -> None:
    """Print where a pool was placed, and by what."""
    samples, dims = embedding.array.shape
    weights = embedding.used["segmenter"]
    made = f", weights {weights[:12]}" if weights else ""
    out.print(f"{samples} samples in {dims} dimensions by encoder {escape(embedding.used['encoder'])}{made}.")
    if embedding.used["encoder"] != embedding.used["wanted"]:
        out.print(f"There is no segmenter yet for encoder {escape(embedding.used['wanted'])}: train a round first.")


def print_query(study: Study, round: Round) -> None:
    """Print what a round asks for, and why."""
    cost = f", about {round.details['cost']:.0f} minutes" if "cost" in round.details else ""
    title = f"Round {round.number}: {len(round.samples)} samples by {round.strategy}{cost}"
    table = Table("", "sample", "patient", "why", title=title)
    for place, (name, why) in enumerate(zip(round.samples, round.reasons, strict=True), start=1):
        patient = study.pool.case_of(study.pool.row_of[name]).patient
        table.add_row(str(place), escape(name), escape(patient), escape(why))
    out.print(table)


def print_rounds(study: Study) -> None:
    """Print the rounds of a study with their Dice."""
    from nextmask.study.rounds import labeled_after

    columns = ("round", "labeled", "strategy", "next", *map(escape, study.config.classes), "mean")
    table = Table(*columns, title="Dice on the test cases")
    for each, labeled in zip(study.rounds, labeled_after(study.rounds), strict=True):
        table.add_row(str(each.number), str(labeled), each.strategy, each.stage, *dice_cells(study, each))
    out.print(table)


def print_simulations(folder: Path) -> None:
    """Print how far each simulation of a study came."""
    from nextmask.study.rounds import labeled_after, mean_dice
    from nextmask.study.simulate import simulations

    played = simulations(folder)
    if not played:
        return
    table = Table("simulation", "rounds", "labeled", "mean Dice", title="Simulations")
    for each in played:
        rounds = [round for round in each.rounds if round.scores is not None]
        labeled = str(labeled_after(rounds)[-1]) if rounds else "–"
        table.add_row(
            escape(each.folder.name), str(len(rounds)), labeled, number(mean_dice(rounds[-1]) if rounds else None)
        )
    out.print(table)


@contextmanager
def following(benchmark: Benchmark, workers: int) -> Iterator[Callable[[Job, BaseException | None], None]]:
    """Show where a benchmark stands while it runs; a line for each unit that ends where the output is no terminal."""
    from rich.live import Live

    started = time.monotonic()

    def line(job: Job, error: BaseException | None) -> None:
        err.print(f"{job.key}: {'done' if error is None else f'failed: {escape(str(error))}'}", soft_wrap=True)

    def now() -> Table:
        return benchmark_table(benchmark, workers, time.monotonic() - started)

    try:
        if not err.is_terminal:
            yield line
            return
        with Live(console=err, refresh_per_second=1, get_renderable=now, transient=True):
            yield lambda job, error: None
    except KeyboardInterrupt:
        err.print("Interrupted. Nothing is lost: the same command goes on from here.")
        raise


def print_benchmark(benchmark: Benchmark, workers: int) -> int:
    """Print where a benchmark stands, and why units failed; return how many did."""
    from nextmask.benchmark.standing import by_other_code, failed, left_out

    out.print(benchmark_table(benchmark, workers))
    if unasked := left_out(benchmark):
        out.print(
            f"{unasked} units in this folder are of no arm of this file, or of another version, and are left out."
        )
    others = by_other_code(benchmark)
    if others:
        out.print(
            f"{others} units were played by other code of the same release; delete their folders to play them anew."
        )
    failures = failed(benchmark)
    for job, why in failures:
        out.print(f"[red]failed[/] [bold]{job.key}[/]: {escape(why)}", soft_wrap=True)
    return len(failures)


def benchmark_table(benchmark: Benchmark, workers: int, elapsed: float | None = None) -> Table:
    """Lay out how many units of each arm are done, running, failed and waiting, and how long that takes."""
    from nextmask.benchmark.standing import STATES, standing, together

    rows = standing(benchmark)
    names = [Column(name, overflow="fold") for name in ("study", "arm")]  # two arms may differ in their last letters
    table = Table(*names, *STATES, "spent", "to go", title=f"Units of {escape(str(benchmark.folder))}")
    total = together(rows)
    for row in (*rows, total):
        name = ("all", "") if row is total else (row.study, row.arm)
        left = duration(None if row.left is None else row.left / workers)
        counts = [str(row.counts[state]) for state in STATES]
        table.add_row(*map(escape, name), *counts, duration(row.seconds), left, end_section=row is rows[-1])
    table.caption = f"spent: by all workers together; to go: by estimate, with {workers} side by side"
    if elapsed is not None:
        table.caption += f"; this run: {duration(elapsed)}"
    return table


def duration(seconds: float | None) -> str:
    """Write seconds as hours, minutes and seconds; what is not known as a dash."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def dice_cells(study: Study, round: Round) -> list[str]:
    from nextmask.study.rounds import mean_dice

    if round.scores is None:
        return ["–"] * (len(study.config.classes) + 1)
    values = [round.scores[name]["dice"] for name in study.config.classes]
    return [number(value) for value in (*values, mean_dice(round))]


def print_scores(study: Study, round: Round) -> None:
    """Print all metrics of one round by class, and what they say of going on."""
    assert round.scores is not None
    known = any(scores["hd95"] is not None for scores in round.scores.values())
    columns = {"dice": "Dice", **({"hd95": "HD95 mm", "nsd": "NSD", "assd": "ASSD mm"} if known else {})}
    table = Table("class", *columns.values(), title=f"Round {round.number}: {round.evaluation['cases']} test cases")
    for name in study.config.classes:
        table.add_row(escape(name), *(number(round.scores[name][metric]) for metric in columns))
    out.print(table)
    if not known:
        out.print("The spacing of the images is unknown, so no distance in mm is given.")
    print_trust(round)


def print_trust(round: Round) -> None:
    """Print whether to go on after a round, and whether to ask by uncertainty."""
    from nextmask.study.trust import in_words

    for line in in_words(round.evaluation):
        out.print(f"[yellow]{escape(line)}[/]" if line.startswith("Warning") else escape(line), soft_wrap=True)


def number(value: float | None) -> str:
    """Write a number with three digits, and what is not defined as a dash."""
    return "–" if value is None else f"{value:.3f}"


def print_problems(problems: Sequence[Problem]) -> None:
    """Print every problem; those that differ only in where they are stand together."""
    groups: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in sorted(problems, key=lambda problem: problem.severity):
        groups.setdefault((problem.severity, problem.kind, problem.remedy), []).append(problem)
    for (severity, kind, remedy), same in groups.items():
        colour = "red" if severity == "error" else "yellow"
        places = ", ".join(problem.where for problem in same)
        count = f" in {len(same)} places" if len(same) > 1 else ""
        out.print(f"[{colour}]{severity}[/] [bold]{kind}[/]{count}: {escape(same[0].message)}", soft_wrap=True)
        out.print(f"    where: {escape(places)}", soft_wrap=True)
        out.print(f"    to do: {escape(remedy)}", soft_wrap=True)


def print_left_out(study: Study) -> None:
    """Print every error at once, because what it spoils is not in the study; of warnings only how many there are."""
    from nextmask.study.cohort import find_problems

    problems = find_problems(study.folder, study.config)
    errors = [problem for problem in problems if problem.severity == "error"]
    print_problems(errors)
    if errors:
        out.print(f"What the {len(errors)} errors spoil is left out of this study: mend the files and make it anew.")
    if len(problems) > len(errors):
        out.print(f"{len(problems) - len(errors)} warnings: nextmask check {study.folder}", soft_wrap=True)
    if not problems:
        out.print("No problems were found in the files.")
