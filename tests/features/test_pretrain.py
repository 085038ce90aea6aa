"""Every task learns something, is decided by its seed, survives being killed, and says what it cannot use."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tests.features.pools import SIDE, config, pool

from nextmask.errors import DataError, TrainingError
from nextmask.features.pretrain import load_encoder, pretrain, save_encoder
from nextmask.features.tasks import TASKS, derive_pretrain_config
from nextmask.features.unlabeled import Unlabeled, shuffled_passes
from nextmask.networks.patches import read_patch


def run(task, where=None, pool=pool(), **changes):  # noqa: B008
    progress = changes.pop("progress", None)
    seed = changes.pop("seed", [3])
    settings = config(task, **changes)
    return pretrain(
        pool,
        settings,
        TASKS[task],
        seed=seed,
        device="cpu",
        checkpoint=where,
        checkpoint_seconds=0.0,
        progress=progress,
    )


def weights(encoder):
    return torch.cat([value.flatten().float() for value in encoder.network.state_dict().values()])


@pytest.mark.parametrize("task", TASKS)
def test_every_task_learns(task):
    curve = run(task, iterations=60).curve
    assert curve[0][0] == 0
    assert curve[-1][0] == 60
    assert curve[-1][1] < 0.95 * curve[0][1]


@pytest.mark.parametrize("task", TASKS)
def test_the_seed_decides_the_weights(task):
    state = torch.random.get_rng_state()
    first, again, other = run(task, iterations=3), run(task, iterations=3), run(task, iterations=3, seed=[4])
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("task", ["restoration", "group_contrastive"])
def test_a_killed_pretraining_goes_on_to_the_same_weights(task, tmp_path):
    checkpoint = tmp_path / "state"

    def die(done, total):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(task, checkpoint, progress=die)
    steps = []
    resumed = run(task, checkpoint, progress=lambda done, total: steps.append(done))
    assert steps[0] == 8 - 1 or steps[0] == 8
    undisturbed = run(task)
    assert torch.equal(weights(resumed), weights(undisturbed))
    assert resumed.curve == undisturbed.curve


def test_a_checkpoint_of_another_pretraining_is_not_taken_up(tmp_path):
    run("restoration", tmp_path / "state", iterations=4)
    steps = []
    run("restoration", tmp_path / "state", iterations=5, progress=lambda done, total: steps.append(done))
    assert steps[0] == 1


@pytest.mark.parametrize("task", TASKS)
def test_volumes_too(task):
    encoder = run(task, pool=pool(2, axes=3), axes=3, iterations=2, batch_size=4)
    assert encoder.encode(pool(2, axes=3).load(0)).shape == (16,)
    assert encoder.encode(pool(2, axes=3).load(0), grid=2).shape == (128,)


@pytest.mark.parametrize("task", TASKS)
def test_it_is_saved_and_loaded(task, tmp_path):
    encoder = run(task, iterations=2)
    save_encoder(encoder, tmp_path / "encoder.pt")
    loaded = load_encoder(tmp_path / "encoder.pt", TASKS, "cpu")
    assert loaded.curve == encoder.curve
    assert loaded.config == encoder.config
    image = pool().load(5)
    np.testing.assert_array_equal(loaded.encode(image), encoder.encode(image))


def test_what_is_no_encoder_is_refused(tmp_path):
    path = tmp_path / "encoder.pt"
    with pytest.raises(TrainingError, match="not a pretrained encoder"):
        load_encoder(path, TASKS, "cpu")
    encoder = run("restoration", iterations=1)
    save_encoder(encoder, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(TrainingError, match="damaged"):
        load_encoder(path, TASKS, "cpu")
    wider = dataclasses.replace(encoder, config=dataclasses.replace(encoder.config, features=(4, 8, 32)))
    save_encoder(wider, path)
    with pytest.raises(TrainingError, match="do not fit"):
        load_encoder(path, TASKS, "cpu")


def test_bad_pools_are_refused_by_name():
    one = Unlabeled(pool().load, *(np.zeros(1, dtype=np.int64),) * 3)
    with pytest.raises(TrainingError, match="has 1 samples"):
        run("contrastive", pool=one)
    images = [pool().load(row).copy() for row in range(32)]
    images[9][0, 0, 0] = np.nan
    whole = pool()
    with pytest.raises(DataError, match="sample row 9 has 1 NaN"):
        run("contrastive", pool=Unlabeled(images.__getitem__, whole.patient, whole.volume, whole.place), iterations=40)
    images[9] = np.zeros((2, SIDE, SIDE), dtype=np.float32)
    with pytest.raises(DataError, match=r"\[1, 2\] channels"):
        run("contrastive", pool=Unlabeled(images.__getitem__, whole.patient, whole.volume, whole.place), iterations=40)
    images[9] = np.zeros((1, 4, SIDE, SIDE), dtype=np.float32)
    with pytest.raises(DataError, match="sample row 9 has the shape"):
        run("contrastive", pool=Unlabeled(images.__getitem__, whole.patient, whole.volume, whole.place), iterations=40)


@pytest.mark.parametrize("task", TASKS)
def test_constant_images_one_patient_and_mixed_sizes_are_no_trouble(task):
    sizes = [(SIDE, SIDE), (9, 30), (40, 5), (SIDE, SIDE)]
    images = [np.full((1, *sizes[row % 4]), 2.0, dtype=np.float32) for row in range(8)]
    numbers = np.arange(8)
    encoder = run(task, pool=Unlabeled(images.__getitem__, 0 * numbers, numbers // 4, numbers % 4), iterations=3)
    assert np.isfinite(encoder.encode(images[0])).all()
    assert np.isfinite([loss for _, loss in encoder.curve]).all()


def test_a_patch_is_cut_where_the_image_is_larger_and_padded_where_it_is_smaller():
    image = np.arange(60, dtype=np.float32).reshape(1, 10, 6)
    patch = read_patch(image, 0, (4, 8), np.random.default_rng(0))
    assert patch.shape == (1, 4, 8)
    assert (patch[0, :, 0] == patch[0, :, 1]).all()  # the border is repeated
    starts = {float(read_patch(image, 0, (4, 8), np.random.default_rng(seed))[0, 0, 1]) for seed in range(40)}
    assert starts == {6.0 * row for row in range(7)}


def test_every_sample_is_seen_once_before_any_is_seen_again():
    batches = shuffled_passes(7, 3, [1])
    seen = np.concatenate([next(batches) for _ in range(7)])
    assert sorted(seen[:7].tolist()) == list(range(7)) == sorted(seen[7:14].tolist())
    assert seen[:7].tolist() != seen[7:14].tolist()


def test_an_option_that_does_not_exist_is_refused_with_a_suggestion():
    with pytest.raises(Exception, match="Did you mean 'temperature'"):
        derive_pretrain_config("contrastive", [(32, 32)], 1, dimensions=2, device="cpu", options={"temprature": 1})


def test_the_network_is_that_of_the_segmenter():
    from nextmask.training.config import derive_config

    ours = derive_pretrain_config("restoration", [(70, 90)], 2, dimensions=2, device="cpu")
    theirs = derive_config([(70, 90)], 2, 3, dimensions=2, device="cpu")
    assert (ours.patch_size, ours.features, ours.channels) == (theirs.patch_size, theirs.features, theirs.channels)
