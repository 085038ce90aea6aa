"""Turn what selection.py measured into selection.md and selection.csv."""

from __future__ import annotations

import csv
import platform
import re
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from selection_code import fingerprint

Record = dict[str, Any]

QUALITY = {
    "k_center": ("radius", "covering radius"),
    "prob_cover": ("covered", "share covered"),
    "max_herding": ("mean_kernel", "mean kernel to the nearest pick"),
    "kmeans_medoids": ("mean_squared", "mean squared distance to the nearest pick"),
    "k_means": ("mean_squared", "mean squared distance to the nearest centre"),
    "facility_location": ("mean_squared", "mean squared distance to the nearest pick"),
}
"""The figure by which answers of one strategy compare, where there is one."""

PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "numba",
    "torch",
    "scikit-activeml",
    "faiss-cpu",
    "submodlib-py",
    "apricot-select",
)
COLUMNS = (
    "section",
    "task",
    "pool",
    "contestant",
    "status",
    "seconds",
    "megabytes",
    "first_call_s",
    "compile_s",
    "late_compile_s",
    "checks_s",
    "samples",
    "n",
    "dims",
    "labeled",
    "run",
    "code",
    "error",
)


@dataclass(frozen=True)
class Outcome:
    """What one contestant took for one task on one pool: the median of its runs, or the limit that it broke."""

    contestant: str
    records: list[Record]

    @property
    def ok(self) -> bool:
        return all(record["status"] == "ok" for record in self.records)

    def median(self, name: str) -> float:
        return statistics.median(record[name] for record in self.records)

    @property
    def mebibytes(self) -> float:
        """Median of the peak's rise in MiB."""
        return self.median("megabytes") * 1e6 / 2**20

    @property
    def at_least(self) -> float:
        """Seconds taken, or those after which it was ended; 0 where it failed otherwise."""
        if self.ok:
            return self.median("seconds")
        return self.records[-1]["limit_s"] if self.records[-1]["status"] == "over time" else 0.0

    def spent(self) -> str:
        """Seconds and MiB, or what went wrong."""
        last = self.records[-1]
        if self.ok:
            return f"{short(self.median('seconds'))} s / {short(self.mebibytes)} MiB"
        return {
            "over time": f"> {last['limit_s']:g} s",
            "over memory": f"> {last['limit_gb']:g} GB",
            "absent": "not there",
        }.get(last["status"], f"failed: {last.get('error', '')[:60]}")

    def quality(self, name: str) -> float | None:
        return (self.records[0].get("quality") or {}).get(name) if self.ok else None


def write(records: list[Record], threads: int, folder: Path) -> str:
    """Write selection.csv with every run and selection.md with the tables; returns the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [record for record in records if record["code"] == fingerprint(record["strategy"], record["contestant"])]
    with (folder / "selection.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rounded(record) for record in records)
    told = by_hand(folder / "selection.md")
    text = "\n".join([heading(records, threads), *told, *(line for part in PARTS for line in part(records))])
    (folder / "selection.md").write_text(text + "\n", encoding="utf-8")
    return text


def by_hand(path: Path) -> list[str]:
    """Keep the paragraph that says which runs these are: no program knows how quiet the machine was."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    return [f"\n{found[0]}" for found in re.finditer(r"\*\*Which runs these are\.\*\*.*?(?=\n\n)", before, re.DOTALL)]


def rounded(record: Record) -> Record:
    """Four digits tell all there is to tell."""
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in record.items()}


def heading(records: list[Record], threads: int) -> str:
    """Say what this is, and on what it was measured."""
    days = sorted({record["run"][:10] for record in records})
    return HEAD.format(
        machine=f"{psutil.cpu_count()} logical cores ({platform.machine()}), {psutil.virtual_memory().total / 2**30:.0f} GiB",
        threads=threads,
        versions=", ".join(installed()),
        days=" to ".join(dict.fromkeys([days[0], days[-1]])) if days else time.strftime("%Y-%m-%d"),
    )


def installed() -> Iterator[str]:
    """Name the packages that took part, with their versions."""
    yield f"Python {platform.python_version()}"
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"{package} not installed"


def outcomes(records: Iterable[Record], section: str) -> dict[tuple[str, str], dict[str, Outcome]]:
    """Group the runs of a section by task and pool, then by contestant."""
    grouped: dict[tuple[str, str], dict[str, Outcome]] = {}
    for record in records:
        if record["section"] == section:
            by_name = grouped.setdefault((record["task"], record["pool"]), {})
            by_name.setdefault(record["contestant"], Outcome(record["contestant"], [])).records.append(record)
    return grouped


def comparison(records: list[Record], section: str, title: str) -> Iterator[str]:
    """Yield a table of nextmask beside each peer."""
    found = {key: by_name for key, by_name in outcomes(records, section).items() if "nextmask" in by_name}
    if not found:
        return
    yield f"\n## {title}\n"
    yield "| task | pool | public implementation | it took | nextmask | times as fast | picks | answer | to reach |"
    yield "| --- |" + " --- |" * 8
    for (task, pool), by_name in found.items():
        ours = by_name["nextmask"]
        theirs = [outcome for name, outcome in by_name.items() if name != "nextmask"]
        for peer in theirs or [None]:
            cells = [
                task,
                pool,
                peer.contestant if peer else "(none)",
                peer.spent() + apart(peer, ours) if peer else "",
            ]
            cells += [ours.spent(), ratio(peer, ours), same(peer, ours), answers(peer, ours), verdict(ours, theirs)]
            yield "| " + " | ".join(cells) + " |"


def apart(peer: Outcome, ours: Outcome) -> str:
    """Mark a peer that was not measured in the same go."""
    return "" if {r["run"] for r in peer.records} & {r["run"] for r in ours.records} else " †"


def ratio(peer: Outcome | None, ours: Outcome) -> str:
    """Say how many times as fast nextmask was; of a peer that was ended, how many times at least."""
    if peer is None or not ours.ok or not peer.at_least:
        return ""
    return ("" if peer.ok else "> ") + f"{short(peer.at_least / ours.median('seconds'))}x"


def same(peer: Outcome | None, ours: Outcome) -> str:
    """Say how many picks both have, and whether they come in the same order."""
    if peer is None or not (ours.ok and peer.ok) or "picks" not in ours.records[0]:
        return ""
    mine, its = ours.records[0]["picks"], peer.records[0]["picks"]
    if mine == its:
        return "identical"
    hashable = [{tuple(pick) if isinstance(pick, list) else pick for pick in picks} for picks in (mine, its)]
    return f"{len(set.intersection(*hashable)):,} of {len(mine):,} shared"


def answers(peer: Outcome | None, ours: Outcome) -> str:
    """Compare the answers by the strategy's figure of quality."""
    name, meaning = QUALITY.get(ours.records[0]["strategy"], ("", ""))
    figures = [outcome.quality(name) if outcome else None for outcome in (peer, ours)]
    if figures[1] is None:
        return ""
    theirs = "" if figures[0] is None else f"{figures[0]:.4f} / "
    return f"{meaning} {theirs}{figures[1]:.4f}"


def verdict(ours: Outcome, theirs: list[Outcome]) -> str:
    """Say what was to be reached, and which of it was."""
    goal = ours.records[0].get("goal")
    if not goal:
        return ""
    if not ours.ok:
        return "not reached"
    said = []
    peer = next((outcome for outcome in theirs if outcome.contestant == goal["than"]), None)
    reached = ((goal["seconds"], ours.median("seconds"), "s"), (goal["megabytes"], ours.mebibytes, "MiB"))
    said += [f"{yes(figure <= limit)} under {limit:g} {unit}" for limit, figure, unit in reached if limit]
    if goal["times"] and peer and peer.at_least:
        said.append(f"{yes(peer.at_least / ours.median('seconds') >= goal['times'])} {goal['times']:g}x")
    compared = [same(outcome, ours) for outcome in theirs if outcome.ok]
    if goal["same_picks"] and compared:
        said.append(f"{yes('identical' in compared)} the same picks")
    figures = [outcome.quality(goal["no_worse"]) for outcome in theirs if outcome.ok] if goal["no_worse"] else []
    if figures:
        said.append(f"{yes(ours.quality(goal['no_worse']) <= min(figures) * 1.001)} no worse than any")
    return ", ".join(said)


def yes(reached: bool) -> str:
    """Mark what was reached."""
    return "✓" if reached else "✗"


def growth(records: list[Record]) -> Iterator[str]:
    """Yield small tables of cost over N, n and d, a strategy each."""
    mine = [record for record in records if record["section"] == "cost" and record["contestant"] == "nextmask"]
    if not mine:
        return
    yield "\n## How cost grows\n"
    yield "nextmask alone, seconds / MiB on the pools med and hard, around N = 50 K, n = 300, d = 512."
    for strategy in dict.fromkeys(record["strategy"] for record in mine):
        of_it = [record for record in mine if record["strategy"] == strategy]
        base = {name: statistics.mode(record[name] for record in of_it) for name in ("samples", "n", "dims")}
        for along, letter in (("samples", "N"), ("n", "n"), ("dims", "d")):
            others = [name for name in base if name != along]
            shown = [record for record in of_it if all(record[name] == base[name] for name in others)]
            yield from ladder(shown, strategy, along, letter)


def ladder(shown: list[Record], strategy: str, along: str, letter: str) -> Iterator[str]:
    """Yield one of the small tables: values of one quantity across, pools down."""
    values = sorted({record[along] for record in shown})
    if len(values) < 2:
        return
    yield f"\n| {strategy}, {letter} = | " + " | ".join(f"{value:,}" for value in values) + " |"
    yield "| --- |" + " --- |" * len(values)
    for pool in dict.fromkeys(record["pool"] for record in shown):
        cells = [[r for r in shown if r["pool"] == pool and r[along] == value] for value in values]
        spent = [
            Outcome("nextmask", runs).spent().replace(" s /", " /").replace(" MiB", "") if runs else ""
            for runs in cells
        ]
        yield f"| {pool} | " + " | ".join(spent) + " |"


def alone(records: list[Record]) -> Iterator[str]:
    """Yield what every strategy takes by itself."""
    found = outcomes(records, "every strategy")
    if not found:
        return
    pools = list(dict.fromkeys(pool for _, pool in found))
    yield "\n## Every strategy\n"
    yield "| task | " + " | ".join(pools) + " | checks of `select` |"
    yield "| --- |" + " --- |" * (len(pools) + 1)
    for task in dict.fromkeys(task for task, _ in found):
        runs = [found[task, pool]["nextmask"] for pool in pools if "nextmask" in found.get((task, pool), {})]
        extra = short(runs[0].median("checks_s")) + " s" if runs and runs[0].ok else ""
        yield f"| {task} | " + " | ".join(run.spent() for run in runs) + f" | {extra} |"


def compilation(records: list[Record]) -> Iterator[str]:
    """Yield what the first call after an installation costs beyond the work itself."""
    found = outcomes(records, "first call")
    if not found:
        return
    yield "\n## The first call after an installation\n"
    yield "Seconds of the first call on 20,000 samples with nothing compiled, and how many of them numba compiled; what is"
    yield "compiled is kept on disk. All other tables are without them.\n"
    yield "| strategy | first call | of it compiling | the call itself |"
    yield "| --- | --- | --- | --- |"
    for by_name in found.values():
        run = by_name["nextmask"]
        if run.ok:
            figures = (run.median(name) for name in ("first_call_s", "compile_s", "seconds"))
            yield f"| {run.records[0]['strategy']} | " + " | ".join(f"{short(figure)} s" for figure in figures) + " |"


def late(records: list[Record]) -> Iterator[str]:
    """Yield a warning where a clock ran while numba compiled."""
    slipped = dict.fromkeys(
        f"{record['contestant']} ({record['task']}, {record['pool']}: {short(record['late_compile_s'])} s)"
        for record in records
        if record.get("late_compile_s", 0) > 0.01 and record["section"] != "first call"
    )
    if slipped:
        yield f"\nNumba compiled while the clock ran, so that these are faster than they look: {', '.join(slipped)}."


def short(number: float) -> str:
    """Write a number with about three digits, without an exponent."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}" if number >= 0.001 else f"{number:.4f}"


PARTS = (
    lambda records: comparison(records, "table", "Beside the public implementations"),
    lambda records: comparison(records, "k-means", "k-means: inertia beside time"),
    lambda records: comparison(records, "real", "On slices of real images"),
    lambda records: comparison(records, "huge", "Ten million samples in two stages"),
    growth,
    alone,
    compilation,
    late,
)

HEAD = """# Selection: seconds and memory

Written by `python benchmarks/selection.py` (`make bench-selection`), {days}. {machine}, {threads} threads;
{versions}.

Pools are made by `selection_pools.py`: **med** has clusters of Zipf sizes, smooth volumes and outliers in a space of 96
dimensions; **hard** has clusters under isotropic noise of full rank, where bounds decide nothing. d = 512 float32 and 100
labeled samples unless said. Every run has a process of its own; nextmask and its peers alternate, and the median of up to three
runs counts (one run where it took over 30 s). Seconds are without imports and compilation: each process has answered on a small
pool first. MiB are how far the process's peak rises above what it held before, the pool included; 1 M samples are a memory map.
† = measured in another go than nextmask. > = ended there. "picks" are those shared with the peer; "answer" is the peer's
figure, then nextmask's. ProbCover's radius is the same for all: the distance below which one pair in a hundred lies.
MaxHerding's kernel is exp(-d²). Re-expressed: the published algorithm in our own lines, as the original cannot be installed."""
