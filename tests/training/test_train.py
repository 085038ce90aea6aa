"""Training learns toys in seconds, from annotated voxels only, repeatably, and goes on where it stopped."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tests.training.toys import IGNORE, SOLID, TINY, samples, scribbled, toy

from nextmask.errors import TrainingError
from nextmask.training.train import fit


def mean_dice(segmenter, shape, seeds=range(100, 104)):
    scores = []
    for seed in seeds:
        image, mask = toy(shape, seed)
        labels = segmenter.predict(image).argmax(axis=0)
        scores += [2 * ((labels == c) & (mask == c)).sum() / ((labels == c).sum() + (mask == c).sum()) for c in (1, 2)]
    return np.mean(scores)


def weights(segmenter):
    return segmenter.network.state_dict()


def same_weights(one, other):
    return all(torch.equal(weights(one)[key], weights(other)[key]) for key in weights(one))


@pytest.mark.parametrize(("config", "shape"), [(TINY, (32, 32)), (TINY, (40, 56)), (SOLID, (8, 20, 24))])
def test_a_tiny_network_learns_a_toy(config, shape):
    segmenter = fit(samples(shape), config, seed=[1], device="cpu")
    assert mean_dice(segmenter, shape) > 0.85
    assert not segmenter.network.training


def test_scribbles_teach_it_too():
    segmenter = fit(samples((32, 32), change=scribbled), TINY, seed=[1], device="cpu")
    assert mean_dice(segmenter, (32, 32)) > 0.75


def test_bfloat16_learns_it_too():
    config = dataclasses.replace(TINY, precision="bfloat16", iterations=40)
    assert mean_dice(fit(samples((32, 32)), config, seed=[1], device="cpu"), (32, 32)) > 0.8


def test_what_is_not_annotated_is_not_learned_from():
    """Two pools whose hidden masks differ give the same weights, when what differs is not annotated."""
    short = dataclasses.replace(TINY, iterations=4)

    def half(value):
        def hide(image, mask):
            mask = np.where(np.arange(mask.shape[1]) < 16, mask, value).astype(np.uint8)
            return image, np.where(np.arange(mask.shape[1]) < 16, mask, IGNORE).astype(np.uint8)

        return hide

    pools = [samples((32, 32), change=half(value)) for value in (0, 2)]
    assert same_weights(*(fit(pool, short, seed=[0], device="cpu") for pool in pools))


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_the_seed_decides_and_nothing_global_does(dropout):
    short = dataclasses.replace(TINY, iterations=3, dropout=dropout)
    torch.manual_seed(1)
    first = fit(samples((32, 32)), short, seed=[7, 1], device="cpu")
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = fit(samples((32, 32)), short, seed=[7, 1], device="cpu")
    assert torch.equal(state, torch.random.get_rng_state())
    assert same_weights(first, again)
    assert not same_weights(first, fit(samples((32, 32)), short, seed=[7, 2], device="cpu"))


class Interrupted(Exception):
    """Stands for the end of the process."""


def interrupt_at(stop):
    def progress(done, _total):
        if done == stop:
            raise Interrupted

    return progress


DROPPED = dataclasses.replace(TINY, dropout=0.2)


@pytest.mark.parametrize(("config", "shape"), [(TINY, (40, 40)), (SOLID, (8, 20, 24)), (DROPPED, (40, 40))])
def test_going_on_gives_the_weights_of_an_uninterrupted_training(tmp_path, config, shape):
    short = dataclasses.replace(config, iterations=10)
    path = tmp_path / "state" / "training.pt"
    options = {"seed": [3], "device": "cpu"}
    with pytest.raises(Interrupted):
        fit(samples(shape), short, **options, checkpoint=path, checkpoint_seconds=0, progress=interrupt_at(6))
    seen = []
    resumed = fit(
        samples(shape), short, **options, checkpoint=path, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(7, 10), (8, 10), (9, 10), (10, 10)]
    assert same_weights(resumed, fit(samples(shape), short, **options))
    assert [file.name for file in path.parent.iterdir()] == ["training.pt"]


def first_iteration(path, pool, config, seed):
    """Return the iteration at which a training starts."""
    seen = []

    def stop(done, _total):
        seen.append(done)
        raise Interrupted

    with pytest.raises(Interrupted):
        fit(pool, config, seed=seed, device="cpu", checkpoint=path, checkpoint_seconds=1e9, progress=stop)
    return seen[0]


def test_batch_normalisation_goes_on_and_is_averaged_too(tmp_path):
    config = dataclasses.replace(TINY, iterations=6, norm="batch", average=0.9)
    options = {"seed": [3], "device": "cpu"}
    path = tmp_path / "c.pt"
    with pytest.raises(Interrupted):
        fit(samples((32, 32)), config, **options, checkpoint=path, checkpoint_seconds=0, progress=interrupt_at(3))
    resumed = fit(samples((32, 32)), config, **options, checkpoint=path)
    assert same_weights(resumed, fit(samples((32, 32)), config, **options))
    assert any("running_mean" in name for name in weights(resumed))


def test_dropout_changes_what_is_learned():
    with_it, without = (dataclasses.replace(each, iterations=2) for each in (DROPPED, TINY))
    one, other = (fit(samples((32, 32)), each, seed=[0], device="cpu") for each in (with_it, without))
    assert not same_weights(one, other)


@pytest.mark.parametrize("setting", [{"rotate_degrees": 90.0}, {"mirror": True}])
@pytest.mark.parametrize("objective", ["supervised", "mean_teacher"])
def test_how_images_are_moved_about_changes_what_is_learned(setting, objective):
    """Of annotated images and of unlabeled ones, each by itself."""
    config = dataclasses.replace(TINY, iterations=3, objectives=((objective, 1.0),), unlabeled_batch_size=4)
    images = [lambda load=load: load()[0] for load in samples((32, 32))]
    plain, moved = (
        fit(samples((32, 32)), each, seed=[1], device="cpu", unlabeled=images)
        for each in (config, dataclasses.replace(config, **setting))
    )
    assert not same_weights(plain, moved)


def test_another_training_s_state_is_not_taken_up(tmp_path):
    path, config = tmp_path / "training.pt", dataclasses.replace(TINY, iterations=6)
    options = {"seed": [3], "device": "cpu", "checkpoint": path, "checkpoint_seconds": 0}
    with pytest.raises(Interrupted):
        fit(samples((32, 32)), config, **options, progress=interrupt_at(4))
    assert first_iteration(path, samples((32, 32)), config, [3]) == 5
    assert first_iteration(path, samples((32, 32)), config, [4]) == 1
    assert first_iteration(path, samples((32, 32)), dataclasses.replace(config, learning_rate=0.1), [3]) == 1
    assert first_iteration(path, samples((32, 32), count=5), config, [3]) == 1
    assert first_iteration(path, samples((32, 32), change=scribbled), config, [3]) == 1
    path.write_bytes(path.read_bytes()[:1000])
    assert first_iteration(path, samples((32, 32)), config, [3]) == 1


def test_only_the_patch_of_a_memory_map_is_read(tmp_path):
    class Watched(np.memmap):
        read = 0

        def __getitem__(self, key):
            part = super().__getitem__(key)
            Watched.read = max(Watched.read, np.size(part))
            return part

    image, mask = toy((12, 64, 64), 0)
    np.save(tmp_path / "image.npy", image)
    stored = np.load(tmp_path / "image.npy", mmap_mode="r").view(Watched)
    fit([lambda: (stored, mask)], dataclasses.replace(SOLID, iterations=3), seed=[0], device="cpu")
    assert 0 < Watched.read <= 8 * 16 * 16


def refused(pool, config=TINY):
    with pytest.raises(TrainingError) as caught:
        fit(pool, dataclasses.replace(config, iterations=2), seed=[0], device="cpu")
    return str(caught.value)


def test_what_cannot_be_trained_on_is_refused():
    def spoiled(image, mask):
        image = image.copy()
        image[0, 3, 3] = np.inf
        return image, mask

    assert "0 labeled samples" in refused([])
    assert "not annotated" in refused(samples((32, 32), change=lambda i, m: (i, np.full_like(m, IGNORE))))
    assert "values [3]" in refused(samples((32, 32), change=lambda i, m: (i, np.where(m == 2, 3, m).astype(np.uint8))))
    assert "1 values that are not finite" in refused(samples((32, 32), change=spoiled))
    assert "same in both" in refused(samples((32, 32), change=lambda i, m: (i, m[:-1])))
    assert "1 channels" in refused(samples((32, 32), change=lambda i, m: (np.concatenate([i, i]), m)))
    assert "2 spatial axes" in refused(samples((8, 32, 32)))


def test_a_loss_that_is_not_finite_is_refused():
    message = refused(
        samples((32, 32), change=lambda i, m: (i * 0 + 6e4, m)), dataclasses.replace(TINY, learning_rate=1e38)
    )
    assert "Lower the learning rate" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an accelerator")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(TrainingError, match="Set device"):
        fit(samples((32, 32)), TINY, seed=[0], device="cuda")
