"""A study whose encoder is the user's own."""

from __future__ import annotations

import importlib.util
import re
import tomllib
import warnings
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from nextmask.cli import app
from nextmask.errors import SelectionError
from nextmask.features.pretrained import PretrainedConfig
from nextmask.study.config import parse_config, write_config
from nextmask.study.simulate import simulate
from nextmask.study.study import Study

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_encoder.py"


def _save(path: Path, seed: int = 0) -> None:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(network, torch.zeros(1, 3, 16, 16)).save(path)


def _example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_encoder", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_of_an_encoder_is_one(home):
    example = _example()
    example.write(home / "edges.ts")
    settings = {"encoder": "pretrained", "pretraining": {"network": "edges.ts", "size": 32}}
    write_config(home, Study(home).config.model_copy(update=settings))
    study = Study(home)
    assert study.embed().array.shape == (len(study.pool), 64)
    assert len(study.query(3, "typiclust").samples) == 3
    bars = torch.zeros(1, 3, 64, 64)
    bars[..., 8::16] = 1
    upright, lying = example.Edges()(torch.cat([bars, bars.transpose(2, 3)])).unflatten(1, (4, 16)).mean(2)
    assert upright[0] > 10 * upright[1]
    torch.testing.assert_close(upright[:2], lying[[1, 0]])


@pytest.fixture
def with_encoder(home: Path) -> Path:
    _save(home / "encoder.ts")
    config = Study(home).config.model_copy(update={"pretraining": {"network": "encoder.ts", "size": 16}})
    write_config(home, config)
    return home


def test_the_command_line_embeds_a_pool_with_a_torch_script_file(with_encoder):
    done = CliRunner().invoke(app, ["embed", str(with_encoder), "--encoder", "pretrained"])
    assert done.exit_code == 0, done.output
    assert "in 6 dimensions by encoder pretrained" in done.output


def test_another_file_of_the_same_name_gives_other_embeddings(with_encoder):
    first = Study(with_encoder).embed("pretrained")
    np.testing.assert_array_equal(Study(with_encoder).embed("pretrained").array, first.array)
    _save(with_encoder / "encoder.ts", seed=1)
    second = Study(with_encoder).embed("pretrained")
    assert second.used["segmenter"] != first.used["segmenter"]
    assert second.used["pretrained"]["network"] != first.used["pretrained"]["network"]
    assert not np.allclose(first.array, second.array)


def test_a_simulation_finds_the_file_of_its_study(with_encoder):
    played = simulate(
        with_encoder, strategy="k_center", query_size=3, rounds=1, settings={"encoder": "pretrained", "iterations": 1}
    )
    used = played.rounds[0].details["used"]["embeddings"]
    assert used["encoder"] == "pretrained"
    assert used["pretrained"] == Study(with_encoder).embed("pretrained").used["pretrained"]


def test_without_a_network_the_error_says_what_to_write(home):
    with pytest.raises(SelectionError, match=r"Write into study.toml: pretraining ="):
        Study(home).embed("pretrained")


def test_the_document_shows_settings_that_are_read_and_names_all_of_them():
    text = (Path(__file__).parents[2] / "docs" / "pretrained.md").read_text()
    (shown,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    settings = {**tomllib.loads(shown), "images": "images", "classes": ["organ"]}
    assert parse_config(settings).pretraining["network"] == "encoder.ts"
    assert re.findall(r"^\| `(\w+)`", text, re.MULTILINE) == [each.name for each in fields(PretrainedConfig)]
