"""Many simulated studies from one file: units of work keyed by content, each resumable, in any order, anywhere.

A benchmark is a folder::

    benchmark.toml      a copy of its file
    studies/            a study for each data set, made once; its split is that of all of its units
    cache/              what units share: images, pretrained encoders, embeddings, trainings that are equal
    units/KEY/          a unit: a simulated study, and done.json once it was played to its end
    units/KEY.failed    why a unit failed, until it is tried again
    results.csv ...     what came of the units that are done

A unit's key holds all that decides its results, so that the file may be changed at any time: what stays the same is not
played again. The state of a unit is never stored; it follows from its files.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from nextmask.benchmark.executors import Executor
from nextmask.benchmark.grid import BenchmarkConfig, Unit, read_benchmark, units
from nextmask.benchmark.results import outcome, write_results
from nextmask.data.files import digest_json, write_text
from nextmask.data.synthetic import CLASSES, write_patients
from nextmask.errors import StudyError
from nextmask.study.config import StudyConfig, parse_config, read_config
from nextmask.study.lock import Later, patient
from nextmask.study.simulate import has_begun, simulate
from nextmask.study.study import Report, Study
from nextmask.study.versions import source, versions

VERSION = 1
"""Part of every key; raised when the same unit would give other results."""

State = Literal["done", "running", "failed", "waiting"]
_PATHS = ("images", "masks", "scribbles")


@dataclass(frozen=True)
class Job:
    """A unit with its places: the study that it is played on, and the folder ``home`` that it is played in."""

    unit: Unit
    study: Path
    home: Path

    @property
    def key(self) -> str:
        """Name the unit."""
        return self.home.name

    @property
    def done(self) -> dict[str, Any] | None:
        """Return what came of it, once it was played to its end."""
        path = self.home / "done.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    @property
    def failure(self) -> dict[str, Any] | None:
        """Return why it failed, until it is tried again."""
        return json.loads(self._note.read_text(encoding="utf-8")) if self._note.exists() else None

    @property
    def state(self) -> State:
        """Tell from its files where it stands; it is running where a process, anywhere, holds its lock."""
        if (self.home / "done.json").exists():
            return "done"
        try:
            if self._lock.exists():
                with FileLock(self._lock, timeout=0):
                    pass
        except Timeout:
            return "running"
        return "failed" if self._note.exists() else "waiting"

    @property
    def _note(self) -> Path:
        return self.home.with_name(f"{self.key}.failed")

    @property
    def _lock(self) -> Path:
        return self.home.with_name(f"{self.key}.lock")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's file, read, and its jobs; ``unmade`` are the units whose study was not made yet."""

    folder: Path
    config: BenchmarkConfig
    jobs: tuple[Job, ...]
    unmade: tuple[Unit, ...]


def open_benchmark(file: Path, folder: Path | None = None) -> Benchmark:
    """Read a benchmark's file and find its units, without making or playing anything.

    Args:
        file: its TOML file.
        folder: where it lies; beside the file and named as it is, if not given.

    Raises:
        StudyError: the file, or the settings of a unit, are wrong.
    """
    config, file, folder = read_benchmark(file), *_absolute(file, folder)
    found = units(config)
    homes = {name: _study_folder(name, table, file.parent, folder) for name, table in config.studies.items()}
    made = {name: _Made.of(Study(home)) for name, home in homes.items() if has_begun(home)}
    jobs = [_job(unit, made[unit.study], folder) for unit in found if unit.study in made]
    distinct = {job.key: job for job in reversed(jobs)}  # the first of equal ones gives the name
    return Benchmark(
        folder, config, tuple(reversed(distinct.values())), tuple(unit for unit in found if unit.study not in made)
    )


def make_benchmark(file: Path, folder: Path | None = None, report: Report | None = None) -> Benchmark:
    """Make the folder of a benchmark with its studies, or find it made; play nothing."""
    config, file, folder = read_benchmark(file), *_absolute(file, folder)
    units(config)  # what is wrong with the file is said before anything is made
    for name, table in config.studies.items():
        _make_study(name, table, file.parent, folder, report)
    write_text(folder / "benchmark.toml", file.read_text(encoding="utf-8"))
    return open_benchmark(file, folder)


def run_benchmark(
    benchmark: Benchmark,
    executor: Executor,
    ended: Callable[[Job, BaseException | None], None] | None = None,
) -> None:
    """Play the units that are not done, with what ``executor`` plays them on, and write the results of all that are done.

    A unit that fails is noted and stops no other; called again, it is tried again. ``ended`` is told of each that ends.
    Other processes may play the same benchmark: what one of them is at is left to it, and waited for in the end. So is a unit that
    needs a training or a pretraining which another unit is at.
    """
    turns = [(job, False) for job in benchmark.jobs if job.state != "done"]
    try:
        for (job, _), error in executor(_take, turns) if turns else ():
            if error is None and job.done is None:
                turns.append((job, True))
                continue
            if error is not None:
                _note_failure(job, error)
            if ended:
                ended(job, error)
    finally:
        collect(benchmark)


def _take(turn: tuple[Job, bool]) -> None:
    job, wait = turn
    play(job, wait)


def play(job: Job, wait: bool = True) -> None:
    """Play one unit to its end, or find it played; where it was interrupted it goes on. One process at a time does that.

    What another process is at, be it the unit or a training that it needs, is waited for, in case that dies, or else left alone.
    """
    job.home.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(job._lock).acquire(blocking=wait)
    except Timeout:
        return
    with held:
        if job.done is None:
            with patient(wait), suppress(Later):
                _play(job)


def _play(job: Job) -> None:
    job._note.unlink(missing_ok=True)
    unit, started = job.unit, time.monotonic()
    _forget_peak()
    own_seed = {} if unit.training_seed == unit.seed else {"training_seed": unit.training_seed}
    played = simulate(
        job.study,
        strategy=unit.strategy,
        query_size=unit.sizes,
        seed=unit.seed,
        settings={**unit.settings, **own_seed},
        options=unit.options,
        first=unit.first,
        first_options=unit.first_options,
        to=job.home,
    )
    done = {
        "unit": vars(unit),
        "encoder": played.config.encoder,
        "classes": played.config.classes,
        "seconds": round(time.monotonic() - started, 1),
        "peak_mb": _peak(),
        "device": played.device,
        "code": source(),
        "versions": versions(),
        "rounds": outcome(played),
    }
    write_text(job.home / "done.json", json.dumps(done, ensure_ascii=False))


def devices(benchmark: Benchmark) -> set[str]:
    """Name the devices that the units would be played on here."""
    from nextmask.networks.device import choose_device

    of_study = {home: read_config(home).device for home in {job.study for job in benchmark.jobs}}
    return {choose_device(job.unit.settings.get("device") or of_study[job.study]) for job in benchmark.jobs}


def collect(benchmark: Benchmark) -> None:
    """Write results.csv, summary.csv and results.json from the units that are done."""
    done = [(job.unit, job.key, job.done) for job in benchmark.jobs]
    finished = [(unit, key, came) for unit, key, came in done if came is not None]
    told = {
        "benchmark": benchmark.config.model_dump(mode="json"),
        "versions": versions(),
        "code": source(),
        "done": len(finished),
        "of": len(benchmark.jobs) + len(benchmark.unmade),
    }
    write_results(benchmark.folder, finished, told)


def _absolute(file: Path, folder: Path | None) -> tuple[Path, Path]:
    """Name a benchmark's file and folder as every process, whatever folder it works in, finds them."""
    return file.resolve(), (folder or file.with_suffix("")).resolve()


def _make_study(name: str, table: Mapping[str, Any], base: Path, folder: Path, report: Report | None) -> None:
    home = _study_folder(name, table, base, folder)
    if "folder" in table or has_begun(home):
        return
    values = {**table, "cache": os.path.relpath(folder / "cache", home)}
    drawn = values.pop("synthetic", None)
    if drawn is not None:
        patients = folder / "patients" / home.name
        write_patients(patients, **_drawn(name, drawn))
        values = {"classes": CLASSES, **values, "images": os.path.relpath(patients / "cases.csv", base)}
    moved: dict[str, Any] = {key: os.path.relpath(base / values[key], home) for key in _PATHS if values.get(key)}
    if "pretraining" in values:
        moved["pretraining"] = {key: _moved_file(value, base, home) for key, value in values["pretraining"].items()}
    Study.create(home, parse_config({**values, **moved}, f"study {name!r} of the benchmark"), report=report)


def _moved_file(value: Any, base: Path, home: Path) -> Any:
    """Name a file as it is found from a study; what is no file stays as it is."""
    return os.path.relpath(base / value, home) if isinstance(value, str) and (base / value).is_file() else value


def _study_folder(name: str, table: Mapping[str, Any], base: Path, folder: Path) -> Path:
    """Find where a study lies; one that is made for the benchmark is named by its settings too, so that they may change."""
    if "folder" not in table:
        return folder / "studies" / f"{name}-{digest_json(table)[:8]}"
    home = base / str(table["folder"])
    if len(table) > 1 or not has_begun(home):
        raise StudyError(
            f"study {name!r} of the benchmark is {dict(table)}. Expected folder alone, and a study in it. Make that study first, "
            "or write images, classes and the other settings here instead of folder."
        )
    return home


def _drawn(name: str, values: Any) -> dict[str, Any]:
    known = ("patients", "seed", "shape", "phases")
    if not isinstance(values, dict) or "patients" not in values or not set(values) <= set(known):
        raise StudyError(
            f"synthetic of study {name!r} is {values!r}. Expected {{patients = 12}}, and of {', '.join(known[1:])} what should "
            "be other than usual. Mend that line."
        )
    return {**values, **({"shape": tuple(values["shape"])} if "shape" in values else {})}


@dataclass(frozen=True)
class _Made:
    """A study that is there, and the hash of its images, masks, split and preprocessing."""

    folder: Path
    config: StudyConfig
    content: str

    @classmethod
    def of(cls, study: Study) -> _Made:
        truth = [[scan.mask_values, scan.scribble_values] for scan in study.cohort.scans]
        made = [study.cohort.content(), truth, study.events[0].payload["preprocessing"]]
        return cls(study.folder, study.config, digest_json(made))


def _job(unit: Unit, study: _Made, folder: Path) -> Job:
    """Name a unit by all that decides its results: its settings, the study's content, and the code."""
    unit = replace(unit, settings=unit.settings_in(study.config))
    settings = parse_config({**study.config.model_dump(), **unit.settings}, f"arm {unit.arm!r} of the benchmark")
    config = settings.model_dump(mode="json", exclude={*_PATHS, "columns", "cache"})
    key = digest_json([VERSION, versions()["nextmask"], config, study.content, unit.asked()])[:12]
    return Job(unit, study.folder, folder / "units" / f"{unit.study}-{unit.strategy}-seed{unit.seed}-{key}")


def _note_failure(job: Job, error: BaseException) -> None:
    """Write down why a unit failed. Where it is done all the same, another process played it."""
    if job.done is None:
        told = {
            "error": f"{type(error).__name__}: {error}",
            "time": datetime.now().astimezone().isoformat(timespec="seconds"),
            "traceback": "".join(traceback.format_exception(error)),
        }
        write_text(job._note, json.dumps(told, ensure_ascii=False))


def _forget_peak() -> None:
    """Begin to measure the peak of memory anew, where the system can do that: processes play one unit after the other."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _peak() -> int | None:
    """Return the most memory that this process held since then, in MB; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:")), None)
