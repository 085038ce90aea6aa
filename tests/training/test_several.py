"""Two processes on the CPU train what one trains: the same batches, losses and steps, up to rounding."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.toys import TINY, toy

from nextmask.errors import TrainingError
from nextmask.networks.share import Share
from nextmask.training.several import fit_on
from nextmask.training.train import fit

pytest.importorskip("lightning_fabric", reason="needs nextmask[multigpu]")

SAMPLES = [partial(toy, (32, 32), k) for k in range(5)]
CONFIG = dataclasses.replace(TINY, iterations=3, average=0.9, learning_rate=1e-3)
EVERYTHING = dataclasses.replace(
    CONFIG,
    objectives=tuple((name, 1.0) for name in ("supervised", "soft_dmpls", "unimatch", "cross_pseudo", "copy_paste")),
    unlabeled_batch_size=2,
    dropout=0.1,
    accumulate=2,
    snapshots=2,
)


def image(k):
    return toy((32, 32), k)[0]


OPTIONS = {"seed": [5], "device": "cpu", "unlabeled": [partial(image, k) for k in range(20, 27)]}


def apart(together, alone, config):
    """Return how far the kernels of two segmenters lie apart, as a share of how far the training moved them.

    The gradient of a bias in front of a normalisation is 0 but for rounding, which AdamW blows up to whole steps.
    """
    unmoved = fit(SAMPLES, dataclasses.replace(config, learning_rate=1e-12), **OPTIONS)
    one, other, start = ([w for n in each.networks for w in kernels(n)] for each in (together, alone, unmoved))
    return (torch.cat(one) - torch.cat(other)).norm() / (torch.cat(other) - torch.cat(start)).norm()


def kernels(network):
    return [weight.detach().flatten() for weight in network.parameters() if weight.ndim > 1]


@pytest.mark.parametrize("config", [EVERYTHING, pytest.param(CONFIG, marks=pytest.mark.slow)])
def test_two_processes_arrive_at_the_weights_of_one(config, tmp_path):
    seen = []
    together = fit_on(
        2,
        SAMPLES,
        config,
        **OPTIONS,
        checkpoint=tmp_path / "c.pt",
        progress=lambda done, total: seen.append((done, total)),
    )
    alone = fit(SAMPLES, config, **OPTIONS)
    assert apart(together, alone, config) < 1e-3
    np.testing.assert_allclose(together.predict(image(100)), alone.predict(image(100)), atol=1e-4)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


def broken():
    """Open a sample, but not for the second of two processes."""
    if os.environ.get("LOCAL_RANK") == "1":
        raise OSError("the disk of the second process is gone")
    return toy((32, 32), 0)


def test_a_process_that_fails_ends_all():
    with pytest.raises(
        TrainingError,
        match=r"One of 2 processes .* ended: OSError: the disk of the second.* Expected all to reach the end",
    ):
        fit_on(2, [broken], CONFIG, seed=[0], device="cpu")


def test_what_cannot_be_shared_is_refused(monkeypatch):
    with pytest.raises(TrainingError, match=r"devices = 3 with batch_size = 4.*divide"):
        fit_on(3, SAMPLES, CONFIG, **OPTIONS)
    with pytest.raises(TrainingError, match=r'norm = batch.*norm = "instance"'):
        fit_on(2, SAMPLES, dataclasses.replace(CONFIG, norm="batch"), **OPTIONS)
    monkeypatch.setattr("nextmask.training.several.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"pip install \"nextmask\[multigpu\]\""):
        fit_on(2, SAMPLES, CONFIG, **OPTIONS)
    assert fit_on(1, SAMPLES, CONFIG, **OPTIONS).networks


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an accelerator")
def test_devices_that_are_not_there_are_refused():
    with pytest.raises(TrainingError, match="is not there"):
        fit_on(2, SAMPLES, CONFIG, **{**OPTIONS, "device": "cuda"})


def test_parts_of_a_batch_are_the_whole():
    batch = torch.arange(6)
    assert torch.equal(torch.cat([Share(rank, 3).own(batch) for rank in range(3)]), batch)
    assert Share().own(batch) is batch
    assert Share().whole(batch) is batch


KILLED = """
import sys
from pathlib import Path
from tests.training.test_several import EVERYTHING, OPTIONS, SAMPLES, dataclasses, fit_on
if __name__ == "__main__":
    fit_on(2, SAMPLES, dataclasses.replace(EVERYTHING, iterations=12), **OPTIONS, checkpoint=Path(sys.argv[1]),
        checkpoint_seconds=0, progress=lambda *done: print(*done, flush=True))
"""


@pytest.mark.slow
def test_killed_it_goes_on_and_arrives_at_the_same_weights(tmp_path):
    root = Path(__file__).parents[2]
    script, path = tmp_path / "killed.py", tmp_path / "c.pt"
    script.write_text(KILLED)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    command = [sys.executable, str(script), str(path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"4 "):
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    config, seen = dataclasses.replace(EVERYTHING, iterations=12), []
    resumed = fit_on(2, SAMPLES, config, **OPTIONS, checkpoint=path, progress=lambda *done: seen.append(done))
    assert 4 < seen[0][0] <= 12
    assert apart(resumed, fit(SAMPLES, config, **OPTIONS), config) < 1e-3
