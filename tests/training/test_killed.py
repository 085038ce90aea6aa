"""A training that is killed at any moment goes on to the very weights of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

TRAINING = """
import dataclasses, sys
from pathlib import Path
import torch
from nextmask.training.train import fit
from tests.training.toys import TINY, samples, scribbled, toy
config = dataclasses.replace(TINY, iterations=40, batch_size=2, average=0.9, unlabeled_batch_size=2, dropout=0.1,
    objectives=(("supervised", 1.0), ("soft_dmpls", 1.0), ("unimatch", 1.0)), snapshots=2, accumulate=2)
images = [lambda k=k: toy((32, 32), k)[0] for k in range(20, 26)]
print("ready", flush=True)
segmenter = fit(samples((32, 32), change=scribbled), config, seed=[5], device="cpu", unlabeled=images,
    checkpoint=Path(sys.argv[1]), checkpoint_seconds=0)
torch.save([network.state_dict() for network in segmenter.networks], sys.argv[2])
"""


def finish(folder: Path, name: str) -> int:
    with start(folder, name) as process:
        return process.wait()


def start(folder: Path, name: str) -> subprocess.Popen:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    command = [sys.executable, "-c", TRAINING, str(folder / f"{name}.checkpoint"), str(folder / f"{name}.pt")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, cwd=root)


def weights(path: Path) -> list[dict[str, torch.Tensor]]:
    return torch.load(path, weights_only=True)


@pytest.mark.slow
def test_killed_at_random_and_started_again_it_gives_the_same_weights(tmp_path):
    assert finish(tmp_path, "whole") == 0
    rng, kills = np.random.default_rng(), 0
    for _ in range(30):
        process = start(tmp_path, "killed")
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        time.sleep(rng.uniform(0.3, 2.0))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        if process.wait() == 0:
            break
        if kills == 4:
            assert finish(tmp_path, "killed") == 0
            break
    assert kills >= 1
    for one, other in zip(weights(tmp_path / "whole.pt"), weights(tmp_path / "killed.pt"), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
