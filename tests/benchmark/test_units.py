"""A benchmark: every unit once, whatever happens; results that depend on nothing else."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from filelock import FileLock

from nextmask.benchmark import standing as standing_module
from nextmask.benchmark import units as module
from nextmask.benchmark.executors import in_this_process
from nextmask.benchmark.standing import by_other_code, failed, standing, together
from nextmask.benchmark.units import Benchmark, make_benchmark, open_benchmark, run_benchmark
from nextmask.errors import StudyError
from nextmask.study.cost import estimated_minutes
from nextmask.study.study import Study
from nextmask.training import several

TIMES = ("select_seconds", "train_seconds", "evaluate_seconds", "shared", "peak_mb")
"""What may differ between two runs of the same benchmark."""
FILE = """
budgets = [2, 5]
settings = {device = "cpu"}
studies.hearts.folder = "study"
[[arms]]
strategies = ["random"]
[[arms]]
strategies = ["most_uncertain"]
first = "random"
"""
ARM = '[[arms]]\nname = "two at a time"\nstrategies = ["random"]\nquery_sizes = [2]\nrounds = 1\n'
BROKEN = '[[arms]]\nstrategies = ["k_center"]\noptions = {first = "nonsense"}\n'


@pytest.fixture
def file(home: Path) -> Path:
    """The file of a benchmark on a study that is there."""
    path = home.parent / "b.toml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def played(made_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same benchmark, played to its end; not to be changed."""
    folder = tmp_path_factory.mktemp("played")
    shutil.copytree(made_study, folder, dirs_exist_ok=True)
    (folder / "b.toml").write_text(FILE)
    play(folder / "b.toml")
    return folder / "b.toml"


@pytest.fixture
def trainings(monkeypatch):
    """A list that grows by the seed of each training that is done."""
    done, real = [], several.fit

    def counted(*args, **options):
        done.append(tuple(options["seed"]))
        return real(*args, **options)

    monkeypatch.setattr(several, "fit", counted)
    return done


def play(file: Path) -> Benchmark:
    made = make_benchmark(file)
    run_benchmark(made, in_this_process)
    return open_benchmark(file)


def counts(benchmark: Benchmark) -> dict[str, int]:
    return {state: n for state, n in together(standing(benchmark)).counts.items() if n}


def rows(file: Path, name: str = "results.csv") -> list[dict[str, str]]:
    return table_of(file.with_suffix("") / name)


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))


def lasting(file: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows(file)]


def test_every_unit_is_played_and_equal_first_rounds_are_trained_once(file, trainings):
    done = play(file)
    assert counts(done) == {"done": 2}
    assert Counter(trainings) == {(0, 1): 1, (0, 2): 2}
    assert play(file).jobs == done.jobs
    assert len(trainings) == 3


def test_the_table_has_a_row_for_each_round_case_and_class(played):
    found = rows(played)
    study = Study(played.parent / "study")
    cases = [case.id for case in study.cohort.on("test").cases]
    keys = [tuple(row[name] for name in ("arm", "round", "case", "class")) for row in found]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {
        (arm, round, case, label)
        for arm in ("random", "most_uncertain first=random")
        for round in "12"
        for case in cases
        for label in study.config.classes
    }
    assert [row["samples"] for row in found if row["round"] == "2"] == ["5"] * (len(found) // 2)
    patients = {case.id: (case.patient, case.group) for case in study.cohort.cases}
    assert all((row["patient"], row["group"]) == patients[row["case"]] for row in found)


def test_the_table_says_what_the_units_ledgers_say(played):
    found = rows(played)
    for job in open_benchmark(played).jobs:
        study = Study(job.home)
        for round in study.rounds:
            own = [row for row in found if row["unit"] == job.key and row["round"] == str(round.number)]
            scored = table_of(study.folder / round.evaluation["path"])
            assert [[row[name] for name in scored[0]] for row in own] == [list(line.values()) for line in scored]
            drawn = [mask for each in study.rounds[: round.number] for mask in each.masks.values()]
            foreground = sum(int((mask_of(study, file) % 255 > 0).sum()) for file in drawn)
            minutes = minutes_of(study, study.rounds[: round.number])
            assert {row["foreground_voxels"] for row in own} == {str(foreground)}
            assert all(float(row["minutes"]) == pytest.approx(minutes) for row in own)
            assert {float(row["train_seconds"]) for row in own} == {round.training["seconds"]}


def minutes_of(study: Study, rounds: Any) -> float:
    """Add up what the oracle took for each mask; a sample that was given up counts as estimated."""
    estimated = estimated_minutes(study.pool, study.config)
    dropped = [estimated[study.pool.row_of[name]] for round in rounds for name in round.dropped]
    return sum(minutes for round in rounds for minutes in round.minutes.values()) + float(sum(dropped))


def mask_of(study: Study, file: Any) -> Any:
    from nextmask.data.images import read_mask

    return read_mask(study.path(file))[0]


def test_the_summary_has_the_means(played):
    found = [row for row in rows(played, "summary.csv") if row["unit"].startswith("hearts-random-seed0")]
    job = next(job for job in open_benchmark(played).jobs if job.key == found[0]["unit"])
    scores = Study(job.home).rounds[-1].scores
    last = {row["class"]: row["dice"] for row in found if row["round"] == "2"}
    assert list(last) == ["chamber", "wall", "lobe", "mean"]
    assert {name: float(value) for name, value in last.items() if name != "mean"} == {
        name: scores[name]["dice"] for name in scores
    }
    assert float(last["mean"]) == pytest.approx(sum(each["dice"] for each in scores.values()) / 3, abs=1e-6)


def test_settings_and_versions_are_kept(played):
    told = json.loads((played.with_suffix("") / "results.json").read_text())
    assert (told["done"], told["of"]) == (2, 2)
    assert told["benchmark"]["budgets"] == [[2, 5]]
    assert all(unit["versions"]["torch"] and unit["code"] == told["code"] for unit in told["units"])
    assert (played.with_suffix("") / "benchmark.toml").read_text() == FILE


def test_all_units_share_the_split_and_the_cache(played):
    study = Study(played.parent / "study")
    for job in open_benchmark(played).jobs:
        unit = Study(job.home)
        assert (job.home / "splits.csv").read_bytes() == (study.folder / "splits.csv").read_bytes()
        assert unit.cohort.side == study.cohort.side
        assert unit.cache("pool").folder.resolve() == study.cache("pool").folder.resolve()


def test_the_order_in_which_units_are_played_changes_nothing(file, played):
    made = make_benchmark(file)
    run_benchmark(made, lambda work, jobs: in_this_process(work, list(jobs)[::-1]))
    assert lasting(file) == lasting(played)


def test_more_arms_are_played_and_those_that_stay_are_not(file, trainings):
    play(file)
    trainings.clear()
    file.write_text(FILE + ARM)
    assert counts(play(file)) == {"done": 3}
    assert trainings == []  # its only round is the first of random
    assert {row["arm"] for row in rows(file)} == {"random", "most_uncertain first=random", "two at a time"}
    file.write_text(FILE)
    play(file)
    assert {row["arm"] for row in rows(file)} == {"random", "most_uncertain first=random"}


def test_a_unit_that_fails_is_noted_stops_no_other_and_is_tried_again(file, monkeypatch):
    file.write_text(FILE.replace("budgets = [2, 5]", "budgets = [2]") + BROKEN)
    done = play(file)
    assert counts(done) == {"done": 2, "failed": 1}
    ((job, why),) = failed(done)
    assert job.unit.strategy == "k_center"
    assert "nonsense" in why
    assert "Traceback" in job.failure["traceback"]
    assert {row["strategy"] for row in rows(file)} == {"random", "most_uncertain"}
    tried = []
    monkeypatch.setattr(
        module, "simulate", lambda *args, **given: tried.append((given["strategy"], job.failure)) or 1 / 0
    )
    again = play(file)
    assert tried == [("k_center", None)]
    assert [why for _, why in failed(again)] == ["ZeroDivisionError: division by zero"]


def test_where_it_stands_is_told_before_while_and_after(file):
    assert counts(open_benchmark(file)) == {"waiting": 2}
    assert not file.with_suffix("").exists()
    assert together(standing(open_benchmark(file))).left is None
    made = make_benchmark(file)
    seen = []

    def watched(job: Any, error: Any) -> None:
        seen.append(counts(open_benchmark(file)))

    job = made.jobs[0]
    job.home.parent.mkdir(parents=True)
    with FileLock(f"{job.home}.lock"):
        assert counts(open_benchmark(file)) == {"running": 1, "waiting": 1}
    run_benchmark(made, in_this_process, watched)
    assert seen == [{"done": 1, "waiting": 1}, {"done": 2}]
    assert together(standing(made)).left == 0
    assert together(standing(made)).seconds > 0


def test_a_unit_that_another_process_is_at_keeps_no_other_waiting(file):
    made = make_benchmark(file)
    first, second = made.jobs
    first.home.parent.mkdir(parents=True)
    ended: list[Any] = []
    playing = Thread(target=run_benchmark, args=(made, in_this_process, lambda job, error: ended.append(job)))
    with FileLock(f"{first.home}.lock"):
        playing.start()
        give_up = time.monotonic() + 60
        while second.done is None and time.monotonic() < give_up:
            time.sleep(0.05)
        assert (second.done is None, first.done) == (False, None)
    playing.join()  # that process died, so the first is played here after all
    assert ended == [second, first]
    assert first.done is not None


def test_a_unit_that_needs_what_another_one_trains_keeps_no_other_waiting(file, trainings, monkeypatch):
    file.write_text("seeds = 2\n" + FILE)
    made = make_benchmark(file)
    first, second, *others = made.jobs
    assert [job.unit.seed for job in made.jobs] == [0, 0, 1, 1]
    begun, go_on, real = Event(), Event(), several.fit

    def held_up(*args, **options):
        if options["seed"] == [0, 1]:  # the first round of both units of this seed
            begun.set()
            assert go_on.wait(60)
        return real(*args, **options)

    monkeypatch.setattr(several, "fit", held_up)
    elsewhere = Thread(target=module.play, args=(first,))
    elsewhere.start()
    assert begun.wait(60)
    ended: list[Any] = []
    rest = replace(made, jobs=tuple(made.jobs[1:]))
    playing = Thread(target=run_benchmark, args=(rest, in_this_process, lambda job, error: ended.append((job, error))))
    playing.start()
    give_up = time.monotonic() + 60
    while len(ended) < 2 and time.monotonic() < give_up:
        time.sleep(0.05)
    assert ended == [(job, None) for job in others]
    go_on.set()
    elsewhere.join()
    playing.join()
    assert ended[2:] == [(second, None)]
    assert trainings.count((0, 1)) == 1


def test_a_unit_that_another_process_played_meanwhile_is_left_alone(played):
    job = open_benchmark(played).jobs[0]
    before = (job.home / "done.json").stat().st_mtime_ns
    module.play(job)
    assert (job.home / "done.json").stat().st_mtime_ns == before


def test_a_study_is_made_where_the_file_gives_its_settings(tmp_path, monkeypatch):
    path = tmp_path / "b.toml"
    path.write_text(
        'budgets = [1]\nstudies.drawn = {synthetic = {patients = 4, seed = 3, shape = [6, 32, 32], phases = 1}, unit = "slice"}\n'
        'studies.read = {images = "cases.csv", classes = ["x", "y", "z"], unit = "whole"}\n'
        'settings = {iterations = 2, device = "cpu"}\n[[arms]]\nstrategies = ["random"]\n'
    )
    assert counts(open_benchmark(path)) == {"waiting": 2}
    monkeypatch.chdir(tmp_path.parent)
    from nextmask.data.synthetic import write_patients

    write_patients(tmp_path, 4, seed=3, shape=(6, 32, 32), phases=1)
    assert counts(play(path)) == {"done": 2}
    assert {(row["study"], row["class"]) for row in rows(path)} == {
        *(("drawn", name) for name in ("chamber", "wall", "lobe")),
        *(("read", name) for name in "xyz"),
    }
    assert len(list((tmp_path / "b" / "cache" / "images").iterdir())) >= 4


def test_files_of_an_encoder_from_elsewhere_are_found_from_the_study(file):
    (file.parent / "weights.pt").write_bytes(b"")
    given = 'images = "patients/cases.csv"\nstudies.hearts.classes = ["x", "y", "z"]\nstudies.hearts.pretraining = '
    file.write_text(FILE.replace('folder = "study"', given + '{weights = "weights.pt", network = "monai:resnet18"}'))
    make_benchmark(file)
    (home,) = (file.with_suffix("") / "studies").iterdir()
    pretraining = Study(home).config.pretraining
    assert (home / pretraining["weights"]).resolve() == file.parent / "weights.pt"
    assert pretraining["network"] == "monai:resnet18"


@pytest.mark.parametrize(("pretrainings", "wanted"), [("one", 1), ("each", 2)])
def test_seeds_share_a_pretraining_or_have_their_own(file, pretrainings, wanted):
    arm = (
        '[[arms]]\nstrategies = ["k_center"]\nencoders = ["restoration"]\nsettings = {pretraining = {iterations = 2}}\n'
    )
    head = f'seeds = 2\nbudgets = [2]\npretrainings = "{pretrainings}"\nstudies.hearts.folder = "study"\n'
    file.write_text(head + "settings = {iterations = 2}\n" + arm)
    done = play(file)
    assert counts(done) == {"done": 2}
    assert len(list(file.parent.rglob("restoration-*.pt"))) == wanted
    assert len({job.key for job in done.jobs}) == 2


def test_units_that_other_code_played_are_counted(file, monkeypatch):
    file.write_text(FILE.replace("budgets = [2, 5]", "budgets = [2]"))
    done = play(file)
    assert by_other_code(done) == 0
    monkeypatch.setattr(standing_module, "source", lambda: "other")
    assert by_other_code(done) == 2


@pytest.mark.parametrize(
    ("study", "told"),
    [
        ('folder = "nowhere"', "Make that study first"),
        ('folder = "study"\nstudies.hearts.unit = "slice"', "Expected folder alone"),
        ("synthetic = {number = 4}", "Expected {patients = 12}"),
        ('image = "cases.csv"', "did you mean 'images'"),
    ],
)
def test_a_study_that_cannot_be_had_is_said_at_once(file, study, told):
    file.write_text(FILE.replace('folder = "study"', study))
    with pytest.raises(StudyError) as error:
        make_benchmark(file)
    assert told in str(error.value)


def test_settings_that_cannot_be_are_said_before_anything_is_played(file):
    file.write_text(FILE.replace('device = "cpu"', "iterations = -4"))
    with pytest.raises(StudyError, match="iterations = -4"):
        make_benchmark(file)


# -- killed --------------------------------------------------------------------------------------------------------------


def play_and_die(file: Path, log: Path, at: int) -> None:
    """Play in this process, note every training that begins, and kill this process within the ``at``-th."""
    real, begun = several.fit, 0

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal begun
        begun += 1
        with log.open("a") as lines:
            lines.write(f"{options['seed']}\n")
        if begun == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)

    several.fit = counted
    play(file)


def test_killed_again_and_again_it_redoes_no_finished_unit_and_no_finished_training(file, played, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["nextmask.benchmark.units", "nextmask.training.train", "monai.networks.nets", "torch._dynamo"]
    )
    log, finished, deaths = tmp_path / "log", {}, 0
    while True:
        process = context.Process(target=play_and_die, args=(file, log, 2))
        process.start()
        process.join()
        now = {path: path.stat().st_mtime_ns for path in file.with_suffix("").glob("units/*/done.json")}
        assert finished.items() <= now.items()
        finished = now
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        deaths += 1
    trained = Counter(log.read_text().splitlines())
    assert deaths == 2
    assert sum(trained.values()) == 3 + deaths
    assert counts(open_benchmark(file)) == {"done": 2}
    assert lasting(file) == lasting(played)
