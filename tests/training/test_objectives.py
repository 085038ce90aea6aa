"""Every objective moves the student, unlabeled images have a say, and what is not sure is ignored."""

from __future__ import annotations

import dataclasses
import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from tests.training.test_train import Interrupted, interrupt_at, mean_dice, same_weights
from tests.training.toys import IGNORE, SOLID, TINY, samples, scribbled, toy
from torch import nn

from nextmask.errors import TrainingError
from nextmask.networks.optimise import descend
from nextmask.networks.unet import build_unet
from nextmask.training.consistency import SURE, _sure_loss, cut_boxes, mix
from nextmask.training.losses import soft_cross_entropy, soft_dice
from nextmask.training.objectives import OBJECTIVES, ramp
from nextmask.training.scribbles import SIGMA_INTENSITY, SIGMA_PLACE, gated_crf
from nextmask.training.step import Networks, Step
from nextmask.training.train import check_objectives, fit

LEARN_FROM_UNLABELED = [name for name, objective in OBJECTIVES.items() if objective.needs == "unlabeled"]


def with_objectives(config, *names, **changes):
    objectives = tuple((name, 1.0) for name in names)
    return dataclasses.replace(config, objectives=objectives, unlabeled_batch_size=2, **changes)


def step_of(name, config=TINY, seed=0, averaged=True, masks=None):
    """Make one step of an objective, with toys as annotated, unlabeled and pseudo-labeled images."""
    config = with_objectives(config, name)
    shape = config.patch_size
    drawn = [toy(shape, k) for k in range(6)]
    images = torch.from_numpy(np.stack([image for image, _ in drawn]).astype(np.float32))
    truth = torch.from_numpy(np.stack([mask for _, mask in drawn]))
    student = build_unet(config, 3, seed=1)
    average = deepcopy(student).requires_grad_(False) if averaged else None
    others = nn.ModuleDict()
    if builds := OBJECTIVES[name].builds:
        others[builds[0]] = builds[1](config, 2)
    pseudo = (images[4:], truth[4:])
    annotated = truth[:2] if masks is None else masks
    generator = torch.Generator().manual_seed(seed)
    return Step(Networks(student, average, others), config, images[:2], annotated, images[2:4], pseudo, generator)


def gradients(step, name):
    OBJECTIVES[name].loss(step).backward()
    return {key: p.grad.clone() for key, p in step.networks.student.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("config", [TINY, SOLID])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_moves_the_student_and_nothing_that_only_watches(name, config):
    step = step_of(name, config)
    if name in LEARN_FROM_UNLABELED:
        step.expected = sharp(step)
    found = gradients(step, name)
    assert found
    assert all(torch.isfinite(gradient).all() for gradient in found.values())
    assert any(gradient.abs().max() > 0 for gradient in found.values())
    assert all(p.grad is None for p in step.networks.average.parameters())


def sharp(step):
    """Pretend that the network is sure of what it says, as it is after some training."""
    expected = torch.softmax(30 * torch.randn(2, 3, *step.config.patch_size), dim=1)
    assert (expected.amax(dim=1) >= SURE).any()
    return expected


@pytest.mark.parametrize("name", LEARN_FROM_UNLABELED)
def test_unlabeled_images_change_the_gradient_of_the_student(name):
    """The loss of a public semi-supervised system on unlabeled images had no gradient."""

    def with_images(change):
        step = step_of(name)
        step.unlabeled = change(step.unlabeled_images)
        step.expected = sharp(step)
        return gradients(step, name)

    torch.manual_seed(0)
    one = with_images(lambda images: images)
    torch.manual_seed(0)
    other = with_images(lambda images: images.flip(-1) + 0.5)
    assert any(not torch.allclose(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_that_nobody_annotated_gives_numbers(name):
    masks = torch.full((2, 32, 32), IGNORE, dtype=torch.uint8)
    step = step_of(name, masks=masks)
    loss = OBJECTIVES[name].loss(step)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in step.networks.student.parameters())


def test_what_is_not_sure_is_ignored_and_not_made_background():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    expected = torch.full((1, 3, 4, 4), 1 / 3)
    expected[..., :2] = torch.tensor([0.01, 0.98, 0.01])[None, :, None, None]
    _sure_loss(logits, expected).backward()
    assert torch.count_nonzero(logits.grad[..., 2:]) == 0
    assert torch.count_nonzero(logits.grad[..., :2]) > 0


def test_the_moving_average_says_what_to_expect_where_there_is_one():
    step = step_of("fixmatch")
    with torch.no_grad():
        for weight in step.networks.student.parameters():
            weight.add_(0.1)
    own = torch.softmax(step.networks.student(step.unlabeled_images), dim=1)
    assert not torch.allclose(step.expected, own, atol=1e-3)
    alone = step_of("fixmatch", averaged=False)
    own = torch.softmax(alone.networks.student(alone.unlabeled_images), dim=1)
    torch.testing.assert_close(alone.expected, own)
    assert not alone.expected.requires_grad


def test_parts_of_images_and_of_labels_are_cut_in_alike():
    images = torch.arange(8.0).reshape(8, 1, 1, 1).expand(8, 1, 24, 32)
    boxes = cut_boxes(images, torch.Generator().manual_seed(3))
    mixed = mix(images, boxes)
    for k in range(8):
        inside = boxes[k, 0]
        assert (mixed[k, 0][inside] == (k - 1) % 8).all()
        assert (mixed[k, 0][~inside] == k).all()
    shares = boxes.float().mean(dim=(1, 2, 3))
    assert 0 < (shares > 0).sum() < 8
    assert shares.max() <= 0.5


def test_the_gated_crf_is_the_sum_over_pairs_that_its_paper_gives():
    step = step_of("gated_crf")
    step.images, step.masks = step.images[:1, :, :9, :7], step.masks[:1, :9, :7]
    step.logits = torch.randn(1, 3, 9, 7)
    image = (step.images / step.images.std(dim=(2, 3), keepdim=True))[0, 0].numpy()
    p = torch.softmax(step.logits, dim=1)[0].numpy()
    total = 0.0
    for y, x in np.ndindex(9, 7):
        for v, u in np.ndindex(9, 7):
            if max(abs(y - v), abs(x - u)) <= 5 and (y, x) < (v, u):
                kernel = math.exp(-((y - v) ** 2 + (x - u) ** 2) / (2 * SIGMA_PLACE**2))
                kernel *= math.exp(-((image[y, x] - image[v, u]) ** 2) / (2 * SIGMA_INTENSITY**2))
                total += kernel * (1 - (p[:, y, x] * p[:, v, u]).sum())
    assert gated_crf(step).item() == pytest.approx(total / 63, rel=1e-4)


def test_soft_losses_of_hard_labels_are_the_usual_ones():
    logits, labels = torch.randn(2, 3, 5, 5), torch.randint(0, 3, (2, 5, 5))
    hard = nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    torch.testing.assert_close(soft_cross_entropy(logits, hard), nn.functional.cross_entropy(logits, labels))
    right = 40 * hard
    assert soft_dice(right, hard).item() < 1e-4
    assert soft_dice(-right, hard).item() > 0.9


def test_the_weight_of_what_networks_teach_one_another_rises():
    risen = [ramp(i, 100) for i in range(0, 101, 10)]
    assert risen[0] == pytest.approx(math.exp(-5))
    assert risen == sorted(risen)
    assert risen[4:] == [1.0] * 7


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("name", ["unimatch", "cross_pseudo", "soft_dmpls", "copy_paste"])
def test_going_on_restores_everything_that_is_trained(tmp_path, name, average):
    config = with_objectives(TINY, "supervised", name, iterations=6, average=average, dropout=0.1)
    images = [lambda k=k: toy((32, 32), k)[0] for k in range(20, 26)]
    options = {"seed": [3], "device": "cpu", "unlabeled": images}
    pool = samples((32, 32), change=scribbled)
    with pytest.raises(Interrupted):
        fit(pool, config, **options, checkpoint=tmp_path / "t.pt", checkpoint_seconds=0, progress=interrupt_at(4))
    seen = []
    resumed = fit(
        pool, config, **options, checkpoint=tmp_path / "t.pt", progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(5, 6), (6, 6)]
    assert same_weights(resumed, fit(pool, config, **options))


def test_a_toy_is_learned_with_unlabeled_images_too():
    images = [lambda k=k: toy((32, 32), k)[0] for k in range(20, 60)]
    config = with_objectives(TINY, "supervised", "unimatch", iterations=120, batch_size=2, average=0.95)
    pool = samples((32, 32), count=1)
    assert mean_dice(fit(pool, config, seed=[0], device="cpu", unlabeled=images), (32, 32)) > 0.85


def test_the_average_of_the_weights_predicts():
    config = dataclasses.replace(TINY, iterations=3)
    last = fit(samples((32, 32)), config, seed=[0], device="cpu")
    averaged = fit(samples((32, 32)), dataclasses.replace(config, average=0.5), seed=[0], device="cpu")
    assert not same_weights(last, averaged)
    distance = [
        (a - b).abs().max() for a, b in zip(last.network.parameters(), averaged.network.parameters(), strict=True)
    ]
    assert max(distance) < 0.1


def test_gradients_of_several_batches_are_averaged():
    network = nn.Linear(3, 1)
    twin = deepcopy(network)
    inputs = torch.randn(4, 3)
    optimisers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (network, twin)]
    loss = descend(network, optimisers[0], (network(part).mean() for part in inputs.split(2)), 2)
    whole = descend(twin, optimisers[1], [twin(inputs).mean()])
    torch.testing.assert_close(network.weight, twin.weight)
    torch.testing.assert_close(loss, whole)


def test_accumulated_batches_see_other_samples():
    config = dataclasses.replace(TINY, iterations=2, batch_size=2)
    one = fit(samples((32, 32)), config, seed=[0], device="cpu")
    assert not same_weights(
        one, fit(samples((32, 32)), dataclasses.replace(config, accumulate=2), seed=[0], device="cpu")
    )


def test_objectives_that_cannot_be_had_are_refused():
    with pytest.raises(TrainingError, match="Expected one or more of supervised"):
        check_objectives(with_objectives(TINY, "unimach"), 3)
    with pytest.raises(TrainingError, match="unimatch learn from unlabeled images, and there are 0"):
        check_objectives(with_objectives(TINY, "supervised", "unimatch"), 0)
    with pytest.raises(TrainingError, match="Expected one or more"):
        check_objectives(with_objectives(TINY), 3)
