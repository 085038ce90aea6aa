"""Where units of work run: processes of this machine, a Ray cluster, or Slurm. What comes of them is the same everywhere.

Each executor takes a function and jobs, and yields every job with what went wrong with it, or None, in the order in which they
end. The list of jobs may grow meanwhile: what was put off comes once more, after the others. What a job needs and what it makes
lies in files that every machine sees; nothing else is sent back.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from nextmask.errors import StudyError

Job = TypeVar("Job")
Ended = Iterator[tuple[Job, BaseException | None]]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class Executor(Protocol):
    """Whatever does jobs: yields each with what went wrong with it, or None."""

    def __call__(self, work: Callable[[Job], None], jobs: Sequence[Job]) -> Ended[Job]: ...


def choose_executor(
    on: str, *, workers: int, threads: int, gpus: float, folder: Path, slurm: Mapping[str, Any]
) -> Executor:
    """Return what does jobs: "local" (``workers`` processes; 0: this one), "ray" or "slurm" (its notes into ``folder``).

    Raises:
        StudyError: there is no such place.
    """
    if on == "local":
        return partial(in_processes, workers=workers, threads=threads) if workers else in_this_process
    if on == "ray":
        return partial(on_ray, threads=threads, gpus=gpus)
    if on == "slurm":
        return partial(on_slurm, folder=folder / "slurm", threads=threads, gpus=gpus, options=slurm)
    raise StudyError(
        f"units cannot be played on {on!r}. Expected local, ray or slurm. Leave out --on for this machine."
    )


def usual_workers(threads: int, devices: Iterable[str]) -> int:
    """Say how many processes of so many threads use all cores that this one may use, and no core twice.

    One where any of them is to use a GPU: how many fit into its memory is not known.
    """
    if set(devices) != {"cpu"}:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def in_this_process(work: Callable[[Job], None], jobs: Sequence[Job]) -> Ended[Job]:
    """Do one job after the other here, with the threads that this process has."""
    for job in jobs:
        with ThreadPoolExecutor(1) as here:
            yield job, here.submit(work, job).exception()


def in_processes(work: Callable[[Job], None], jobs: Sequence[Job], *, workers: int, threads: int) -> Ended[Job]:
    """Do so many jobs side by side, each in a process with so many threads.

    A process that dies takes its own job with it and no other; if this process dies, all of them end at once.
    """
    idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
    for _ in range(workers):
        idle.put(_process())

    def one(job: Job) -> tuple[Job, BaseException | None]:
        process = idle.get()
        try:
            try:
                ended = process.submit(work, job)
            except BrokenProcessPool:  # it was ended while it had nothing to do
                process = _process()
                ended = process.submit(work, job)
            error = ended.exception()
            if isinstance(error, BrokenProcessPool):
                process, error = _process(), StudyError(_ENDED)
            return job, error
        finally:
            idle.put(process)

    with _environment(threads), ThreadPoolExecutor(workers) as hosts:
        running: set[Future[tuple[Job, BaseException | None]]] = set()
        sent = 0
        try:
            while running or sent < len(jobs):
                running |= {hosts.submit(one, job) for job in jobs[sent:]}
                sent = len(jobs)
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
        finally:
            _cancel(running)
            for _ in range(workers):
                idle.get().shutdown()


def on_ray(work: Callable[[Job], None], jobs: Sequence[Job], *, threads: int, gpus: float) -> Ended[Job]:
    """Do the jobs on a Ray cluster: the one that RAY_ADDRESS names or that this machine is part of, or one made here.

    A job whose node dies is done again on another. Every node must see the files under the same paths.
    """
    ray = ray_cluster()
    from ray.exceptions import RayError

    remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=20)(work)
    waiting: dict[Any, Job] = {}
    sent = 0
    while waiting or sent < len(jobs):
        waiting |= {remote.remote(job): job for job in jobs[sent:]}
        sent = len(jobs)
        for done in ray.wait(list(waiting))[0]:
            job, wrong = waiting.pop(done), None
            try:
                ray.get(done)
            except RayError as error:
                wrong = error
            yield job, wrong


def ray_cluster() -> Any:
    """Return the module ray, connected: to what RAY_ADDRESS names, to what this machine is part of, or to one made here."""
    try:
        import ray
    except ImportError as error:
        raise StudyError(_absent("Ray", "ray")) from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    return ray


def on_slurm(
    work: Callable[[Job], None],
    jobs: Sequence[Job],
    *,
    folder: Path,
    threads: int,
    gpus: float,
    options: Mapping[str, Any],
    poll_seconds: float = 10.0,
) -> Ended[Job]:
    """Submit the jobs to Slurm as an array through submitit, and wait for them; ``options`` are submitit's.

    What was put off is another array, when the first has ended.
    """
    try:
        import submitit
        from submitit.helpers import as_completed as as_ended
    except ImportError as error:
        raise StudyError(_absent("submitit", "slurm")) from error
    executor = submitit.AutoExecutor(folder=folder, cluster=options.get("cluster"))
    given = {name: value for name, value in options.items() if name != "cluster"}
    wanted = {"name": "nextmask", "cpus_per_task": threads, **({"gpus_per_node": int(-(-gpus // 1))} if gpus else {})}
    executor.update_parameters(**{**wanted, **given})
    sent = 0
    while sent < len(jobs):
        array, sent = jobs[sent:], len(jobs)
        with _environment(threads):
            submitted = dict(zip(executor.map_array(work, list(array)), array, strict=True))
        for done in as_ended(list(submitted), poll_frequency=poll_seconds):
            yield submitted[done], done.exception()


_ENDED = (
    "the process that played this unit was ended from outside. Expected it to come to its end. Where memory ran out, play fewer "
    "units side by side (--workers) or smaller images; the same command tries again."
)


def _process() -> ProcessPoolExecutor:
    """Make a process that is started when first used; not forked, because this one may run threads."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Let this process end when the one that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Tell processes that start now how many threads to use: numerical libraries read it when they are loaded."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _cancel(futures: Iterable[Future[Any]]) -> None:
    for future in futures:
        future.cancel()


def _absent(what: str, extra: str) -> str:
    return (
        f"{what} is not installed, so nothing can run there. Expected the extra {extra!r} of nextmask. Run "
        f"pip install 'nextmask[{extra}]', or leave out --on to play the units on this machine."
    )
