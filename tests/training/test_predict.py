"""Probabilities on the grid of the image, whatever its size; and files that come back as they went, or not at all."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from nextmask.errors import TrainingError
from nextmask.networks.unet import build_unet
from nextmask.training.config import TrainConfig
from nextmask.training.predict import Segmenter, load_segmenter, save_segmenter
from nextmask.training.views import mirrored_views

FLAT = TrainConfig(2, 2, 3, (32, 24), 4, 10, 1e-3, 1e-2, (4, 8, 12), False, 15.0, "float32", 0.5)
SOLID = dataclasses.replace(FLAT, dimensions=3, patch_size=(8, 16, 16), features=(4, 8))


def segmenter(config=FLAT, seed=0):
    return Segmenter(config, build_unet(config, config.classes, seed).eval())


def image(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal((2, *shape)).astype(np.float16)


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (FLAT, (32, 24)),
        (FLAT, (20, 11)),
        (FLAT, (70, 90)),
        (FLAT, (5, 33, 90)),
        (FLAT, (1, 20, 24)),
        (SOLID, (8, 16, 16)),
        (SOLID, (3, 40, 9)),
        (SOLID, (20, 24, 33)),
    ],
)
def test_probabilities_have_the_grid_of_the_image_and_sum_to_one(config, shape):
    probabilities = segmenter(config).predict(image(*shape))
    assert probabilities.shape == (3, *shape)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    assert probabilities.min() >= 0


def test_an_image_of_one_patch_is_one_pass_of_the_network():
    one, picture = segmenter(), image(32, 24)
    logits = one.network(torch.from_numpy(picture[None].astype(np.float32)))
    np.testing.assert_allclose(one.predict(picture), torch.softmax(logits, 1)[0].detach().numpy(), atol=1e-5)


def test_a_volume_of_a_2d_network_is_its_slices():
    one, volume = segmenter(), image(9, 40, 24)
    slices = np.stack([one.predict(volume[:, z]) for z in range(9)], axis=1)
    np.testing.assert_allclose(one.predict(volume), slices, atol=1e-5)


def test_a_small_image_is_padded_with_its_border_as_in_training():
    one, picture = segmenter(), image(20, 24)
    padded = np.pad(picture, [(0, 0), (6, 6), (0, 0)], mode="edge")
    np.testing.assert_allclose(one.predict(picture), one.predict(padded)[:, 6:26], atol=1e-5)


def test_windows_vote_with_their_middle():
    """A pixel at the rim of one window is decided by the window whose middle it is nearer to."""
    one, picture = segmenter(), image(32, 36)  # two windows, 12 apart
    left, right = one.predict(picture[:, :, :24]), one.predict(picture[:, :, 12:])
    blended = one.predict(picture)
    np.testing.assert_allclose(blended[:, :, :12], left[:, :, :12], atol=1e-5)
    rows = slice(8, 24)  # at the rim of both windows both weigh little
    blended, left, right = blended[:, rows, 22], left[:, rows, 22], right[:, rows, 10]
    assert np.abs(blended - right).max() < 0.1 * np.abs(blended - left).max()


def test_predicting_twice_is_the_same_and_leaves_the_image_alone():
    one, picture = segmenter(), image(40, 24)
    picture.setflags(write=False)
    assert np.array_equal(one.predict(picture), one.predict(picture))


class Pointwise(torch.nn.Module):
    """A network that sees one voxel at a time: what it says is mirrored with the image."""

    def __init__(self, config):
        super().__init__()
        convolution = torch.nn.Conv2d if config.dimensions == 2 else torch.nn.Conv3d
        self.convolution = convolution(config.channels, config.classes, 1)

    def forward(self, images):
        return self.convolution(images)


FLIPPED = [(FLAT, (40, 24)), (FLAT, (20, 51)), (FLAT, (3, 33, 40)), (SOLID, (9, 20, 18))]


@pytest.mark.parametrize(("config", "shape"), FLIPPED)
def test_members_of_an_equivariant_network_are_equal(config, shape):
    torch.manual_seed(0)
    one, picture = Segmenter(config, Pointwise(config).eval()), image(*shape)
    members = list(mirrored_views(one.predict, picture))
    assert len(members) == 4
    assert np.ptp(members[0], axis=(-2, -1)).min() > 0.1  # a member that was not mirrored back would differ
    for member in members:
        np.testing.assert_allclose(member, one.predict(picture), atol=1e-5)


@pytest.mark.parametrize(("config", "shape"), FLIPPED)
def test_members_are_predictions_of_the_mirrored_image_on_its_own_grid(config, shape):
    one, picture = segmenter(config), image(*shape)
    picture.setflags(write=False)
    members = list(mirrored_views(one.predict, picture))
    for member, axes in zip(members, [(), (-2,), (-1,), (-2, -1)], strict=True):
        assert member.shape == (3, *shape)
        assert member.dtype == np.float32
        assert member.flags.c_contiguous
        np.testing.assert_array_equal(member, np.flip(one.predict(np.flip(picture, axes)), axes))
    assert all(np.abs(members[0] - member).max() > 1e-3 for member in members[1:])


def test_members_are_made_one_at_a_time(monkeypatch):
    one, made = segmenter(), []
    monkeypatch.setattr(Segmenter, "predict", lambda self, picture: made.append(1) or picture)
    members = mirrored_views(one.predict, image(4, 4))
    assert not made
    next(members)
    assert len(made) == 1


DROPPED = [(dataclasses.replace(config, dropout=0.3), shape) for config, shape in FLIPPED]


@pytest.mark.parametrize(("config", "shape"), DROPPED)
def test_members_by_dropout_differ_and_come_again_from_the_same_seed(config, shape):
    one, picture = segmenter(config), image(*shape)
    picture.setflags(write=False)
    sure = one.predict(picture)
    first, again, other = (list(one.predict_dropout(picture, 3, seed)) for seed in ([7], [7], [8]))
    for member in first:
        assert member.shape == (3, *shape)
        assert member.dtype == np.float32
        np.testing.assert_allclose(member.sum(axis=0), 1, atol=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    predictions = [sure, *first, other[0]]
    assert all(np.abs(a - b).max() > 1e-3 for i, a in enumerate(predictions) for b in predictions[:i])
    assert np.array_equal(one.predict(picture), sure)


def test_members_by_dropout_leave_everything_else_alone():
    """MC-dropout by train() would let batch normalisation follow the batch and forget what it learned."""
    config = dataclasses.replace(FLAT, dropout=0.3)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.Dropout(0.3), torch.nn.Conv2d(8, 3, 1)
    )
    with torch.no_grad():
        network[1].running_mean += 3.0
    one = Segmenter(config, network.eval())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    members = one.predict_dropout(image(40, 24), 4, [0])
    for _ in members:
        assert not any(module.training for module in network.modules())
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_members_by_dropout_keep_normalisation_in_evaluation():
    """With what is dropped put back, a member is the plain prediction: nothing else is as in training."""
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(2), torch.nn.Dropout(1e-9), torch.nn.Conv2d(2, 3, 1))
    with torch.no_grad():
        network[0].running_var *= 9
    one, picture = Segmenter(dataclasses.replace(FLAT, dropout=1e-9), network.eval()), image(40, 24)
    (member,) = one.predict_dropout(picture, 1, [0])
    np.testing.assert_allclose(member, one.predict(picture), atol=1e-6)


def test_without_dropout_there_are_no_such_members():
    with pytest.raises(TrainingError, match="trained with dropout"):
        segmenter().predict_dropout(image(40, 24), 2, [0])


@pytest.mark.parametrize(("config", "shape"), [(FLAT, (40, 24)), (FLAT, (20, 11)), (SOLID, (8, 20, 30))])
def test_vectors_of_a_batch_are_those_of_its_images(config, shape):
    one = segmenter(config)
    images = np.stack([image(*shape, seed=seed) for seed in range(5)])
    vectors = one.encode_batch(images)
    assert vectors.shape == (5, config.features[-1])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [one.encode(picture) for picture in images], atol=1e-5)
    assert np.ptp(vectors, axis=0).min() > 0


def test_a_volume_of_a_2d_network_is_encoded_as_the_mean_of_its_slices():
    one, volume = segmenter(), image(9, 40, 24)
    slices = one.encode_batch(np.moveaxis(volume, 1, 0))
    np.testing.assert_allclose(one.encode(volume), slices.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 32, 24), (2, 32), (2, 3, 4, 32, 24)])
def test_images_of_another_form_are_refused(shape):
    with pytest.raises(TrainingError, match="channels"):
        segmenter().predict(np.zeros(shape, np.float32))
    with pytest.raises(TrainingError, match="channels"):
        segmenter().encode_batch(np.zeros((2, *shape[:2]), np.float32))


@pytest.mark.parametrize("config", [FLAT, SOLID, dataclasses.replace(FLAT, precision="bfloat16")])
def test_a_segmenter_comes_back_as_it_went(tmp_path, config):
    one, path = segmenter(config, seed=5), tmp_path / "deeper" / "segmenter.pt"
    save_segmenter(one, path)
    back = load_segmenter(path, "cpu")
    assert back.config == config
    assert not back.network.training
    picture = image(*config.patch_size)
    assert np.array_equal(one.predict(picture), back.predict(picture)) or config.precision == "bfloat16"
    np.testing.assert_allclose(one.predict(picture), back.predict(picture), atol=0.02)
    assert [file.name for file in path.parent.iterdir()] == ["segmenter.pt"]


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path):
    path = tmp_path / "segmenter.pt"
    save_segmenter(segmenter(), path)
    whole = path.read_bytes()
    for end in np.linspace(0, len(whole) - 1, 60).astype(int):
        path.write_bytes(whole[:end])
        with pytest.raises(TrainingError, match="damaged"):
            load_segmenter(path, "cpu")


def test_a_file_with_a_flipped_bit_never_gives_other_weights(tmp_path):
    one, path = segmenter(), tmp_path / "segmenter.pt"
    save_segmenter(one, path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refusals = 0
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            back = load_segmenter(path, "cpu").network.state_dict()
        except TrainingError:
            refusals += 1
        else:  # in the padding between entries a bit means nothing
            assert all(torch.equal(back[key], value) for key, value in one.network.state_dict().items())
    assert refusals > 20


def test_files_of_something_else_are_refused_and_not_executed(tmp_path):
    path, ran = tmp_path / "segmenter.pt", tmp_path / "ran"

    class Harmful:
        def __reduce__(self):
            return (ran.write_text, ("x",))

    for payload in (Harmful(), {"format": "other"}, [1, 2], torch.zeros(3)):
        torch.save(payload, path)
        with pytest.raises(TrainingError, match="is not a segmenter"):
            load_segmenter(path, "cpu")
    assert not ran.exists()
    path.write_bytes(b"\x89PNG not weights at all")
    with pytest.raises(TrainingError, match="is not a segmenter"):
        load_segmenter(path, "cpu")
    with pytest.raises(TrainingError, match="is not a segmenter"):
        load_segmenter(tmp_path / "absent.pt", "cpu")


def test_weights_that_do_not_fit_are_listed(tmp_path):
    path = tmp_path / "segmenter.pt"
    save_segmenter(segmenter(), path)
    stored = torch.load(path, weights_only=True)
    names = list(stored["weights"])
    stored["weights"]["extra.weight"] = torch.zeros(2)
    stored["weights"][names[0]] = torch.zeros(7, 7)
    del stored["weights"][names[1]]
    torch.save(stored, path)
    with pytest.raises(TrainingError) as caught:
        load_segmenter(path, "cpu")
    message = str(caught.value)
    assert message.startswith("3 weights")
    assert all(part in message for part in (f"{names[0]} (7, 7)", f"{names[1]} missing", "extra.weight unknown"))


def test_the_same_weights_are_the_same_bytes_under_any_name(tmp_path):
    for name in ("one.pt", "other.pt"):
        save_segmenter(segmenter(), tmp_path / name)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "other.pt").read_bytes()
