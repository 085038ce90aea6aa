"""Seconds and memory of every strategy beside the public implementations; writes selection.md and selection.csv.

    python benchmarks/selection.py                                    # everything; hours, most of them the peers'
    python benchmarks/selection.py --rows k_center,prob_cover         # some strategies
    python benchmarks/selection.py --quick                            # tiny pools, in minutes; writes below runs/ only
    python benchmarks/selection.py --sections real                    # slices of real images, from NEXTMASK_DATA
    python benchmarks/selection.py --report                           # write the tables from what is there

Each run has a process of its own (selection_one.py); peer and nextmask alternate. What ran is appended to
runs/selection/results.jsonl at once, so that a run that was interrupted goes on where it was. A change in nextmask's selection
code outdates nextmask's results, and a change in selection_peers.py the peers'. Peers that are not installed are passed over:
pip install scikit-activeml faiss-cpu submodlib-py apricot-select brings those that can be.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import selection_pools
from selection_code import fingerprint
from selection_report import write
from selection_tasks import SECTIONS, USUAL, Task, shrunk

HERE = Path(__file__).parent
ONCE_OVER = 30.0
"""Seconds beyond which a contestant is not run again: noise is small beside them."""

PREPARING = 900.0
"""Seconds that a process may take before its clock starts, and for measuring quality after it stopped."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How to run: where results lie, and what a contestant may take."""

    folder: Path
    timeout: float
    memory_gb: float
    threads: int
    repeats: int
    quick: bool
    run: str


def main() -> None:
    """Run what is asked for and not there yet, then write the tables."""
    wanted = arguments()
    settings = Settings(
        folder=wanted.folder / ("quick" if wanted.quick else "full"),
        timeout=wanted.timeout,
        memory_gb=wanted.memory,
        threads=wanted.threads,
        repeats=1 if wanted.quick else wanted.repeats,
        quick=wanted.quick,
        run=time.strftime("%Y-%m-%d %H:%M"),
    )
    if not wanted.report:
        for task in tasks(wanted):
            for pool in pools(task, wanted, settings):
                compare(task, pool, settings, wanted)
    target = settings.folder if wanted.quick else HERE
    print(write(list(results(settings)), settings.threads, target))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of every pool, a tenth of every query")
    parser.add_argument("--rows", help="strategies, separated by commas")
    parser.add_argument("--sections", default=USUAL, help=f"of: {','.join(SECTIONS)} (%(default)s)")
    parser.add_argument("--pools", default="med,hard", help="of: %(default)s")
    parser.add_argument("--only", help="contestants, separated by commas; 'nextmask' leaves the peers out")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for one choice of samples (%(default)s)")
    parser.add_argument("--memory", type=float, default=16, help="GB for one process (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="cores (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many runs counts (%(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("runs/selection"), help="pools and results (%(default)s)")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("NEXTMASK_DATA", "../shared/data")))
    parser.add_argument("--report", action="store_true", help="run nothing")
    return parser.parse_args()


def tasks(wanted: argparse.Namespace) -> Iterator[Task]:
    """Yield the tasks of the sections and strategies that are asked for."""
    rows = wanted.rows.split(",") if wanted.rows else None
    for section in wanted.sections.split(","):
        for task in SECTIONS[section]():
            if rows is None or task.strategy in rows:
                yield shrunk(task) if wanted.quick else task


@dataclass(frozen=True)
class OnePool:
    """A pool's name in the tables, its file, and the radius that coverage is measured at."""

    name: str
    path: Path
    samples: int
    radius: float


def pools(task: Task, wanted: argparse.Namespace, settings: Settings) -> Iterator[OnePool]:
    """Find or make the pools of a task."""
    if task.on == "volume":
        yield OnePool("volume", Path(), 0, 0.0)
    elif task.on == "real":
        from selection_real import real_pools

        for name, path in real_pools(wanted.data, settings.folder / "pools"):
            yield one_pool(name, path)
    else:
        for name in (name for name in wanted.pools.split(",") if name in task.pools):
            yield one_pool(name, selection_pools.stored(settings.folder / "pools", name, task.samples, task.dims))


def one_pool(name: str, path: Path) -> OnePool:
    """Open a pool far enough to know its size and the distance below which one pair in a hundred lies."""
    rows = np.load(path, mmap_mode="r")
    drawn = np.sort(np.random.default_rng(0).choice(len(rows), min(len(rows), 1000), replace=False))
    some = rows[drawn].astype(np.float64)
    squared = (some**2).sum(axis=1)
    apart = squared[:, None] + squared - 2 * some @ some.T
    radius = np.sqrt(np.quantile(apart[np.triu_indices(len(some), 1)].clip(0), 0.01))
    return OnePool(name, path, len(rows), float(np.round(radius, 4)))


def compare(task: Task, pool: OnePool, settings: Settings, wanted: argparse.Namespace) -> None:
    """Run nextmask and the peers of one task in turns, each as often as it is worth."""
    task = replace(task, samples=pool.samples, n=min(task.n, pool.samples // 4)) if task.on == "real" else task
    only = wanted.only.split(",") if wanted.only else None
    contestants = [name for name in ("nextmask", *task.peers) if only is None or name in only]
    for repeat in range(min(settings.repeats, task.repeats)):
        for contestant in contestants:
            there = matching(results(settings), task, pool.name, contestant)
            slow = any(record["status"] != "ok" or record["seconds"] > ONCE_OVER for record in there)
            if len(there) <= repeat and not slow:
                keep(one(task, pool, contestant, settings), task, pool.name, contestant, settings)


def one(task: Task, pool: OnePool, contestant: str, settings: Settings) -> Record:
    """Run one contestant in a process of its own, within the limits."""
    asked = {
        "contestant": contestant,
        "section": task.section,
        "strategy": task.strategy,
        "pool": str(pool.path),
        "mapped": task.mapped,
        "n": task.n,
        "labeled": task.labeled,
        "radius": pool.radius if task.radius else 0.0,
        "gamma": 1.0,
        "seed": 0,
        "quality": task.quality,
        "quick": settings.quick,
        "signal": str(settings.folder / "signal"),
    }
    signal, errors = settings.folder / "signal", settings.folder / "stderr.txt"
    signal.parent.mkdir(parents=True, exist_ok=True)
    signal.write_text("preparing")
    command = [sys.executable, str(HERE / "selection_one.py"), json.dumps(asked)]
    with errors.open("w") as stderr, limited(settings.threads):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment(task, settings)
        )
        status = watched(process, signal, settings)
    output = process.communicate()[0]
    if status:
        return {"status": status}
    last = (errors.read_text().strip().splitlines() or [""])[-1]
    if process.returncode:
        return {
            "status": "absent" if last.startswith(("LookupError", "ModuleNotFoundError")) else "failed",
            "error": last or f"exit status {process.returncode}",
        }
    return {"status": "ok", **json.loads(output.splitlines()[-1])}


def watched(process: subprocess.Popen[str], signal: Path, settings: Settings) -> str:
    """Wait for a process to end; where it goes beyond a limit, end it and say which."""
    used = psutil.Process(process.pid)
    since = {"": time.monotonic()}
    while process.poll() is None:
        phase = signal.read_text()
        since.setdefault(phase, time.monotonic())
        limit = settings.timeout if phase == "started" else PREPARING
        try:
            taken = used.memory_info()
        except psutil.NoSuchProcess:
            break
        over = "over memory" if taken.rss - taken.shared > settings.memory_gb * 1e9 else ""
        over = over or ("over time" if time.monotonic() - since[phase] > limit else "")
        if over:
            process.kill()
            return over
        time.sleep(0.05)
    return ""


class limited:
    """Keep a process started inside to so many cores."""

    def __init__(self, threads: int):
        self.threads = threads

    def __enter__(self) -> None:
        self.before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(self.before)[: self.threads])

    def __exit__(self, *_: object) -> None:
        os.sched_setaffinity(0, self.before)


def environment(task: Task, settings: Settings) -> dict[str, str]:
    """Hand on the environment with the number of threads, and the folder where numba keeps what it compiled."""
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(settings.threads)
    )
    # Where compilation itself is measured, what was compiled before must not be found.
    cache = settings.folder / ("numba-cold" if task.section == "first call" else "numba")
    if task.section == "first call":
        subprocess.run(["rm", "-rf", str(cache)], check=True)
    return {**os.environ, **threads, "NUMBA_CACHE_DIR": str(cache.resolve())}


def matching(records: Iterator[Record], task: Task, pool: str, contestant: str) -> list[Record]:
    """Pick the results of one contestant on one task by the code as it is now."""
    code = fingerprint(task.strategy, contestant)
    key = {"task": task.name, "section": task.section, "pool": pool, "contestant": contestant, "code": code}
    return [record for record in records if all(record[name] == value for name, value in key.items())]


def keep(record: Record, task: Task, pool: str, contestant: str, settings: Settings) -> None:
    """Append a result to the file and print it."""
    record = {
        "task": task.name,
        "pool": pool,
        "contestant": contestant,
        "code": fingerprint(task.strategy, contestant),
        "run": settings.run,
        "limit_s": settings.timeout,
        "limit_gb": settings.memory_gb,
        **{
            name: value
            for name, value in asdict(task).items()
            if name not in ("peers", "goal", "quality", "pools", "repeats")
        },
        "goal": asdict(task.goal) if task.goal else None,
        **record,
    }
    with (settings.folder / "results.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    spent = f"{record['seconds']:.2f} s, {record['megabytes']:.0f} MB" if record["status"] == "ok" else record["status"]
    print(f"{task.name} | {pool} | {contestant} | {spent} {record.get('error', '')}", flush=True)


def results(settings: Settings) -> Iterator[Record]:
    """Read what ran so far."""
    path = settings.folder / "results.jsonl"
    if path.exists():
        yield from (json.loads(line) for line in path.read_text().splitlines())


if __name__ == "__main__":
    main()
