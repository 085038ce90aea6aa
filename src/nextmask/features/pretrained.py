"""An encoder of the user's own: a TorchScript file, or an architecture of MONAI or timm with a file of weights.

What is run: a TorchScript file is a program. PyTorch executes it within TorchScript's own interpreter only, never as Python;
but its operators could still be misused, so take such a file from people from whom you would take a program. A file of weights
is read as tensors (``weights_only=True``): nothing in it is executed.
"""

from __future__ import annotations

import importlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nextmask.data.files import digest
from nextmask.errors import SelectionError, TrainingError
from nextmask.networks.device import choose_device
from nextmask.networks.weights import check_weights, read_stored

SIZE = 224
"""Pixels along each side of what a network sees: that of nearly all networks trained on photographs."""
POOLS = ("mean", "top_k")
"""How the vectors of a volume's slices may become one."""
SLICES = 8
"""Slices of a volume that "top_k" keeps."""
AT_A_TIME = 16
"""Slices that a network is given at once, so that memory does not grow with a volume."""
PERCENTILES = (1, 99)
"""Of an image's intensities: what becomes 0 and 1."""
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the three channels of ImageNet's photographs."""
RESNETS = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200")
DENSENETS = ("densenet121", "densenet169", "densenet201", "densenet264")
HEADS = ("fc.", "head.", "classifier.", "class_layers.out.")
"""Weights of layers that name classes: a file may hold them, and an encoder has no use for them."""
ADVICE = (
    "Name the architecture that the weights are of, or the file that belongs to it, in `pretraining` of study.toml."
)


@dataclass(frozen=True)
class PretrainedConfig:
    """Which encoder, and how images are made ready for it.

    ``network`` is a TorchScript file, "monai:NAME" or "timm:NAME"; ``weights`` a state dict for a named one. ``channels`` is
    what the network takes, read off its first convolution if not given; ``pool`` and ``slices`` say how the vectors of a
    volume's slices become one.
    """

    network: str
    weights: str | None = None
    size: int = SIZE
    pool: str = "mean"
    slices: int = SLICES
    channels: int | None = None

    @property
    def named(self) -> bool:
        """Say whether the network is an architecture by name rather than a file."""
        return self.network.startswith(("monai:", "timm:"))

    def identity(self) -> dict[str, Any]:
        """Say all that the embeddings depend on, files by the SHA-256 of their bytes."""
        files = {"weights": digest(Path(self.weights))} if self.weights else {}
        if not self.named:
            files["network"] = digest(Path(self.network))
        return {**asdict(self), **files}


def pretrained_config(settings: Mapping[str, Any], folder: Path) -> PretrainedConfig:
    """Read the settings of a study; paths are relative to its ``folder``.

    Raises SelectionError for a setting that does not exist, has an impossible value or names a file that is not there.
    """
    names = [each.name for each in fields(PretrainedConfig)]
    for name in settings:
        if name not in names:
            close = get_close_matches(name, names, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else "Leave it out."
            raise SelectionError(f"Encoder 'pretrained' has no setting {name!r}. Expected {', '.join(names)}. {hint}")
    if not isinstance(settings.get("network"), str):
        raise SelectionError(
            f"Encoder 'pretrained' has network = {settings.get('network')!r}. Expected a TorchScript file, monai:NAME or "
            'timm:NAME. Write into study.toml: pretraining = {network = "monai:resnet18", weights = "resnet18.pt"}.'
        )
    _refuse_impossible(settings)
    config = PretrainedConfig(**settings)
    network = config.network if config.named else _found(folder / config.network)
    weights = None if config.weights is None else _found(folder / config.weights)
    return replace(config, network=network, weights=weights)


def _refuse_impossible(settings: Mapping[str, Any]) -> None:
    named = PretrainedConfig(settings["network"]).named
    possible = {
        "weights": lambda value: isinstance(value, str) and named,
        "pool": lambda value: value in POOLS,
        **dict.fromkeys(("size", "slices", "channels"), lambda value: type(value) is int and value > 0),
    }
    wrong = [
        f"{name} = {settings[name]!r}" for name in possible if name in settings and not possible[name](settings[name])
    ]
    if wrong:
        raise SelectionError(
            f"Encoder 'pretrained' has {', '.join(wrong)}. Expected whole numbers from 1 for size, slices and channels, pool "
            f"one of {', '.join(POOLS)}, and a file of weights only for monai:NAME and timm:NAME, since a TorchScript file "
            "holds its own. Mend `pretraining` in study.toml."
        )


def _found(path: Path) -> str:
    if not path.is_file():
        raise SelectionError(
            f"{path} of encoder 'pretrained' is not there. Expected a file, its path relative to the study's folder, or "
            "monai:NAME or timm:NAME for a network. Mend `pretraining` in study.toml, or put the file there."
        )
    return str(path)


@dataclass(frozen=True, eq=False)
class PretrainedEncoder:
    """A network and how images are made ready for it; made by `load_pretrained`."""

    config: PretrainedConfig
    network: nn.Module
    channels: int
    device: torch.device

    @torch.inference_mode()
    def encode(self, image: np.ndarray, grid: int = 1) -> np.ndarray:
        """Describe an image of the working grid, (channels, y, x) or (channels, z, y, x), as a vector, (dims,) float32.

        The slices of a volume are encoded one by one, and their vectors pooled. ``grid`` is for networks that give maps,
        (batch, widths, y, x): they are averaged over so many parts along each axis.
        """
        slices = torch.from_numpy(_as_slices(rescaled(image)))
        vectors = torch.cat([self._vectors(part, grid) for part in slices.split(AT_A_TIME)])
        return pooled(vectors, self.config).numpy()

    def _vectors(self, slices: Tensor, grid: int) -> Tensor:
        batch = prepared(slices.to(self.device), self.channels, self.config.size)
        try:
            found = self.network(batch)
        except (RuntimeError, AssertionError, ValueError) as error:  # whatever a network of somebody else's raises
            said = str(error).strip().split("\n")[-1]
            raise TrainingError(
                f"{self.config.network} cannot encode images of shape {tuple(batch.shape)}: {said}. Expected a network for "
                f"{self.channels} channels and {self.config.size} pixels a side. Set channels or size in `pretraining`."
            ) from error
        if isinstance(found, Tensor) and found.ndim == 4:
            found = functional.adaptive_avg_pool2d(found.float(), grid).flatten(1)
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(slices):
            what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise TrainingError(
                f"{self.config.network} answers {len(slices)} images with {what}. Expected ({len(slices)}, dims), or maps of "
                f"({len(slices)}, widths, y, x). Save a network that ends in one vector an image."
            )
        return found.float().cpu()


def rescaled(image: np.ndarray) -> np.ndarray:
    """Map an image's 1st to 99th percentile, over all of its channels and slices, to 0 and 1; beyond is cut off.

    Where these are equal (a small object before much background) the lowest and highest take their place; a constant image
    is 0.
    """
    image = np.asarray(image, dtype=np.float32)
    low, high = np.percentile(image, PERCENTILES)
    if high <= low:
        low, high = image.min(), image.max()
    if high <= low:
        return np.zeros_like(image)
    return np.clip((image - np.float32(low)) / np.float32(high - low), 0, 1)


def prepared(slices: Tensor, channels: int, size: int) -> Tensor:
    """Give slices of 0 to 1, (n, channels, y, x), the channels and the size that a network takes.

    Channels are repeated in turn or cut, and averaged where the network takes one; three are normalised as ImageNet's
    photographs are. Bilinear, smoothed where it shrinks; both axes become ``size``, whatever they were to one another.
    """
    count = slices.shape[1]
    if channels == 1:
        slices = slices.mean(dim=1, keepdim=True)
    elif channels != count:
        slices = slices[:, torch.arange(channels, device=slices.device) % count]
    if slices.shape[2:] != (size, size):
        slices = functional.interpolate(slices, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    if channels == 3:
        mean, spread = (torch.tensor(each, device=slices.device).view(1, 3, 1, 1) for each in (MEAN, SPREAD))
        slices = (slices - mean) / spread
    return slices


def pooled(vectors: Tensor, config: PretrainedConfig) -> Tensor:
    """Pool the vectors of a volume's slices, (slices, dims), into one.

    "mean" takes all. "top_k" takes the ``slices`` longest vectors: after ReLU and averaging, a vector is as long as
    features of the network are found in the slice, so that empty slices at the ends of a volume drop out; no label and no
    training takes part. Networks that end in layer normalisation make all vectors much the same length: take "mean" there.
    """
    if config.pool == "top_k" and len(vectors) > config.slices:
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        vectors = vectors[torch.argsort(lengths, descending=True, stable=True)[: config.slices]]
    return vectors.mean(dim=0)


def _as_slices(image: np.ndarray) -> np.ndarray:
    """Lay an image out as (slices, channels, y, x); a picture is one slice."""
    return image[None] if image.ndim == 3 else np.ascontiguousarray(np.moveaxis(image, 1, 0))


def load_pretrained(config: PretrainedConfig, device: str) -> PretrainedEncoder:
    """Open the network that ``config`` names, ready to encode.

    Raises TrainingError for a file that is damaged or something else, weights that do not fit, and a network that does not
    exist or whose library is not installed.
    """
    where = torch.device(choose_device(device))
    if not config.named:
        network = _torch_script(Path(config.network), where)
        channels = config.channels or _first_channels(dict(network.named_parameters())) or 3
        return PretrainedEncoder(config, network, channels, where)
    weights = _weights(Path(config.weights)) if config.weights else {}
    channels = config.channels or _first_channels(weights) or 3
    library, name = config.network.split(":", 1)
    network = _monai(name, channels, weights) if library == "monai" else _timm(name, channels, trained=not weights)
    if weights:
        assert config.weights is not None
        _fill(network, weights, Path(config.weights))
    return PretrainedEncoder(config, network.to(where).eval(), channels, where)


def _torch_script(path: Path, device: torch.device) -> nn.Module:
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not compare checksums: a flipped bit would pass
            damaged = archive.testzip()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
            network = None if damaged else torch.jit.load(path, map_location=device)
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile):
        network = None
    if network is None:
        raise TrainingError(
            f"{path} is not a TorchScript file, or is damaged. Expected what torch.jit.save wrote. Save the network by "
            'torch.jit.trace(network, example).save(path); for a file of weights alone give network = "monai:NAME" and the '
            "file as weights."
        )
    loaded: nn.Module = network.eval()
    return loaded


def _weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict, also one that a trainer put into a dict of its own or saved of a network run in parallel."""
    stored = read_stored(path)
    if stored is not None:
        stored = next((stored[name] for name in ("state_dict", "model") if isinstance(stored.get(name), dict)), stored)
    tensors = {
        re.sub(r"^module\.", "", key): value for key, value in (stored or {}).items() if isinstance(value, Tensor)
    }
    if not tensors:
        raise TrainingError(
            f"{path} holds no weights that can be read, or is damaged. Expected a state dict: names and tensors, as "
            "torch.save(network.state_dict(), path) writes them. Save it so; files that hold Python objects are not opened."
        )
    return tensors


def _first_channels(weights: Mapping[str, Tensor]) -> int | None:
    """Read off how many channels the first convolution in two dimensions takes; None if there is none."""
    return next((value.shape[1] for value in weights.values() if value.ndim == 4), None)


def _monai(name: str, channels: int, weights: Mapping[str, Tensor]) -> nn.Module:
    """Build a network of MONAI in two dimensions, without the layer that names classes; random weights of a fixed seed."""
    if name not in RESNETS + DENSENETS:
        close = get_close_matches(name, RESNETS + DENSENETS, n=1)
        raise TrainingError(
            f"There is no network {name!r} of MONAI that nextmask can encode with. Expected one of "
            f"{', '.join(RESNETS + DENSENETS)}. {f'Did you mean {close[0]!r}?' if close else 'Save yours as TorchScript.'}"
        )
    from monai.networks import nets  # seconds to import: not before a network is wanted

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        if name in RESNETS:
            options = _as_torchvision() if weights and not _has_bias(weights) else {}
            network = getattr(nets, name)(spatial_dims=2, n_input_channels=channels, feed_forward=False, **options)
        else:
            network = getattr(nets, name)(spatial_dims=2, in_channels=channels, out_channels=1)
            network.class_layers.out = nn.Identity()
    assert isinstance(network, nn.Module)
    return network


def _has_bias(weights: Mapping[str, Tensor]) -> bool:
    return any(key.endswith("downsample.0.bias") for key in weights)


def _as_torchvision() -> dict[str, Any]:
    """Return what makes MONAI's residual networks those of torchvision, whose weights lack a bias where they shrink."""
    return {"bias_downsample": False, "conv1_t_stride": 2}


def _timm(name: str, channels: int, *, trained: bool) -> nn.Module:
    """Build a network of timm, which fetches its published weights where no file of them was given."""
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise TrainingError(
            f"timm:{name} needs the package timm, which is not installed. Expected it beside nextmask. Run: pip install timm"
        ) from error
    try:
        network = timm.create_model(name, pretrained=trained, num_classes=0, in_chans=channels)
    except (RuntimeError, OSError, ValueError) as error:
        raise TrainingError(
            f"timm cannot make {name!r}: {error}. Expected one of timm.list_models(). Mend the name, or give the weights as "
            "a file if this machine cannot fetch them."
        ) from error
    assert isinstance(network, nn.Module)
    return network


def _fill(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    wanted = network.state_dict()
    fitting = {key: value for key, value in weights.items() if key in wanted or not key.startswith(HEADS)}
    check_weights(fitting, wanted, path, ADVICE)
    network.load_state_dict(fitting)
