"""An encoder of the user's own: what it is given, what becomes of volumes, and files that are not what they should be."""

from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import densenet121, resnet18, resnet34
from torch import nn
from torch.nn import functional

from nextmask.errors import SelectionError, TrainingError
from nextmask.features.pretrained import (
    MEAN,
    SPREAD,
    PretrainedConfig,
    load_pretrained,
    pooled,
    prepared,
    pretrained_config,
    rescaled,
)

SIZE = 32


def _save_script(path: Path, network: nn.Module, channels: int = 3) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(network.eval(), torch.zeros(2, channels, SIZE, SIZE)).save(path)
    return path


def _small(channels: int = 3) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(channels, 5, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float16)


def _encoder(path: Path, **settings: object):
    return load_pretrained(PretrainedConfig(str(path), size=SIZE, **settings), "cpu")


def test_the_1st_to_99th_percentile_of_the_whole_image_becomes_0_to_1():
    image = np.linspace(-3, 5, 101 * 2, dtype=np.float32).reshape(2, 101, 1)
    found = rescaled(image)
    low, high = np.percentile(image, [1, 99])
    assert found.min() == 0
    assert found.max() == 1
    np.testing.assert_allclose(found[1, 20, 0], (image[1, 20, 0] - low) / (high - low), rtol=1e-5)
    np.testing.assert_allclose(rescaled(3 * image - 7), found, atol=1e-6)


def test_a_constant_image_is_0_and_a_small_object_is_seen():
    assert not rescaled(np.full((1, 5, 5), 3.0)).any()
    image = np.zeros((1, 40, 40))
    image[0, 3, 3:5] = 2.0
    assert rescaled(image)[0, 3, 3] == 1


def test_channels_are_repeated_or_cut_and_three_are_normalised_as_photographs():
    slices = torch.rand(2, 2, 8, 8)
    mean, spread = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, SPREAD))
    torch.testing.assert_close(prepared(slices, 3, 8) * spread + mean, slices[:, [0, 1, 0]])
    torch.testing.assert_close(prepared(slices, 1, 8), slices.mean(dim=1, keepdim=True))
    torch.testing.assert_close(
        prepared(torch.rand(1, 5, 8, 8).expand(2, 5, 8, 8), 4, 8).shape, torch.Size([2, 4, 8, 8])
    )
    assert prepared(torch.rand(1, 1, 9, 30), 3, 16).shape == (1, 3, 16, 16)


def test_a_picture_is_encoded_as_the_network_encodes_what_it_is_given(tmp_path):
    network, image = _small(), _image(1, 20, 26)
    expected = network(prepared(torch.from_numpy(rescaled(image))[None], 3, SIZE)).detach().numpy()[0]
    found = _encoder(_save_script(tmp_path / "net.ts", network)).encode(image)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32


def test_the_channels_of_a_file_are_read_off_its_first_convolution(tmp_path):
    assert _encoder(_save_script(tmp_path / "one.ts", _small(1), 1)).channels == 1
    assert _encoder(_save_script(tmp_path / "four.ts", _small(4), 4)).encode(_image(1, 30, 30)).shape == (5,)


def test_the_vector_of_a_volume_is_the_mean_of_its_slices(tmp_path):
    encoder, volume = _encoder(_save_script(tmp_path / "net.ts", _small())), _image(1, 40, 20, 20)
    whole = rescaled(volume)
    each = [encoder._vectors(torch.from_numpy(whole[None, :, z]), 1)[0].detach().numpy() for z in range(40)]
    np.testing.assert_allclose(encoder.encode(volume), np.mean(each, axis=0), rtol=1e-4, atol=1e-6)


def test_top_k_takes_the_longest_vectors_only():
    vectors = torch.tensor([[0.0, 0.1], [3.0, 4.0], [0.2, 0.0], [0.0, 6.0]])
    config = PretrainedConfig("net.ts", pool="top_k", slices=2)
    torch.testing.assert_close(pooled(vectors, config), torch.tensor([1.5, 5.0]))
    torch.testing.assert_close(pooled(vectors[:2], config), vectors[:2].mean(dim=0))
    torch.testing.assert_close(pooled(vectors, PretrainedConfig("net.ts", slices=2)), vectors.mean(dim=0))


def test_maps_are_averaged_and_anything_else_is_refused(tmp_path):
    maps = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2))
    encoder = _encoder(_save_script(tmp_path / "maps.ts", maps))
    assert encoder.encode(_image(1, 20, 20)).shape == (5,)
    assert encoder.encode(_image(1, 20, 20), grid=2).shape == (20,)
    with pytest.raises(TrainingError, match=r"shape \(1, 5, 225\).*one vector an image"):
        _encoder(_save_script(tmp_path / "odd.ts", nn.Sequential(*maps, nn.Flatten(2)))).encode(_image(1, 20, 20))


def test_a_network_that_wants_another_size_or_other_channels_says_so(tmp_path):
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 4))
    path = _save_script(tmp_path / "fixed.ts", fixed)
    assert _encoder(path).encode(_image(1, 9, 9)).shape == (4,)
    with pytest.raises(TrainingError, match=r"cannot encode images of shape \(1, 3, 16, 16\).*Set channels or size"):
        load_pretrained(PretrainedConfig(str(path), size=16), "cpu").encode(_image(1, 9, 9))


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "weights"])
def test_a_file_that_is_no_torch_script_is_refused(tmp_path, damage):
    path = _save_script(tmp_path / "net.ts", _small())
    content = bytearray(path.read_bytes())
    if damage == "weights":
        torch.save(_small().state_dict(), path)
    else:
        content[content.index(b"PK\x03\x04", 1000) - 200] ^= 255
        broken = {"cut": content[: len(content) // 2], "flipped": content, "text": b"hello"}[damage]
        path.write_bytes(broken)
    with pytest.raises(TrainingError, match="is not a TorchScript file, or is damaged"):
        _encoder(path)


def _saved(path: Path, weights: object) -> str:
    torch.save(weights, path)
    return str(path)


@pytest.mark.parametrize("wrapped", [False, True])
def test_weights_of_a_monai_network_are_its_own_with_or_without_a_head(tmp_path, wrapped):
    network = resnet18(spatial_dims=2, n_input_channels=1, num_classes=7).eval()
    weights = network.state_dict()
    if wrapped:
        weights = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in weights.items()}}
    path = _saved(tmp_path / "weights.pt", weights)
    encoder = load_pretrained(PretrainedConfig("monai:resnet18", path, size=SIZE), "cpu")
    image = _image(1, 20, 26)
    network.fc = None
    expected = network(prepared(torch.from_numpy(rescaled(image))[None], 1, SIZE)).detach().numpy()[0]
    assert encoder.channels == 1
    np.testing.assert_allclose(encoder.encode(image), expected, rtol=1e-4, atol=1e-5)


def test_a_densenet_gives_its_features_before_the_classes(tmp_path):
    weights = densenet121(spatial_dims=2, in_channels=3, out_channels=5).state_dict()
    path = _saved(tmp_path / "weights.pt", weights)
    encoder = load_pretrained(PretrainedConfig("monai:densenet121", path, size=SIZE), "cpu")
    assert encoder.encode(_image(1, 30, 30)).shape == (1024,)


def test_without_weights_the_same_network_is_drawn_and_no_global_generator_is_touched():
    config, image = PretrainedConfig("monai:resnet10", size=SIZE), _image(1, 20, 20)
    torch.manual_seed(1)
    once = load_pretrained(config, "cpu").encode(image)
    before = torch.manual_seed(2).get_state()
    np.testing.assert_array_equal(load_pretrained(config, "cpu").encode(image), once)
    assert once.std() > 0
    assert torch.equal(torch.random.get_rng_state(), before)


def _torchvision_resnet18(weights: dict, images: torch.Tensor) -> torch.Tensor:
    """What torchvision's resnet18 computes of weights in its naming, written out."""

    def normed(name: str, x: torch.Tensor) -> torch.Tensor:
        mean, var, gain, bias = (
            weights[f"{name}.{each}"] for each in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, var, gain, bias)

    x = normed("bn1", functional.conv2d(images, weights["conv1.weight"], stride=2, padding=3)).relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = normed(f"{name}.bn1", functional.conv2d(x, weights[f"{name}.conv1.weight"], None, stride, 1)).relu()
            y = normed(f"{name}.bn2", functional.conv2d(y, weights[f"{name}.conv2.weight"], None, 1, 1))
            if stride == 2:
                x = normed(
                    f"{name}.downsample.1", functional.conv2d(x, weights[f"{name}.downsample.0.weight"], None, 2)
                )
            x = (x + y).relu()
    return x.mean(dim=(2, 3))


def test_weights_of_torchvisions_resnet18_give_what_they_give_there(tmp_path):
    network = resnet18(spatial_dims=2, n_input_channels=3, bias_downsample=False, num_classes=1000)
    rng = torch.Generator().manual_seed(0)
    weights = {
        name: value + 0.1 * torch.rand(value.shape, generator=rng) if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    path, image = _saved(tmp_path / "resnet18-f37072fd.pth", weights), _image(1, 40, 40)
    encoder = load_pretrained(PretrainedConfig("monai:resnet18", path, size=64), "cpu")
    expected = _torchvision_resnet18(weights, prepared(torch.from_numpy(rescaled(image))[None], 3, 64))
    np.testing.assert_allclose(encoder.encode(image), expected[0].numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("given", "named", "wrong"), [("18", "34", "missing"), ("34", "18", "unknown")])
def test_weights_of_another_architecture_are_refused_with_what_does_not_fit(tmp_path, given, named, wrong):
    weights = {"18": resnet18, "34": resnet34}[given](spatial_dims=2, n_input_channels=3).state_dict()
    path = _saved(tmp_path / "weights.pt", weights)
    with pytest.raises(TrainingError, match=rf"weights in .* do not fit.*layer1.2.* {wrong}.*Name the architecture"):
        load_pretrained(PretrainedConfig(f"monai:resnet{named}", path), "cpu")


def test_truncated_weights_and_pickled_objects_are_refused(tmp_path):
    weights = resnet18(spatial_dims=2, n_input_channels=3).state_dict()
    path = Path(_saved(tmp_path / "some.pt", dict(list(weights.items())[:40])))
    with pytest.raises(TrainingError, match=r"80 weights in .*layer2.0.bn2.running_var missing"):
        load_pretrained(PretrainedConfig("monai:resnet18", str(path)), "cpu")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(TrainingError, match="holds no weights that can be read"):
        load_pretrained(PretrainedConfig("monai:resnet18", str(path)), "cpu")
    torch.save({"network": _small()}, path)
    with pytest.raises(TrainingError, match="holds no weights that can be read"):
        load_pretrained(PretrainedConfig("monai:resnet18", str(path)), "cpu")


def test_a_network_that_monai_does_not_have(tmp_path):
    with pytest.raises(TrainingError, match="Did you mean 'resnet18'"):
        load_pretrained(PretrainedConfig("monai:resnet81"), "cpu")


def test_timm_is_asked_for_only_where_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(TrainingError, match="Run: pip install timm"):
        load_pretrained(PretrainedConfig("timm:resnet18"), "cpu")


def test_a_network_of_timm_takes_its_weights_from_the_file(monkeypatch, tmp_path):
    calls = []

    def create_model(name: str, **options: object) -> nn.Module:
        if name != "small":
            raise RuntimeError(f"Unknown model ({name})")
        calls.append(options)
        return _small(int(str(options["in_chans"])))

    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model))
    changed = {name: value + 1 for name, value in _small(1).state_dict().items()}
    path = _saved(tmp_path / "weights.pt", {**changed, "fc.weight": torch.zeros(2, 2)})
    encoder = load_pretrained(PretrainedConfig("timm:small", path), "cpu")
    assert calls == [{"pretrained": False, "num_classes": 0, "in_chans": 1}]
    torch.testing.assert_close(dict(encoder.network.state_dict()), changed)
    assert load_pretrained(PretrainedConfig("timm:small"), "cpu").channels == 3
    assert calls[-1]["pretrained"] is True
    with pytest.raises(TrainingError, match="timm cannot make 'large'"):
        load_pretrained(PretrainedConfig("timm:large"), "cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "network = None"),
        ({"network": 3}, "network = 3"),
        ({"network": "monai:resnet18", "siz": 3}, "Did you mean 'size'"),
        ({"network": "monai:resnet18", "size": 0}, "size = 0"),
        ({"network": "monai:resnet18", "size": True}, "size = True"),
        ({"network": "monai:resnet18", "size": "big"}, "size = 'big'"),
        ({"network": "monai:resnet18", "channels": 0}, "channels = 0"),
        ({"network": "monai:resnet18", "pool": "attention"}, "pool = 'attention'"),
        ({"network": "monai:resnet18", "weights": 3}, "weights = 3"),
        ({"network": "gone.ts"}, "gone.ts of encoder 'pretrained' is not there"),
        ({"network": "monai:resnet18", "weights": "gone.pt"}, "gone.pt of encoder 'pretrained' is not there"),
        ({"network": "there.ts", "weights": "there.ts"}, "a TorchScript file holds its own"),
    ],
)
def test_settings_that_cannot_be(tmp_path, settings, message):
    (tmp_path / "there.ts").write_text("")
    with pytest.raises(SelectionError, match=message):
        pretrained_config(settings, tmp_path)


def test_the_identity_of_an_encoder_changes_with_its_files_and_settings(tmp_path):
    def identity(**settings: object) -> dict:
        return pretrained_config({"network": "net.ts", **settings}, tmp_path).identity()

    (tmp_path / "net.ts").write_text("a")
    first = identity()
    assert first == identity()
    assert first != identity(size=64)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "net.ts").write_text("a")
    assert pretrained_config({"network": "copy/net.ts"}, tmp_path).identity() == first
    (tmp_path / "net.ts").write_text("b")
    assert first != identity()
    named = {"network": "monai:resnet18", "weights": "net.ts"}
    second = pretrained_config(named, tmp_path).identity()
    (tmp_path / "net.ts").write_text("c")
    assert pretrained_config(named, tmp_path).identity() != second
