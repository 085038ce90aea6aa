"""Kill the process anywhere in any verb, many times; resuming must give what an undisturbed run gives."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextmask.data.files import digest
from nextmask.study.ledger import Ledger
from nextmask.study.simulate import FOLDER, simulate
from nextmask.study.study import Study

VERBS = {"query", "annotate", "train", "evaluate"}


SETTINGS = {"iterations": 6}


def play_and_die(home: Path, write: int) -> None:
    """Play, and kill this very process just before its ``write``-th write reaches the disk."""
    real_sync, real_append = os.fsync, Ledger.append
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count == write:
            os.kill(os.getpid(), signal.SIGKILL)

    def sync(handle: int) -> None:
        tick()
        real_sync(handle)

    def append(self: Ledger, *args: Any, **kwargs: Any) -> Any:
        tick()
        event = real_append(self, *args, **kwargs)
        tick()
        return event

    os.fsync = sync
    Ledger.append = append  # type: ignore[method-assign]
    play_one(home)


def play_one(home: Path) -> None:
    """Both rounds in one simulation: random first, then by uncertainty."""
    study = simulate(home, strategy="random", query_size=3, rounds=1, seed=1, settings=SETTINGS)
    if len(study.rounds) == 1:
        study.query(3, "most_uncertain")
    simulate(home, strategy="random", query_size=3, rounds=2, seed=1, settings=SETTINGS)


def outcome(home: Path) -> dict[str, Any]:
    """All that must not depend on when the process was killed: times and authors aside."""
    study = Study(next((home / FOLDER).iterdir()))
    return {
        "samples": [round.samples for round in study.rounds],
        "masks": [dict(sorted(round.masks.items())) for round in study.rounds],
        "dropped": [round.dropped for round in study.rounds],
        "weights": [weights(study, round) for round in study.rounds],
        "scores": [round.scores for round in study.rounds],
        "events": Counter((event.kind, event.payload.get("sample")) for event in study.events),
        "mask files": sorted(path.name for path in (study.folder / "masks").iterdir()),
    }


def weights(study: Study, round: Any) -> str:
    from nextmask.training.predict import load_segmenter

    state = load_segmenter(study.path(round.segmenter), "cpu").network.state_dict()
    return str({name: float(np.abs(value.double().numpy()).sum()) for name, value in state.items()})


def whole_files(home: Path) -> None:
    """After any crash, every event verifies and every file that one names is there, whole."""
    for folder in (home / FOLDER).glob("*"):
        for event in Ledger(folder / "ledger.sqlite").read():
            if "path" in event.payload:
                assert digest(folder / event.payload["path"]) == event.payload["sha256"]


def stage(home: Path) -> str:
    """Name the verb that a killed process was at."""
    said = "".join(note.read_text() for note in (home / FOLDER).glob("*/.writer"))
    return said.split("`")[1].split()[1] if said else "new"  # a note is empty while it is being written


@pytest.fixture(scope="module")
def context():
    """Processes that start in milliseconds, because their server has torch and monai loaded already."""
    server = multiprocessing.get_context("forkserver")
    # torch._dynamo is what torch's optimisers import when the first one is made; it takes seconds.
    server.set_forkserver_preload(
        ["nextmask.study.simulate", "nextmask.training.train", "monai.networks.nets", "torch._dynamo"]
    )
    return server


def run(context: Any, target: Any, *args: Any, kill_after: float | None = None) -> int:
    process = context.Process(target=target, args=args)
    process.start()
    if kill_after is not None:
        time.sleep(kill_after)
        process.kill()
    process.join()
    return process.exitcode


def crash_until_done(context: Any, home: Path, rng: random.Random, within: float | None = None) -> Counter:
    """Kill again and again: at a random time ``within`` so many seconds, or at one of the next few writes.

    Times start short and grow, so that the first processes surely die and a later one surely ends.
    """
    died_in: Counter[str] = Counter()
    for attempt in range(1, 201):
        if within is not None:
            code = run(context, play_one, home, kill_after=rng.uniform(0.0, within * min(1.0, 0.1 * attempt)))
        else:
            code = run(context, play_and_die, home, rng.randint(1, 9))
        if code == 0:
            return died_in
        assert code == -signal.SIGKILL
        died_in[stage(home)] += 1
        whole_files(home)
    raise AssertionError("200 kills and still no end: resuming makes no progress")


@pytest.fixture(scope="module")
def undisturbed(made_study, tmp_path_factory, context):
    """What comes out when nobody is killed, and how many seconds that takes."""
    run(context, time.sleep, 0)  # start the server of processes before the clock
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(made_study, folder, dirs_exist_ok=True)
    started = time.monotonic()
    assert run(context, play_one, folder / "study") == 0
    return outcome(folder / "study"), time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_its_writes(context, home, undisturbed, seed):
    died_in = crash_until_done(context, home, random.Random(seed))
    assert sum(died_in.values()) >= 8
    assert outcome(home) == undisturbed[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_time(context, home, undisturbed, seed):
    died_in = crash_until_done(context, home, random.Random(seed), within=undisturbed[1])
    assert sum(died_in.values()) >= 2
    assert outcome(home) == undisturbed[0]


def test_killed_in_every_verb(context, home, undisturbed):
    died_in = crash_until_done(context, home, random.Random(11))
    assert set(died_in) >= VERBS
    assert outcome(home) == undisturbed[0]
