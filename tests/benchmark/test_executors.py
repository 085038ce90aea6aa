"""Where jobs run: all end, each with what went wrong with it alone, and none outlives whoever started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from nextmask.benchmark import executors
from nextmask.benchmark.executors import (
    THREADS,
    choose_executor,
    in_processes,
    in_this_process,
    on_slurm,
    usual_workers,
)
from nextmask.errors import StudyError


def write(folder: Path, job: str) -> None:
    """Leave a file that says where the job was done; some jobs go wrong."""
    if job == "refused":
        raise StudyError("it cannot be done")
    if job == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / job).write_text(f"{os.getpid()} {[os.environ.get(name) for name in THREADS]}")


def sleep(folder: Path, job: str) -> None:
    (folder / job).write_text(str(os.getpid()))
    time.sleep(600)


def start_and_wait(folder: Path) -> None:
    list(in_processes(partial(sleep, folder), ["a"], workers=1, threads=1))


JOBS = ["a", "refused", "killed", "b", "c"]


def test_one_job_that_fails_or_dies_stops_no_other(tmp_path):
    ended = dict(in_processes(partial(write, tmp_path), JOBS, workers=1, threads=1))
    assert set(ended) == set(JOBS)
    assert [job for job in JOBS if ended[job] is None] == ["a", "b", "c"]
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}
    assert str(ended["refused"]) == "it cannot be done"
    assert "ended from outside" in str(ended["killed"])


def test_a_process_that_ends_between_jobs_is_replaced(tmp_path, monkeypatch):
    broken, real = executors._process(), executors._process
    assert broken.submit(write, tmp_path, "killed").exception()
    made = iter([broken])
    monkeypatch.setattr(executors, "_process", lambda: next(made, None) or real())
    assert dict(in_processes(partial(write, tmp_path), ["a", "b"], workers=1, threads=1)) == {"a": None, "b": None}


def test_processes_are_others_and_have_their_number_of_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert dict(in_processes(partial(write, tmp_path), ["a", "b"], workers=2, threads=3)) == {"a": None, "b": None}
    for job in "ab":
        process, _, threads = (tmp_path / job).read_text().partition(" ")
        assert int(process) != os.getpid()
        assert threads == str(["3"] * len(THREADS))
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_in_this_process_jobs_run_here_in_order(tmp_path):
    ended = list(in_this_process(partial(write, tmp_path), ["a", "refused", "b"]))
    assert [job for job, _ in ended] == ["a", "refused", "b"]
    assert [type(error) for _, error in ended] == [type(None), StudyError, type(None)]
    assert (tmp_path / "a").read_text().startswith(f"{os.getpid()} ")


@pytest.mark.parametrize("executor", [in_this_process, partial(in_processes, workers=2, threads=1)])
def test_jobs_that_are_added_meanwhile_are_done_after_the_others(executor, tmp_path):
    jobs, ended = ["a", "b"], []
    for job, _ in executor(partial(write, tmp_path), jobs):
        ended.append(job)
        if job in "ac":
            jobs.append({"a": "c", "c": "d"}[job])
    assert sorted(ended) == sorted(jobs) == ["a", "b", "c", "d"]
    assert (tmp_path / "d").exists()


def test_processes_end_with_whoever_started_them(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=start_and_wait, args=(tmp_path,))
    process.start()
    started = wait_for(lambda: (tmp_path / "a").exists() and (tmp_path / "a").read_text())
    process.kill()
    process.join()
    assert wait_for(lambda: not alive(int(started)))


def wait_for(what, seconds: float = 60.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def alive(process: int) -> bool:
    """Say whether a process runs; one that nobody has buried yet does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def test_there_is_no_executor_of_that_name(tmp_path):
    with pytest.raises(StudyError, match="Expected local, ray or slurm"):
        choose_executor("moon", workers=1, threads=1, gpus=0, folder=tmp_path, slurm={})


def test_all_cores_are_used_and_none_twice(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(9)), raising=False)
    assert [usual_workers(threads, ["cpu"]) for threads in (1, 2, 4, 16)] == [9, 4, 2, 1]
    assert usual_workers(1, ["cpu", "cuda"]) == 1


@pytest.mark.parametrize(("on", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_what_is_not_installed_is_said_with_how_to_get_it(on, module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    executor = choose_executor(on, workers=1, threads=1, gpus=0, folder=tmp_path, slurm={})
    with pytest.raises(StudyError, match=f"nextmask\\[{on}\\]"):
        list(executor(partial(write, tmp_path), ["a"]))


def test_jobs_go_to_slurm_through_submitit(tmp_path):
    pytest.importorskip("submitit")
    options = {"cluster": "local", "timeout_min": 5}
    places = {"folder": tmp_path / "slurm", "threads": 2, "gpus": 0, "options": options, "poll_seconds": 0.1}
    ended = dict(on_slurm(partial(write, tmp_path), ["a", "refused"], **places))
    assert ended["a"] is None
    assert (tmp_path / "a").exists()
    assert "it cannot be done" in str(ended["refused"])


def test_executors_load_no_numerical_library():
    """Else a process would have read its number of threads before it is told."""
    code = "import sys, nextmask.benchmark.executors; print([m for m in ('numpy', 'torch') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
