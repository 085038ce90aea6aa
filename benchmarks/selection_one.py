"""Run one contestant once, in a process of its own, and say what it took; started by selection.py only.

    python benchmarks/selection_one.py '{"contestant": "nextmask", "strategy": "k_center", "pool": "med-50000x512-0.npy", ...}'

Before the clock starts everything is imported, the pool is loaded (or mapped and read through once) and the contestant has
answered on a small pool, so that neither imports nor compilation are in the seconds. Memory is how far the peak of this
process rises above what it held just before.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import selection_pools
from selection_evidence import evidence
from selection_peers import CENTRES, PEERS, Given, nnactive_measures, nnactive_patches

WARM_UP = {"nextmask": (20_000, 100), "peer": (2_000, 10)}
"""Rows and picks of the call before the clock starts; the peers compile nothing, and some take N x N numbers."""

ON_THE_SPHERE = ("max_herding", "facility_location")
"""Strategies that see embeddings of unit length, so that their answers are judged there."""

MEMBERS = (5, 4, 128, 128, 128)
"""Members, classes and voxels of the volume that the dense measures see."""

Contestant = Callable[[Given], Any]


def main() -> None:
    """Measure what the argument asks for and print it as one line of JSON."""
    asked = json.loads(sys.argv[1])
    signal = Path(asked["signal"])
    print(json.dumps(measures(asked, signal) if asked["strategy"] in VOLUMES else strategy(asked, signal)))


def strategy(asked: dict[str, Any], signal: Path) -> dict[str, Any]:
    """Time one choice of samples."""
    contestant = found(asked)
    pool = opened(Path(asked["pool"]), asked["mapped"])
    given = what_is_given(asked, pool, asked["n"])
    rows, picks = WARM_UP["nextmask" if asked["contestant"] == "nextmask" else "peer"]
    small = what_is_given(asked, np.array(pool[:rows]), min(asked["n"], picks))
    with nullcontext() if asked["section"] == "first call" else compiling_whatever_the_size():
        compiled, first_call = compiling(lambda: contestant(small))
    late, answer, spent = timed(lambda: contestant(given), signal)
    found_out = {**spent, "first_call_s": first_call, "compile_s": compiled, "late_compile_s": late}
    if asked["contestant"] == "nextmask" and asked["strategy"] != "k_means":
        found_out["checks_s"] = checks(given)
    if asked["quality"]:
        found_out["quality"] = quality(given, answer, asked["strategy"] in ON_THE_SPHERE)
    if answer.ndim == 1:
        found_out["picks"] = answer.tolist()
    return found_out


def found(asked: dict[str, Any]) -> Contestant:
    """Look a contestant up; LookupError where nextmask does not have the strategy (yet)."""
    name, by_centres = asked["contestant"], asked["strategy"] == "k_means"
    if name != "nextmask":
        return (CENTRES if by_centres else PEERS)[name]
    return nextmask_centres if by_centres else nextmask_strategy(asked["strategy"])


def nextmask_centres(given: Given) -> np.ndarray:
    """Cluster with nextmask's k-means."""
    from nextmask.selection.geometry.k_means import k_means

    return k_means(given.embeddings, given.n, np.random.default_rng(given.seed)).centres


def nextmask_strategy(name: str) -> Contestant:
    """Wrap a strategy of nextmask so that it takes what the peers take."""
    from nextmask.selection import STRATEGIES, needs

    if name not in STRATEGIES:
        raise LookupError(f"nextmask has no {name}")
    function = STRATEGIES[name]
    parameters = inspect.signature(function).parameters

    def contestant(given: Given) -> np.ndarray:
        evidence = {need: evidence_for(need, given) for need in needs(function)}
        options = {"radius": given.radius} if given.radius and "radius" in parameters else {}
        rng = np.random.default_rng(given.seed)
        return np.asarray(function(**evidence, labeled=given.labeled, n=given.n, rng=rng, **options))

    return contestant


def evidence_for(name: str, given: Given) -> np.ndarray:
    """Make up evidence; embeddings and what comes of the probabilities are what the peers see."""
    if name in ("embeddings", "graph_embeddings"):
        return given.embeddings
    if name == "residual":
        predicted = np.eye(given.probabilities.shape[1], dtype=np.float32)[given.probabilities.argmax(axis=1)]
        return given.probabilities - predicted
    return evidence(name, len(given.labeled))


def what_is_given(asked: dict[str, Any], pool: np.ndarray, n: int) -> Given:
    """Put together what a contestant sees of a pool or of its first rows."""
    labeled = selection_pools.labeled(len(pool), min(asked["labeled"], len(pool) // 4), asked["seed"])
    probabilities = selection_pools.probabilities(len(pool)) if asked["strategy"] == "badge" else None
    return Given(pool, labeled, n, asked["seed"], asked["radius"], asked["gamma"], probabilities)


def opened(path: Path, mapped: bool) -> np.ndarray:
    """Load a pool, or map it and touch every page once: pages of the file are no memory that a contestant took."""
    pool = np.load(path, mmap_mode="r" if mapped else None)
    for start in range(0, len(pool), 65536):
        pool[start : start + 65536].max()
    return pool


def compiling(call: Callable[[], Any]) -> tuple[float, float]:
    """Call, and return the seconds that numba compiled in it and the seconds that it took in all."""
    timers: list[float] = []
    started = time.perf_counter()
    with watched(timers):
        call()
    return sum(timers), time.perf_counter() - started


@contextmanager
def compiling_whatever_the_size() -> Iterator[None]:
    """Let nextmask compile on a small pool what it would compile only on a large one."""
    limits = [
        (module, module.WORTH_COMPILING)
        for name, module in sys.modules.items()
        if name.startswith("nextmask.selection") and hasattr(module, "WORTH_COMPILING")
    ]
    for module, _ in limits:
        module.WORTH_COMPILING = 0
    yield
    for module, limit in limits:
        module.WORTH_COMPILING = limit


def watched(timers: list[float]) -> Any:
    """Note the seconds of every compilation; nothing where numba is not installed."""
    try:
        from numba.core.event import install_timer
    except ImportError:
        return nullcontext()
    return install_timer("numba:compile", timers.append)


def timed(call: Callable[[], Any], signal: Path) -> tuple[float, Any, dict[str, float]]:
    """Call once under the clock; return seconds of late compilation, the answer, and seconds and MB spent."""
    held = settle()
    signal.write_text("started")
    answers: list[Any] = []
    late, seconds = compiling(lambda: answers.append(call()))
    peak = status("VmHWM")
    signal.write_text("done")
    return late, answers[0], {"seconds": seconds, "megabytes": max(peak - held, 0) / 1e6}


def settle() -> int:
    """Give freed memory back to the system, forget the peak so far, and return what is held now, in bytes."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(name: str) -> int:
    """Read one of the kernel's figures on this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def checks(given: Given) -> float:
    """Seconds that `select` adds to a strategy for its checks: mostly one look at every number for NaN."""
    from nextmask.selection import select

    def none(embeddings: Any, labeled: Any, n: int, *, rng: Any) -> Any:
        return np.flatnonzero(~labeled)[:n]

    started = time.perf_counter()
    select(none, {"embeddings": lambda: given.embeddings}, given.labeled, given.n, rng=np.random.default_rng(0))
    return time.perf_counter() - started


def quality(given: Given, answer: np.ndarray, on_sphere: bool) -> dict[str, float]:
    """Say how good an answer is by what several strategies want: all from each sample's nearest pick or labeled sample."""
    chosen = answer if answer.ndim == 2 else given.embeddings[np.union1d(answer, np.flatnonzero(given.labeled))]
    squared = nearest_squared(given.embeddings, np.asarray(chosen, dtype=np.float32), on_sphere)
    return {
        "distinct": float(len(np.unique(answer, axis=0))),
        "radius": float(np.sqrt(squared.max())),
        "mean_squared": float(squared.mean()),
        "covered": float((squared <= given.radius**2).mean()),
        "mean_kernel": float(np.exp(-given.gamma * squared).mean()),
    }


def nearest_squared(pool: np.ndarray, chosen: np.ndarray, on_sphere: bool) -> np.ndarray:
    """Squared distance of every row to the nearest of the chosen, float32 products in blocks."""
    best = np.empty(len(pool))
    chosen = of_unit_length(chosen) if on_sphere else chosen
    norms = np.einsum("ij,ij->i", chosen, chosen)
    for start in range(0, len(pool), 4096):
        block = np.asarray(pool[start : start + 4096])
        block = of_unit_length(block) if on_sphere else block
        apart = np.einsum("ij,ij->i", block, block)[:, None] + norms - 2 * (block @ chosen.T)
        best[start : start + 4096] = np.maximum(apart.min(axis=1), 0)
    return best


def of_unit_length(rows: np.ndarray) -> np.ndarray:
    """Scale every row to length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)


def measures(asked: dict[str, Any], signal: Path) -> dict[str, Any]:
    """Time all dense measures of one volume, and the best patches of its entropy."""
    members = selection_pools.members(MEMBERS if not asked["quick"] else (5, 4, 48, 48, 48), asked["seed"])
    contestant = VOLUMES[asked["strategy"]][asked["contestant"]]
    small = np.ascontiguousarray(members[..., :36, :36, :36])
    compiled, first_call = compiling(lambda: contestant(small))
    late, answer, spent = timed(lambda: contestant(members), signal)
    return {**spent, "first_call_s": first_call, "compile_s": compiled, "late_compile_s": late, "picks": answer}


def nnactive_all(members: np.ndarray) -> list[list[int]]:
    """Time nnActive's way, re-expressed."""
    return nnactive_patches(nnactive_measures(members)["entropy"]).tolist()


def nextmask_all(members: np.ndarray) -> list[list[int]]:
    """Time nextmask's way."""
    from nextmask.selection.measures.dense import DENSE, dense_measures
    from nextmask.selection.measures.patches import best_patches

    maps = dense_measures(list(members), DENSE)
    return best_patches(maps["entropy"], (32, 32, 32), 20)[0].tolist()


VOLUMES: dict[str, dict[str, Callable[[np.ndarray], list[list[int]]]]] = {
    "measures": {"nextmask": nextmask_all, "nnActive (re-expressed)": nnactive_all}
}
"""Tasks on one volume's probabilities instead of a pool's embeddings."""

if __name__ == "__main__":
    main()
