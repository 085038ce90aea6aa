"""What is derived fits the images and the device, and does not depend on how much is labeled."""

from __future__ import annotations

import dataclasses
import inspect
import json
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nextmask.errors import TrainingError
from nextmask.networks.architecture import best_precision, possible_strides
from nextmask.networks.dropout import dropouts
from nextmask.networks.unet import build_unet, decode, encode, expanding, strides_of
from nextmask.training.config import changed, config_from, derive_config


def derive(*shapes, dimensions, device="cpu", **options):
    return derive_config(shapes, 1, 3, dimensions=dimensions, device=device, **options)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(5, 900), st.integers(5, 900)), min_size=1, max_size=5),
    st.sampled_from([2, 3]),
    st.sampled_from(["cpu", "cuda"]),
)
def test_every_pool_of_volumes_gets_a_network_that_can_be_built(shapes, dimensions, device):
    config = derive(*shapes, dimensions=dimensions, device=device)
    strides = strides_of(config.patch_size, len(config.features))
    for axis, length in enumerate(config.patch_size):
        shrunk = prod(stride[axis] for stride in strides)
        assert length % shrunk == 0
        assert length // shrunk >= 4
    assert config.batch_size >= 2
    assert prod(config.patch_size) <= (192**2 if dimensions == 2 else 48**3) or device == "cuda"


def test_patch_is_the_median_image_where_it_can_be_afforded():
    assert derive((10, 108, 128), (12, 105, 128), (9, 110, 127), dimensions=2).patch_size == (112, 128)
    assert derive((35, 51, 36), dimensions=3).patch_size == (40, 56, 40)
    assert derive((600, 800), dimensions=2).patch_size == (192, 192)
    assert derive((5, 20), dimensions=2).patch_size == (16, 20)


def test_thick_slices_keep_their_depth():
    assert derive((12, 200, 220), dimensions=3).patch_size[0] == 12
    assert derive((3, 200, 220), dimensions=3).patch_size[0] == 4
    assert derive((12, 200, 220), dimensions=3).rotate_degrees == 15


def test_slices_learn_from_unlabeled_images_where_there_are_some_unless_told_otherwise():
    both = (("supervised", 1.0), ("fixmatch", 1.0))
    assert derive((64, 64), dimensions=2, unlabeled=9).objectives == both
    assert derive((9, 64, 64), dimensions=2, unlabeled=9).objectives == both
    assert derive((64, 64), dimensions=2).objectives == both[:1]
    assert derive((64, 64, 64), dimensions=3, unlabeled=9).objectives == both[:1]
    assert derive((64, 64), dimensions=2, unlabeled=9, objectives={"supervised": 1}).objectives == both[:1]


def test_training_length_follows_from_the_device_alone():
    assert not {"labeled", "samples"} & set(inspect.signature(derive_config).parameters)
    few, many = derive((64, 64), dimensions=2), derive(*[(64, 64)] * 500, dimensions=2)
    assert few == many
    assert derive((64, 64), dimensions=2, iterations=7).iterations == 7
    assert derive((64, 64), dimensions=2, device="cuda").iterations > few.iterations


def test_only_photographs_are_mirrored():
    assert derive((64, 64), dimensions=2, rgb=True).mirror
    assert not derive((64, 64), dimensions=2).mirror


def test_a_configuration_survives_json():
    config = derive((12, 200, 220), dimensions=3)
    assert config_from(json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_a_configuration_with_other_keys_is_refused():
    values = dataclasses.asdict(derive((64, 64), dimensions=2))
    with pytest.raises(TrainingError, match="another version"):
        config_from({**values, "drop_out": 0.5})


def test_what_was_written_before_there_was_dropout_has_none():
    values = dataclasses.asdict(derive((64, 64), dimensions=2))
    del values["dropout"]
    assert config_from(values).dropout == 0


def test_dropout_is_in_the_network_and_changes_no_weight():
    config = dataclasses.replace(derive((32, 32), dimensions=2), features=(4, 8))
    plain, dropped = (build_unet(dataclasses.replace(config, dropout=p), 3, seed=1) for p in (0.0, 0.2))
    assert not dropouts(plain)
    assert {layer.p for layer in dropouts(dropped)} == {0.2}
    first, second = plain.state_dict(), dropped.state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("shapes", "dimensions"), [([], 2), ([(64, 64)], 3), ([(64, 64, 64)], 4)])
def test_images_of_too_few_axes_are_refused(shapes, dimensions):
    with pytest.raises(TrainingError, match="Set dimensions"):
        derive(*shapes, dimensions=dimensions)


@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("avx512_bf16", [False, True])
def test_precision_is_one_that_the_processor_computes(monkeypatch, amx, avx512_bf16):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16, raising=False)
    assert best_precision("cpu") == ("bfloat16" if amx or avx512_bf16 else "float32")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("patch", [(48, 32), (16, 24, 24), (16, 64, 64), (4, 32, 32)])
def test_networks_answer_on_the_grid_of_the_patch(patch, full):
    config = dataclasses.replace(
        derive((64, 64), dimensions=2),
        dimensions=len(patch),
        patch_size=patch,
        features=(4, 6, 8, 10, 12, 14)[: 1 + full + len(possible_strides(patch))],
        full_resolution=full,
    )
    network = build_unet(config, config.classes).eval()
    images = torch.randn(2, 1, *patch)
    assert network(images).shape == (2, 3, *patch)
    bottom = encode(network, images)[-1]
    assert bottom.shape[:2] == (2, config.features[-1])
    assert min(bottom.shape[2:]) >= 4
    assert encode(network, images)[0].shape[2:] == (patch if full else bottom_of(patch, 1))


def bottom_of(patch, levels):
    """Shrink a patch by so many halvings."""
    return tuple(n // prod(stride[a] for stride in possible_strides(patch)[:levels]) for a, n in enumerate(patch))


def test_the_two_halves_are_the_whole_network():
    config = dataclasses.replace(derive((64, 64), dimensions=2), features=(4, 8, 12))
    network = build_unet(config, config.classes).eval()
    seen = []
    network.model[1].submodule[1].submodule.register_forward_hook(lambda _m, _i, output: seen.append(output))
    images = torch.randn(1, 1, 64, 64)
    whole, activations = network(images), encode(network, images)
    assert torch.equal(seen[0], activations[-1])
    assert torch.equal(decode(expanding(network), activations), whole)
    other = expanding(build_unet(config, config.classes, seed=1))
    assert not torch.equal(decode(other, activations), whole)


def test_weights_come_from_the_seed_and_leave_the_global_generator_alone():
    config = derive((32, 32), dimensions=2)
    state = torch.random.get_rng_state()
    first, again, other = (build_unet(config, config.classes, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_thick_slices_are_pooled_within_the_slice_first():
    assert strides_of((16, 64, 64), 5) == [(1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)]
    assert strides_of((64, 64), 3) == [(2, 2), (2, 2)]
    assert strides_of((64, 64), 3, full_resolution=True) == [(1, 1), (2, 2)]
    assert possible_strides((4, 16, 16)) == [(1, 2, 2), (1, 2, 2)]


def test_a_patch_too_small_for_the_levels_is_refused():
    with pytest.raises(TrainingError, match="levels"):
        strides_of((16, 16), 4)


def test_what_a_user_sets_takes_the_place_of_what_was_derived():
    config = derive((64, 64), dimensions=2)
    assert changed(config, {"learning_rate": 0.1, "features": [4, 8]}).features == (4, 8)
    with pytest.raises(TrainingError, match=r"has classes, learningrate\. Expected some of patch_size"):
        changed(config, {"classes": 9, "learningrate": 0.1})


@pytest.mark.parametrize(("classes", "parameters"), [(1, 1_616_144), (2, 1_617_093), (3, 1_618_096)])
def test_the_network_of_a_published_system_can_be_had(classes, parameters):
    """COLosSAL's 3D U-Net, by the number of its weights."""
    config = dataclasses.replace(
        derive((64, 64, 64), dimensions=3),
        patch_size=(64, 64, 64),
        features=(16, 32, 48, 64, 128),
        norm="batch",
        dropout=0.2,
    )
    network = build_unet(config, classes)
    assert sum(weight.numel() for weight in network.parameters()) == parameters
