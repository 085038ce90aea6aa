"""A benchmark as one HTML file that opens anywhere, offline, with its figures as SVG and PNG and its numbers as CSV and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from nextmask.benchmark import arm_words as words
from nextmask.benchmark.arm_curves import AXES, ArmCurves, Played, by_arm, count_tested, curves_of, largest
from nextmask.benchmark.arm_efficiency import Efficiency, efficiency_of
from nextmask.benchmark.arm_figures import BandChart, Forest, band_chart, forest
from nextmask.benchmark.arm_numbers import Numbers, choose_baseline, numbers_of
from nextmask.benchmark.arm_picks import PARTS, Picks, picks_of
from nextmask.benchmark.arm_png import curves_png, forest_png
from nextmask.benchmark.arm_trust import COLUMNS, ArmTrust, trust_of, trust_rows
from nextmask.benchmark.grid import Unit
from nextmask.benchmark.results import SECONDS, SPENT, summary_rows, write_table
from nextmask.benchmark.units import Benchmark, Job
from nextmask.data.files import atomically, write_text
from nextmask.statistics import Row
from nextmask.study.evaluation import METRICS
from nextmask.study.report import legend_of, page_of, show
from nextmask.study.versions import source, versions

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Effort:
    """What the units of an arm took, and what the largest of them spent by their end; ``peak_mb`` is the most of any."""

    arm: str
    units: int
    spent: Mapping[str, float]
    seconds: Mapping[str, float | None]
    total: float
    peak_mb: int | None
    devices: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class StudyPart:
    """What the report says of one study."""

    name: str
    planned: int
    seeds: int
    played: tuple[Played, ...]
    arms: tuple[ArmCurves, ...]
    tested: int
    numbers: Numbers | None
    efficiency: Efficiency
    picks: Picks | None
    answer: str
    shown: str
    cost: str
    charts: Mapping[str, BandChart]
    forest: Forest | None
    efforts: tuple[Effort, ...]
    scores: tuple[Mapping[str, Any], ...]
    trust: tuple[ArmTrust, ...]


def write_benchmark_report(benchmark: Benchmark) -> Path:
    """Write report.html into the benchmark's folder, figures and numbers into report/ beside it; return its path.

    It is made from the units that are done; nothing is played. report/without-images.html is the same without any patient's
    image, for those who may pass numbers on, and images not.
    """
    parts = tuple(_part(benchmark, name) for name in benchmark.config.studies)
    path, folder = benchmark.folder / "report.html", benchmark.folder / "report"
    for part in parts:
        _write_figures(part, folder)
    _write_numbers(parts, folder)
    view = _view(benchmark, parts)
    for page, gallery in ((path, _gallery), (folder / "without-images.html", _no_gallery)):
        write_text(page, page_of(HERE / "benchmark_report.html.jinja", {**view, "gallery_of": gallery}))
    return path


def _part(benchmark: Benchmark, study: str) -> StudyPart:
    config = benchmark.config
    jobs = [job for job in benchmark.jobs if job.unit.study == study]
    units = [job.unit for job in jobs] + [unit for unit in benchmark.unmade if unit.study == study]
    played = tuple((job.unit, job.key, done) for job in jobs if (done := job.done) is not None)
    arms = curves_of(played)
    baseline = choose_baseline(arms, config.baseline)
    numbers = None if baseline is None else numbers_of(arms, baseline, margin=config.margin, target=config.target)
    seeds = _seeds(units)
    first = numbers.measures[0].table if numbers else None
    picks = picks_of(jobs, largest(played)) if played else None
    return StudyPart(
        name=study,
        planned=len(units),
        seeds=seeds,
        played=played,
        arms=arms,
        tested=count_tested(played),
        numbers=numbers,
        efficiency=efficiency_of(
            arms,
            samples=picks.samples if picks else None,
            foreground=picks.foreground if picks else None,
            full=config.full_score,
        ),
        picks=picks,
        answer=words.answer(numbers, arms),
        shown=words.what_shown(numbers, max(len({unit.arm for unit in units}), len(arms)), seeds),
        cost=words.cost_of_random(numbers, arms),
        charts={axis: band_chart(numbers.bands[axis]) for axis in AXES} if numbers else {},
        forest=forest(first, {row.strategy: difference_words(row) for row in first.rows}) if first else None,
        efforts=tuple(_efforts(played)),
        scores=tuple(_scores(played)),
        trust=trust_of(played, config.margin),
    )


def _seeds(units: Sequence[Unit]) -> int:
    """Count the seeds that every arm is planned with."""
    several = len({unit.seed for unit in units}) > 1
    arms: dict[str, set[int]] = {}
    for unit in units:
        arms.setdefault(unit.arm, set()).add(unit.seed if several else unit.training_seed)
    return min(map(len, arms.values()), default=0)


def difference_words(row: Row) -> str:
    """Write an arm's difference from the baseline, with its interval and what it shows."""
    if row.difference is None:
        return ""
    found = row.difference.interval
    return f"{words.signed(found.estimate)} ({words.bounds(found, difference=True)}) {row.decision}"


# -- cost, time and scores ---------------------------------------------------------------------------------------------


def _efforts(played: Sequence[Played]) -> Iterator[Effort]:
    for arm, units in by_arm(played).items():
        came = [done for _, _, done in units if done["rounds"]]
        peaks = [done["peak_mb"] for done in came if done["peak_mb"] is not None]
        yield Effort(
            arm,
            len(came),
            {name: _mean(done["rounds"][-1][name] for _, _, done in largest(units)) or 0.0 for name in SPENT},
            {name: _mean(round[name] for done in came for round in done["rounds"]) for name in SECONDS},
            float(sum(done["seconds"] for done in came)),
            max(peaks, default=None),
            tuple(sorted({str(done["device"]) for done in came})),
        )


def _scores(played: Sequence[Played]) -> Iterator[Mapping[str, Any]]:
    """Yield for every arm and class the means of all metrics at the end, over its largest units."""
    for arm, units in by_arm(largest(played)).items():
        rows = [row for unit in units for row in _at_end(unit)]
        for label in dict.fromkeys(row["class"] for row in rows):
            of_class = [row for row in rows if row["class"] == label]
            yield {"arm": arm, "class": label, **{name: _mean(row[name] for row in of_class) for name in METRICS}}


def _at_end(unit: Played) -> list[dict[str, Any]]:
    rows = list(summary_rows(*unit))
    return [row for row in rows if row["round"] == rows[-1]["round"]]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(known)) if known else None


# -- files -------------------------------------------------------------------------------------------------------------


def _write_figures(part: StudyPart, folder: Path) -> None:
    for axis, chart in part.charts.items():
        given = {"kind": "curves", "figure": chart, "axis": AXES[axis], "study": part.name}
        name = folder / f"{part.name}-curves-{axis}"
        _write_figure(name, page_of(HERE / "arm_figure.svg.jinja", given), curves_png(chart, AXES[axis]))
    if part.forest is not None and part.numbers is not None:
        given = {"kind": "forest", "figure": part.forest, "axis": part.numbers.baseline, "study": part.name}
        picture = forest_png(part.forest, part.numbers.baseline)
        _write_figure(folder / f"{part.name}-differences", page_of(HERE / "arm_figure.svg.jinja", given), picture)


def _write_figure(name: Path, svg: str, png: bytes) -> None:
    write_text(name.with_name(f"{name.name}.svg"), svg)
    with atomically(name.with_name(f"{name.name}.png")) as temporary:
        temporary.write_bytes(png)


def _write_numbers(parts: Sequence[StudyPart], folder: Path) -> None:
    tables = {
        "curves": [row for part in parts for row in _curve_rows(part)],
        "comparisons": [row for part in parts for row in _comparison_rows(part)],
        "targets": [row for part in parts for row in _target_rows(part)],
        "penalty": [row for part in parts for row in _penalty_rows(part)],
        "coverage": [row for part in parts for row in _coverage_rows(part)],
        "trust": [row for part in parts for row in _trust_rows(part)],
        "stopping": [{"study": part.name, **_stopping(each)} for part in parts for each in part.trust],
        "effort": [{"study": part.name, **_flat(effort)} for part in parts for effort in part.efforts],
    }
    for name, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row)) or ["study"]
        write_table(folder / f"{name}.csv", columns, (_known(row) for row in rows))
    said = [{"study": p.name, "answer": p.answer, "shown": p.shown, "cost": p.cost} for p in parts]
    text = json.dumps(finite({"studies": said, **tables}), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / "report.json", text + "\n")


def finite(value: Any) -> Any:
    """Put None in the place of every number that is infinite or missing, in lists and tables too."""
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """Leave what is missing empty; what is infinite stays, as inf."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def _flat(effort: Effort) -> dict[str, Any]:
    told = asdict(effort)
    return {
        **{k: v for k, v in told.items() if k not in ("spent", "seconds", "devices")},
        **told["spent"],
        **told["seconds"],
    }


def _curve_rows(part: StudyPart) -> Iterator[dict[str, Any]]:
    for axis, arms in part.numbers.bands.items() if part.numbers else ():
        for arm, points in arms.items():
            for number, point in enumerate(points, start=1):
                ends = {"dice": point.dice.estimate, "lower": point.dice.lower, "upper": point.dice.upper}
                yield {"study": part.name, "axis": axis, "arm": arm, "point": number, "spent": point.spent, **ends}


def _comparison_rows(part: StudyPart) -> Iterator[dict[str, Any]]:
    for measure in part.numbers.measures if part.numbers else ():
        for row in measure.table.rows if measure.table else ():
            found = row.difference.interval if row.difference else None
            yield {
                "study": part.name,
                "measure": measure.name,
                "arm": row.strategy,
                "seeds": row.seeds,
                "mean": row.mean.estimate,
                "lower": row.mean.lower,
                "upper": row.mean.upper,
                "difference": found and found.estimate,
                "difference_lower": found and found.lower,
                "difference_upper": found and found.upper,
                "p_holm": row.p,
                "decision": row.decision,
                "letters": row.letters,
            }
    seeds = {arm.name: len(arm.seeds) for arm in part.arms}
    for arm, gamma in part.efficiency.gamma.items():
        yield {"study": part.name, "measure": "fg_eff", "arm": arm, "seeds": seeds[arm], "mean": gamma}


def _target_rows(part: StudyPart) -> Iterator[dict[str, Any]]:
    for each in part.numbers.reaching if part.numbers else ():
        target = asdict(each.target) if each.target else {}
        saving = {f"saving_{name}": value for name, value in (asdict(each.saving) if each.saving else {}).items()}
        assert part.numbers is not None
        goal = {"study": part.name, "axis": each.axis, "arm": each.arm, "target": part.numbers.target}
        yield {**goal, **target, **saving}


def _penalty_rows(part: StudyPart) -> Iterator[dict[str, Any]]:
    found = part.numbers.penalty if part.numbers else None
    if found is None:
        return
    for i, one in enumerate(found.names):
        for j, other in enumerate(found.names):
            share = {"share_of_budgets": float(found.wins[i, j]), "budgets": int(found.budgets[i, j])}
            yield {"study": part.name, "arm": one, "beats": other, **share}


def _coverage_rows(part: StudyPart) -> Iterator[dict[str, Any]]:
    for each in part.picks.coverage if part.picks else ():
        positions = {f"part_{number}": share for number, share in enumerate(each.positions, start=1)}
        told = {"study": part.name, "arm": each.arm, "patients": each.patients, "of": each.of}
        yield {**told, **positions, **{f"class_{name}": share for name, share in each.classes.items()}}


def _trust_rows(part: StudyPart) -> Iterator[dict[str, Any]]:
    for unit in part.played:
        for row in trust_rows(unit):
            yield {"study": part.name, **{name: row.get(name) for name in COLUMNS}}


def _stopping(found: ArmTrust) -> dict[str, Any]:
    return {name: value for name, value in vars(found).items() if name != "rounds"}


# -- the page ----------------------------------------------------------------------------------------------------------


def _view(benchmark: Benchmark, parts: Sequence[StudyPart]) -> dict[str, object]:
    """Lay everything out for the template, which only places it."""
    done, failures = sum(len(part.played) for part in parts), list(_failures(benchmark.jobs))
    made = [came for part in parts for _, _, came in part.played]
    return {
        "title": benchmark.folder.name,
        "created": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "parts": parts,
        "margin": benchmark.config.margin,
        "several": len(parts) > 1,
        "done": done,
        "of": len(benchmark.jobs) + len(benchmark.unmade),
        "failures": failures,
        "units": [_unit_row(job) for job in benchmark.jobs],
        "unmade": len(benchmark.unmade),
        "versions": _all_of(came["versions"] for came in made) or versions(),
        "codes": sorted({str(came["code"]) for came in made}),
        "now": source(),
        "devices": sorted({str(came["device"]) for came in made}),
        "settings": json.dumps(finite(benchmark.config.model_dump(mode="json")), indent=1, ensure_ascii=False),
        "axes": AXES,
        "positions": PARTS,
        "words": words,
        "difference_words": difference_words,
        "show": show,
        "legend": _legend,
        "seconds": _seconds,
    }


def _gallery(part: StudyPart) -> list[tuple[str, list[object]]]:
    return [(arm, [show(picture) for picture in of]) for arm, of in part.picks.pictures.items()] if part.picks else []


def _no_gallery(part: StudyPart) -> list[tuple[str, list[object]]]:
    return []


def _legend(part: StudyPart) -> list[tuple[str, str]]:
    assert part.picks is not None
    return legend_of([picture for of in part.picks.pictures.values() for picture in of], part.picks.class_names)


def _failures(jobs: Iterable[Job]) -> Iterator[tuple[Job, Mapping[str, str]]]:
    for job in jobs:
        if job.state == "failed" and (failure := job.failure) is not None:
            yield job, failure


def _unit_row(job: Job) -> dict[str, Any]:
    done = job.done
    took = None if done is None else done["seconds"]
    code = "" if done is None else done["code"]
    return {"key": job.key, "unit": job.unit, "state": job.state, "seconds": took, "code": code}


def _all_of(found: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Join the versions of all units; a package that came in several is listed with each."""
    pairs = sorted({(name, version) for each in found for name, version in each.items()})
    groups = groupby(pairs, key=lambda pair: pair[0])
    return {name: ", ".join(version for _, version in of) for name, of in groups}


def _seconds(value: float | None) -> str:
    """Write seconds as people say them."""
    if value is None:
        return "not recorded"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"
