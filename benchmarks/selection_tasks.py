"""What selection.py measures: the tasks, their peers, and what was to be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Goal:
    """What a task is to reach: seconds and MiB at most (``megabytes``), times as fast as a peer, and the same picks as a peer."""

    seconds: float | None = None
    megabytes: float | None = None
    times: float | None = None
    than: str | None = None
    same_picks: bool = False
    no_worse: str | None = None
    """A figure of quality that is to be no higher than the peers'."""


@dataclass(frozen=True)
class Task:
    """One line of a table: a strategy, the size of its pool, how many it chooses, and whom it is measured against."""

    strategy: str
    samples: int = 0
    n: int = 100
    peers: tuple[str, ...] = ()
    goal: Goal | None = None
    section: str = "table"
    on: str = "pools"
    dims: int = 512
    labeled: int = 100
    mapped: bool = False
    radius: bool = False
    quality: bool = True
    pools: tuple[str, ...] = ("med", "hard")
    repeats: int = 3

    @property
    def name(self) -> str:
        """Say what is done at which size."""
        if self.on == "volume":
            return self.strategy
        dims = f", d = {self.dims}" if self.dims != 512 and self.on == "pools" else ""
        size = f"N = {thousands(self.samples)}, " if self.on == "pools" else ""
        return f"{self.strategy}, {size}n = {self.n:,}{dims}"


def thousands(number: int) -> str:
    """Write 200000 as 200 K and 1000000 as 1 M."""
    for unit, size in (("M", 1_000_000), ("K", 1_000)):
        if number >= size and number % (size // 10) == 0:
            return f"{number / size:g} {unit}"
    return str(number)


CORESET = "scikit-activeml CoreSet"
TYPICLUST = ("scikit-activeml TypiClust", "TypiClust's authors (re-expressed)")
PROB_COVER = ("scikit-activeml ProbCover", "ProbCover's authors (re-expressed)")
HERDING = "scikit-activeml MaxHerding"
BADGE = "scikit-activeml Badge"
K_MEANS = ("scikit-learn KMeans", "faiss Kmeans")
FACILITY = ("submodlib, 100 neighbours", "submodlib, dense", "apricot")
NNACTIVE = "nnActive (re-expressed)"


def table() -> Iterator[Task]:
    """The table of the issue."""
    goal = Goal(megabytes=50, times=80, than=CORESET, same_picks=True)
    yield Task("k_center", 200_000, 1000, (CORESET,), goal)
    yield Task("k_center", 1_000_000, 1000, (CORESET,), Goal(seconds=6, megabytes=100), mapped=True, quality=False)
    goal = Goal(megabytes=300, times=10, than=PROB_COVER[1])
    yield Task("prob_cover", 50_000, 100, PROB_COVER, goal, radius=True)
    yield Task("prob_cover", 200_000, 100, PROB_COVER[1:], Goal(seconds=20), radius=True)
    yield Task("max_herding", 50_000, 100, (HERDING,), Goal(seconds=10, megabytes=500))
    yield Task("typiclust", 200_000, 100, TYPICLUST, Goal(seconds=4))
    yield Task("typiclust", 200_000, 1000, TYPICLUST, Goal(seconds=10))
    yield Task("badge", 50_000, 100, (BADGE,), Goal(megabytes=50, times=200, than=BADGE))
    yield Task("kmeans_medoids", 200_000, 1000, K_MEANS, Goal(seconds=10))
    yield Task("measures", peers=(NNACTIVE,), goal=Goal(0.3, 100, same_picks=True), on="volume", quality=False)
    yield Task("facility_location", 50_000, 100, FACILITY, Goal(seconds=5))


def k_means() -> Iterator[Task]:
    """k-means beside the public ones: inertia and time."""
    peers = (*K_MEANS, "scikit-learn MiniBatchKMeans")
    for samples in (50_000, 200_000):
        for n in (100, 1000):
            yield Task("k_means", samples, n, peers, Goal(no_worse="mean_squared"), "k-means")


def cost() -> Iterator[Task]:
    """How cost grows with N, n and d."""
    for strategy in ("k_center", "typiclust", "prob_cover", "badge"):
        base = Task(strategy, 50_000, 300, section="cost", radius=strategy == "prob_cover", quality=False)
        for samples in (12_500, 25_000, 50_000, 100_000, 200_000):
            yield replace(base, samples=samples)
        for n in (30, 100, 1000, 3000):
            yield replace(base, n=n)
        for dims in (64, 128, 256, 1024):
            yield replace(base, dims=dims)


def every() -> Iterator[Task]:
    """Every strategy once, on one pool."""
    from nextmask.selection import STRATEGIES

    for name in STRATEGIES:
        yield Task(name, 20_000, 100, section="every strategy", quality=False, radius=name == "prob_cover")


def first_call() -> Iterator[Task]:
    """The first call after an installation, with nothing compiled."""
    for task in every():
        yield replace(task, section="first call", pools=("med",), repeats=1)


def huge() -> Iterator[Task]:
    """Ten million samples in two stages: the pools take 2.5 and 20 GB of disk each."""
    for dims in (64, 512):
        yield Task("two_stage_k_center", 10_000_000, 1000, section="huge", dims=dims, mapped=True, quality=False)


def real() -> Iterator[Task]:
    """The table's strategies at the size of real data."""
    seen = set()
    for task in table():
        if task.on == "pools" and task.strategy not in seen:
            seen.add(task.strategy)
            yield replace(task, n=100, on="real", section="real", goal=None, mapped=False, labeled=20, quality=True)


SECTIONS: dict[str, Callable[[], Iterator[Task]]] = {
    "table": table,
    "k-means": k_means,
    "real": real,
    "every": every,
    "cost": cost,
    "first": first_call,
    "huge": huge,
}
"""Tasks by the name that --sections gives them."""

USUAL = ",".join(name for name in SECTIONS if name != "huge")
"""Sections that run without being asked for."""


def shrunk(task: Task) -> Task:
    """Make a task that takes seconds; nothing is to be reached at that size."""
    return replace(task, samples=max(task.samples // 20, 500), n=max(task.n // 10, 5), goal=None)
