"""The command line: one command per verb of `Study`. Parse, call, print."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from nextmask.console import (
    err,
    following,
    open_study,
    out,
    print_benchmark,
    print_embedding,
    print_facts,
    print_left_out,
    print_problems,
    print_query,
    print_rounds,
    print_scores,
    print_simulations,
    print_trust,
    progress,
)
from nextmask.errors import NextmaskError

if TYPE_CHECKING:
    from nextmask.benchmark.units import Benchmark

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Which medical images to annotate first, and next; and how good a segmenter they train.",
)

StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="the study's folder")]
Option = Annotated[
    list[str] | None, typer.Option("--option", help="an option of the strategy, NAME=VALUE; may be repeated")
]


def main() -> None:
    """Run the command line; a mistake that the user can mend ends with one message and exit code 2."""
    try:
        app()
    except NextmaskError as error:
        err.print(f"[red bold]nextmask:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)


@app.command()
def new(
    study: StudyFolder,
    images: Annotated[str, typer.Option(help="a cases.csv, a folder, or a quoted glob")],
    classes: Annotated[str, typer.Option(help="names of the classes 1, 2, ... of a mask, separated by commas")],
    masks: Annotated[str | None, typer.Option(help="a folder of masks that pair with the images by name")] = None,
    scribbles: Annotated[
        str | None, typer.Option(help="a folder of scribbles that pair with the images by name")
    ] = None,
    unit: Annotated[str, typer.Option(help="what one sample is: whole, slice or box")] = "whole",
    box: Annotated[str | None, typer.Option(help="size of a box in voxels, Z,Y,X")] = None,
    box_stride: Annotated[
        str | None, typer.Option(help="voxels from one box to the next, Z,Y,X; boxes tile if left out")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="another name of a column, patient=subject_group; may be repeated")
    ] = None,
    mask_code: Annotated[
        list[str] | None, typer.Option(help="what a code in mask files means: 255=CLASS or 4=ignore")
    ] = None,
    scribble_code: Annotated[list[str] | None, typer.Option(help="the same for scribble files")] = None,
    supervision: Annotated[str, typer.Option(help="what is drawn: mask or scribble")] = "mask",
    split_by: Annotated[str, typer.Option(help="column whose values never land on two sides of the split")] = "patient",
    test_fraction: Annotated[float, typer.Option(help="share that is kept for testing")] = 0.2,
    encoder: Annotated[str, typer.Option(help="what strategies see of an image; see docs/encoders.md")] = "intensity",
    learner: Annotated[str, typer.Option(help="what is trained; see docs/learners.md")] = "unet",
    field_of_view: Annotated[
        float | None, typer.Option(help="share of both in-plane axes, around the centre, that is kept; 1 if left out")
    ] = None,
    iterations: Annotated[int | None, typer.Option(help="training steps a round; derived if not given")] = None,
    seed: Annotated[int, typer.Option(help="of everything that is drawn")] = 0,
) -> None:
    """Make a study from images: read every file once, split by patient, derive the preprocessing."""
    from nextmask.study.config import parse_config
    from nextmask.study.study import Study

    names = [name.strip() for name in classes.split(",")]
    values: dict[str, Any] = {
        "images": _relative(images, study),
        "masks": _relative(masks, study),
        "scribbles": _relative(scribbles, study),
        "columns": dict(_pairs(column, "--column")),
        "classes": names,
        "unit": unit,
        "box": _sizes(box),
        "box_stride": _sizes(box_stride),
        "mask_codes": _codes(mask_code, names, "--mask-code"),
        # The code above the last class is how scribble data sets write "not annotated"; it is written into study.toml.
        "scribble_codes": _codes(scribble_code, names, "--scribble-code") or {len(names) + 1: "ignore"},
        "supervision": supervision,
        "split_by": split_by,
        "test_fraction": test_fraction,
        "encoder": encoder,
        "learner": learner,
        "field_of_view": field_of_view,
        "iterations": iterations,
        "seed": seed,
    }
    with progress() as report:
        made = Study.create(study, parse_config(values, "the command line"), report=report)
    print_facts(made)
    print_left_out(made)
    out.print(f"Next: nextmask query {study} -n 20 --strategy typiclust", soft_wrap=True)


@app.command()
def check(study: StudyFolder, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """List everything that is wrong with the files, and what to do about each."""
    from nextmask.study.cohort import find_problems
    from nextmask.study.config import read_config

    with progress() as report:
        problems = find_problems(study, read_config(study), partial(report, "reading images"))
    if as_json:
        print(json.dumps([vars(problem) for problem in problems], indent=2))
    else:
        print_problems(problems)
        errors = sum(problem.severity == "error" for problem in problems)
        out.print(f"{errors} errors, {len(problems) - errors} warnings.")
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(1)


@app.command()
def query(
    study: StudyFolder,
    n: Annotated[int | None, typer.Option("-n", "--query-size", help="how many samples to ask for; default 20")] = None,
    minutes: Annotated[float | None, typer.Option(help="instead: minutes that annotating them may take")] = None,
    strategy: Annotated[str, typer.Option(help="how to choose them")] = "typiclust",
    per_patient: Annotated[int | None, typer.Option(help="most samples of one patient in this query")] = None,
    per_volume: Annotated[int | None, typer.Option(help="most samples of one case in this query")] = None,
    spacing: Annotated[
        int | None, typer.Option(help="fewest slices from one queried slice of a case to the next")
    ] = None,
    option: Option = None,
) -> None:
    """Choose the samples to annotate next, and write the worklist."""
    with open_study(study) as opened:
        asked = opened.query(
            20 if n is None and minutes is None else n,
            strategy,
            minutes=minutes,
            per_patient=per_patient,
            per_volume=per_volume,
            spacing=spacing,
            **_options(option),
        )
    print_query(opened, asked)
    out.print(f"Worklist: {study / asked.details['worklist']['path']}", soft_wrap=True)
    out.print(f"Next: draw the masks, then nextmask annotate {study} --from DIR", soft_wrap=True)


@app.command()
def embed(
    study: StudyFolder,
    encoder: Annotated[str | None, typer.Option(help="an encoder; the study's own if not given")] = None,
    on: Annotated[
        str, typer.Option(help="where images are described: local, or ray for the actors of a cluster")
    ] = "local",
    workers: Annotated[int, typer.Option(min=1, help="actors on the cluster")] = 2,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of each actor")] = 0,
) -> None:
    """Place every image of the pool, pretraining the encoder if it needs that; interrupt it, and it goes on."""
    if on not in ("local", "ray"):
        raise typer.BadParameter(f"--on {on}: expected local or ray")
    if on == "ray":
        from nextmask.benchmark.shards import embed_on_ray

        embed_on_ray(study, encoder, actors=workers, gpus=gpus)
    with open_study(study) as opened:
        embedding = opened.embed(encoder)
    print_embedding(embedding)
    out.print(f"Next: set encoder in {study}/study.toml, then nextmask query {study}", soft_wrap=True)


@app.command()
def annotate(
    study: StudyFolder,
    source: Annotated[Path | None, typer.Option("--from", help="folder of masks, named by sample or by case")] = None,
    replace: Annotated[bool, typer.Option(help="also take masks that correct earlier ones")] = False,
    untouched: Annotated[
        bool, typer.Option("--untouched", help="also take masks that are still as predict wrote them")
    ] = False,
    drop: Annotated[list[str] | None, typer.Option(help="give up a sample; may be repeated")] = None,
    because: Annotated[str, typer.Option(help="why the samples are given up")] = "",
    author: Annotated[str | None, typer.Option(help="who drew them")] = None,
) -> None:
    """Take in masks drawn elsewhere, each checked against its image's grid."""
    if (source is None) == (not drop):
        raise typer.BadParameter("give either --from DIR, or --drop SAMPLE --because WHY")
    with open_study(study) as opened:
        if drop:
            opened.drop(dict.fromkeys(drop, because or "no reason given"), author=author)
            out.print(f"Gave up {len(drop)} samples.")
            return
        assert source is not None
        result = opened.annotate(source, replace=replace, untouched=untouched, author=author)
    out.print(
        f"{len(result.stored)} masks taken in, {len(result.unchanged)} unchanged, {len(result.missing)} still missing, "
        f"{len(result.refused)} refused; {len(result.unused)} files in {source} belong to no open sample."
    )
    for name, why in result.refused.items():
        err.print(f"[red]refused[/] [bold]{escape(name)}[/]: {escape(why)}", soft_wrap=True)
    if result.outside:
        err.print(
            f"[yellow]Warning[/]: of what is drawn in {len(result.outside)} masks, up to {max(result.outside.values()):.0%} lies "
            "outside of what networks see, and will never be found. Make a study with a larger field_of_view.",
            soft_wrap=True,
        )
    if result.untouched:
        out.print(
            f"{len(result.untouched)} of the missing are still as they were predicted. Correct them and save them anew; "
            "those that need no correction are taken in with --untouched.",
            soft_wrap=True,
        )
    for name in result.missing[:10]:
        out.print(f"missing: {escape(name)}", soft_wrap=True)
    if result.refused:
        raise typer.Exit(2)
    if not result.missing:
        out.print(f"Next: nextmask train {study}", soft_wrap=True)


@app.command()
def train(
    study: StudyFolder,
    partial: Annotated[bool, typer.Option(help="train although some masks of the latest query are missing")] = False,
) -> None:
    """Train a new segmenter on all masks so far."""
    with open_study(study) as opened:
        done = opened.train(partial=partial)
    made = done.training
    steps = f" for {made['config']['iterations']} iterations" if "iterations" in made.get("config", {}) else ""
    out.print(
        f"Round {done.number}: {made['learner']} trained on {made['trained_on']} samples{steps} in {made['seconds']:.0f} s "
        f"on {made['device']}."
    )
    out.print(f"Next: nextmask evaluate {study}, or nextmask query {study}", soft_wrap=True)


@app.command()
def evaluate(study: StudyFolder) -> None:
    """Measure the latest segmenter on the test cases."""
    with open_study(study) as opened:
        done = opened.evaluate()
    print_scores(opened, done)
    out.print(f"All scores: {study / done.evaluation['path']}", soft_wrap=True)


@app.command()
def predict(
    study: StudyFolder,
    to: Annotated[Path, typer.Option(help="folder for the masks; what is there already stays")],
    what: Annotated[
        str, typer.Option("--of", help="query: samples whose masks are awaited; pool or test: all cases of it")
    ] = "query",
    images: Annotated[
        str | None, typer.Option(help="images that are not of the study: a table, folder or glob, as for new")
    ] = None,
) -> None:
    """Write masks as the latest segmenter sees them, to be corrected or to be used."""
    with open_study(study) as opened:
        done = opened.predict(to, what, images=images)
    out.print(f"{len(done.written)} masks written to {to}, {len(done.kept)} were there and stayed.", soft_wrap=True)
    for problem in done.problems:
        out.print(f"[red]not predicted[/] {escape(problem)}", soft_wrap=True)
    if done.problems:
        raise typer.Exit(1)
    if what == "query" and images is None:
        out.print(f"Next: correct them, then nextmask annotate {study} --from {to}", soft_wrap=True)


@app.command()
def show(study: StudyFolder, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Show the rounds, what comes next, and the Dice so far."""
    from nextmask.study.study import Study
    from nextmask.study.summary import summary

    opened = Study(study)
    if as_json:
        print(json.dumps(summary(opened), indent=2))
        return
    print_facts(opened)
    if opened.rounds:
        print_rounds(opened)
    for last in [round for round in opened.rounds if round.scores is not None][-1:]:
        print_trust(last)
    print_simulations(study)


@app.command()
def simulate(
    study: StudyFolder,
    strategy: Annotated[str, typer.Option(help="how to choose the samples")] = "typiclust",
    query_size: Annotated[int, typer.Option("-n", "--query-size", help="samples a round")] = 20,
    rounds: Annotated[int, typer.Option(help="how many rounds to play")] = 4,
    seed: Annotated[int, typer.Option(help="of the strategy and the training")] = 0,
    supervision: Annotated[
        str | None, typer.Option(help="what the oracle draws: mask, corrected, scribble or drawn_scribble")
    ] = None,
    reader_error: Annotated[
        float | None, typer.Option(help="how far it is off: 0 not at all, 1 as two readers differ")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="what strategies see of an image")] = None,
    iterations: Annotated[int | None, typer.Option(help="training steps a round")] = None,
    learner: Annotated[str | None, typer.Option(help="what is trained: unet or nnunet")] = None,
    option: Option = None,
) -> None:
    """Play rounds with an oracle that knows the masks; the study itself is not touched."""
    from nextmask.study.simulate import simulate as play

    given = {
        "supervision": supervision,
        "reader_error": reader_error,
        "encoder": encoder,
        "iterations": iterations,
        "learner": learner,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    with progress() as report:
        played = play(
            study,
            strategy=strategy,
            query_size=query_size,
            rounds=rounds,
            seed=seed,
            settings=settings,
            options=_options(option),
            report=report,
        )
    print_rounds(played)
    print_trust(played.rounds[-1])
    out.print(f"Simulation: {played.folder}", soft_wrap=True)


@app.command()
def benchmark(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="the benchmark's TOML file; see docs/benchmark.md")],
    folder: Annotated[Path | None, typer.Option(help="where it lies; beside the file if not given")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="processes side by side; one a core, or one if they use a GPU; 0: only this one"),
    ] = None,
    on: Annotated[str, typer.Option(help="where units run: local, ray or slurm")] = "local",
    status: Annotated[bool, typer.Option("--status", help="only show where it stands")] = False,
    only_report: Annotated[
        bool, typer.Option("--report", help="play nothing; write the report of the units that are done")
    ] = False,
) -> None:
    """Play many simulated studies; interrupt it, and the same command goes on. Writes results.csv and report.html."""
    from nextmask.benchmark.standing import refuse_empty
    from nextmask.benchmark.units import open_benchmark

    if status:
        print_benchmark(open_benchmark(file, folder), workers or 1)
        return
    if only_report:
        made = open_benchmark(file, folder)
        refuse_empty(made)
        _report_benchmark(made)
        return
    _play(file, folder, workers, on)


@app.command()
def recipe(
    name: Annotated[str, typer.Argument(help="of the published system; see docs/recipes.md")],
    data: Annotated[Path, typer.Option(help="the folder that holds the images that the recipe names")],
    folder: Annotated[Path, typer.Option(help="where the benchmark goes")] = Path("recipes"),
    workers: Annotated[int | None, typer.Option(min=0, help="processes side by side")] = None,
    on: Annotated[str, typer.Option(help="where units run: local, ray or slurm")] = "local",
) -> None:
    """Play a published system as a benchmark; on drawn patients where its images are not there."""
    from nextmask.benchmark.recipes import fill_in
    from nextmask.benchmark.recipes_page import write_recipes_page

    file, drawn = fill_in(name, data, folder)
    if drawn:
        out.print(f"[bold]Drawn patients[/] stand in for {', '.join(drawn)}: its images are not in {data}.")
    try:
        _play(file, None, workers, on)
    finally:
        out.print(f"All recipes: {write_recipes_page(folder)}", soft_wrap=True)


def _play(file: Path, folder: Path | None, workers: int | None, on: str) -> None:
    """Play what is missing of a benchmark, and write its tables."""
    from nextmask.benchmark.executors import choose_executor, usual_workers
    from nextmask.benchmark.units import devices, make_benchmark, run_benchmark

    with progress() as report:
        made = make_benchmark(file, folder, report)
    config = made.config
    if workers is None:
        workers = usual_workers(config.threads, devices(made))
    executor = choose_executor(
        on, workers=workers, threads=config.threads, gpus=config.gpus, folder=made.folder, slurm=config.slurm
    )
    try:
        with following(made, max(workers, 1)) as ended:
            run_benchmark(made, executor, ended)
    finally:
        _report_benchmark(made)
    failed = print_benchmark(made, max(workers, 1))
    out.print(f"Results: {made.folder / 'results.csv'}", soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def _report_benchmark(made: Benchmark) -> None:
    from nextmask.benchmark.report import write_benchmark_report

    out.print(f"Report: {write_benchmark_report(made)}", soft_wrap=True)


@app.command()
def report(
    study: StudyFolder,
    to: Annotated[Path | None, typer.Option(help="where to write it")] = None,
    layout: Annotated[str, typer.Option("--map", help="how to place the pool on its map: pca or tsne")] = "pca",
) -> None:
    """Write one self-contained HTML file: curves, queried samples, scores, and what was derived."""
    from nextmask.study.study import Study
    from nextmask.study.summary import write_report

    if layout not in ("pca", "tsne"):
        raise typer.BadParameter(f"--map {layout}: expected pca or tsne")
    path = write_report(Study(study), to, layout="tsne" if layout == "tsne" else "pca")
    out.print(f"Report: {path}", soft_wrap=True)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="where to put the patients and the study")] = Path("demo"),
) -> None:
    """Draw synthetic patients, simulate a study on them, and write its report; needs no network and no data."""
    from nextmask.study.demo import run_demo

    with progress() as told:
        played, path = run_demo(folder, told)
    print_rounds(played)
    out.print(f"Report: {path.resolve()}", soft_wrap=True)


# -- parsing -----------------------------------------------------------------------------------------------------------


def _relative(path: str | None, study: Path) -> str | None:
    import os

    return None if path is None else os.path.relpath(path, study)


def _sizes(text: str | None) -> list[int] | None:
    return None if text is None else [int(n) for n in text.split(",")]


def _pairs(texts: list[str] | None, flag: str) -> Iterator[tuple[str, str]]:
    for text in texts or []:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise typer.BadParameter(f"{flag} {text!r}: expected NAME=VALUE")
        yield name.strip(), value.strip()


def _codes(texts: list[str] | None, classes: list[str], flag: str) -> dict[int, int | str]:
    """Read 255=lv (a class by name), 255=1 (by number) or 4=ignore."""
    meaning: dict[str, int | str] = {name: number for number, name in enumerate(classes, start=1)}
    codes: dict[int, int | str] = {}
    for code, value in _pairs(texts, flag):
        known = meaning.get(value, "ignore" if value == "ignore" else 0 if value == "background" else None)
        if not code.lstrip("-").isdigit() or (known is None and not value.isdigit()):
            raise typer.BadParameter(f"{flag} {code}={value}: expected CODE=CLASS, CODE=background or CODE=ignore")
        codes[int(code)] = int(value) if known is None else known
    return codes


def _options(texts: list[str] | None) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in _pairs(texts, "--option"):
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


if __name__ == "__main__":
    main()
