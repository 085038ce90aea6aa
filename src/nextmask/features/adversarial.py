"""How little images look like labeled ones: an autoencoder and a discriminator, trained against each other (VAAL)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from nextmask.data.files import Progress
from nextmask.errors import DataError, TrainingError
from nextmask.features.unlabeled import Unlabeled, refuse_one_kind
from nextmask.networks.architecture import derive_size, possible_strides
from nextmask.networks.device import choose_device
from nextmask.networks.optimise import torch_seed
from nextmask.networks.unet import strides_of

LATENT = 32
WIDTHS = (16, 32, 64, 128, 256)
"""Channels of the autoencoder, from the first level down; deeper ones stay as wide as the last."""
DISCRIMINATOR = 512
LARGEST_SIDE = {2: 64, 3: 32}
"""Voxels that an axis keeps at most, by dimensions: what is told apart are kinds of images, not details."""
PASSES = 50
"""Times that the pool is seen, within the limits of ITERATIONS."""
ITERATIONS = {"cpu": (100, 1000), "gpu": (100, 10000)}
"""Fewest and most steps of the discriminator, by kind of device."""
AT_A_TIME = 64
_WEIGHTS, _ROWS, _NOISE = range(3)  # streams of randomness, each of its own seed


@dataclass(frozen=True)
class AdversarialConfig:
    """Everything that decides the training besides the images, what is labeled, and the seed.

    ``batch_size`` images of each kind are seen at a time, all of them resized to ``patch_size``; ``beta`` weighs how close
    the latent space keeps to a normal distribution, and ``adversarial`` how much the autoencoder wants to be mistaken.
    """

    dimensions: int
    channels: int
    patch_size: tuple[int, ...]
    iterations: int
    batch_size: int = 16
    learning_rate: float = 5e-4
    autoencoder_steps: int = 2
    beta: float = 1.0
    adversarial: float = 1.0


def derive_adversarial_config(
    shapes: Sequence[tuple[int, ...]], channels: int, samples: int, *, dimensions: int, device: str
) -> AdversarialConfig:
    """Derive the training from the pool's working-grid shapes, (z, y, x) or (y, x), its number of samples and the device."""
    patch = derive_size(shapes, dimensions=dimensions, device=device).patch_size
    fewest, most = ITERATIONS["cpu" if torch.device(device).type == "cpu" else "gpu"]
    small = tuple(min(n, LARGEST_SIDE[dimensions]) for n in patch)
    iterations = PASSES * math.ceil(samples / (2 * AdversarialConfig.batch_size))
    return AdversarialConfig(dimensions, channels, small, iterations=int(np.clip(iterations, fewest, most)))


class Autoencoder(nn.Module):
    """A variational autoencoder: strided convolutions to LATENT numbers and their spread, and the way back."""

    def __init__(self, config: AdversarialConfig) -> None:
        super().__init__()
        strides = _strides(config.patch_size)
        widths = [config.channels, *(WIDTHS[min(level, len(WIDTHS) - 1)] for level in range(len(strides)))]
        bottom = [n // prod(stride[axis] for stride in strides) for axis, n in enumerate(config.patch_size)]
        flat = widths[-1] * prod(bottom)
        levels = list(zip(widths, widths[1:], strides, strict=False))
        self.encoder = nn.Sequential(*[_down(*level, config.dimensions) for level in levels], nn.Flatten())
        self.mean, self.log_variance = nn.Linear(flat, LATENT), nn.Linear(flat, LATENT)
        ways = [_up(below, above, stride, config.dimensions) for above, below, stride in levels[:0:-1]]
        above, below, stride = levels[0]
        last = _convolution(config.dimensions, transposed=True)(below, above, stride, stride=stride)
        self.decoder = nn.Sequential(nn.Linear(LATENT, flat), nn.Unflatten(1, (widths[-1], *bottom)), *ways, last)

    def forward(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Give images back, with the mean and the log variance of their latent distribution."""
        encoded = self.encoder(images)
        mean, log_variance = self.mean(encoded), self.log_variance(encoded)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return self.decoder(mean + noise * torch.exp(log_variance / 2)), mean, log_variance

    def place(self, images: Tensor) -> Tensor:
        """Say where images lie, (batch, LATENT)."""
        where: Tensor = self.mean(self.encoder(images))
        return where


def _strides(patch_size: Sequence[int]) -> list[tuple[int, ...]]:
    return strides_of(patch_size, 1 + len(possible_strides(patch_size)))


def _down(above: int, below: int, stride: tuple[int, ...], dimensions: int) -> nn.Module:
    convolution = _convolution(dimensions)(above, below, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, _norm(dimensions)(below), nn.ReLU())


def _up(below: int, above: int, stride: tuple[int, ...], dimensions: int) -> nn.Module:
    convolution = _convolution(dimensions, transposed=True)(below, above, stride, stride=stride, bias=False)
    return nn.Sequential(convolution, _norm(dimensions)(above), nn.ReLU())


def _convolution(dimensions: int, *, transposed: bool = False) -> type[nn.Module]:
    if transposed:
        return nn.ConvTranspose2d if dimensions == 2 else nn.ConvTranspose3d
    return nn.Conv2d if dimensions == 2 else nn.Conv3d


def _norm(dimensions: int) -> type[nn.Module]:
    return nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm3d


def _discriminator() -> nn.Module:
    """Build what says, before the sigmoid, how labeled the sample of a latent place looks."""
    return nn.Sequential(
        nn.Linear(LATENT, DISCRIMINATOR),
        nn.ReLU(),
        nn.Linear(DISCRIMINATOR, DISCRIMINATOR),
        nn.ReLU(),
        nn.Linear(DISCRIMINATOR, 1),
        nn.Flatten(0),
    )


def unlabeledness(
    pool: Unlabeled,
    labeled: np.ndarray,
    config: AdversarialConfig,
    *,
    seed: Sequence[int],
    device: str,
    progress: Progress | None = None,
) -> np.ndarray:
    """Say of every sample how little it looks like a labeled one: (samples,) float32 between 0 and 1, in the pool's order.

    An autoencoder learns to give the pool's images back, and to place unlabeled ones where a discriminator takes them for
    labeled; the discriminator learns to see through that, with 1 for labeled and 0 for unlabeled. Returned is 1 minus its
    answer. Both see as many labeled as unlabeled images, whatever the pool has. What step i draws depends on ``seed`` and i.

    Source: Sinha, Ebrahimi and Darrell, "Variational adversarial active learning", ICCV 2019,
    https://arxiv.org/abs/1904.00370; Adam at 5e-4, two steps of the autoencoder for one of the discriminator, beta 1 and
    adversarial weight 1 as there.

    Raises SelectionError unless there is a labeled and an unlabeled sample; DataError for images that are not finite or of
    another kind than the others; TrainingError if the training does not stay finite.
    """
    refuse_one_kind(labeled)
    where = torch.device(choose_device(device))
    autoencoder, discriminator = _networks(config, seed, where)
    of_autoencoder = torch.optim.Adam(autoencoder.parameters(), lr=config.learning_rate, fused=True)
    of_discriminator = torch.optim.Adam(discriminator.parameters(), lr=config.learning_rate, fused=True)
    targets = torch.cat([torch.ones(config.batch_size), torch.zeros(config.batch_size)]).to(where)
    for i in range(config.iterations):
        for step in range(config.autoencoder_steps):
            rows = _rows(labeled, config.batch_size, np.random.default_rng([*seed, _ROWS, i, step]))
            images = _read(pool, rows, config).to(where)
            generator = torch.Generator(where).manual_seed(torch_seed(seed, _NOISE, i, step))
            _move(of_autoencoder, _autoencoder_loss(autoencoder, discriminator, images, generator, config))
        with torch.no_grad():
            places = autoencoder.place(images)
        loss = functional.binary_cross_entropy_with_logits(discriminator(places), targets)
        _move(of_discriminator, loss)
        if progress:
            progress(i + 1, config.iterations)
    return _answers(pool, autoencoder.eval(), discriminator, config, where)


def _networks(config: AdversarialConfig, seed: Sequence[int], device: torch.device) -> tuple[Autoencoder, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(torch_seed(seed, _WEIGHTS))
        return Autoencoder(config).to(device).train(), _discriminator().to(device)


def _autoencoder_loss(
    autoencoder: Autoencoder, discriminator: nn.Module, images: Tensor, generator: Generator, config: AdversarialConfig
) -> Tensor:
    """Add up, per voxel, how badly images come back and how odd their places are, and how many are not taken for labeled."""
    restored, mean, log_variance = autoencoder(images, generator)
    odd = (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1).mean() / 2
    taken = discriminator(mean)
    mistaken = 2 * functional.binary_cross_entropy_with_logits(taken, torch.ones_like(taken))  # a mean for each kind
    return functional.mse_loss(restored, images) + config.beta * odd / images[0].numel() + config.adversarial * mistaken


def _move(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def _rows(labeled: np.ndarray, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw as many labeled as unlabeled rows, in this order; where there are too few of a kind, some twice."""
    kinds = (np.flatnonzero(labeled), np.flatnonzero(~labeled))
    return np.concatenate([rng.choice(kind, batch_size, replace=len(kind) < batch_size) for kind in kinds])


def _read(pool: Unlabeled, rows: np.ndarray, config: AdversarialConfig) -> Tensor:
    return torch.cat([_resized(pool.load(int(row)), int(row), config) for row in rows])


def _resized(image: np.ndarray, row: int, config: AdversarialConfig) -> Tensor:
    """Resize a whole image to the patch, (1, channels, *patch): nothing of it may stay unseen."""
    if image.ndim != config.dimensions + 1 or len(image) != config.channels:
        raise DataError(
            f"The image of sample row {row} has the shape {image.shape}. Expected {config.channels} channels and "
            f"{config.dimensions} spatial axes. Give a study images of one kind."
        )
    pixels = torch.from_numpy(np.array(image, dtype=np.float32))[None]
    if not torch.isfinite(pixels).all():
        raise DataError(
            f"The image of sample row {row} has {int((~torch.isfinite(pixels)).sum())} NaN or infinite voxels. "
            "Expected an image of finite intensities. Repair the file, or drop the case from the pool."
        )
    planar = config.dimensions == 2
    mode = "bilinear" if planar else "trilinear"
    return functional.interpolate(pixels, config.patch_size, mode=mode, align_corners=False, antialias=planar)


@torch.inference_mode()
def _answers(
    pool: Unlabeled, autoencoder: Autoencoder, discriminator: nn.Module, config: AdversarialConfig, device: torch.device
) -> np.ndarray:
    answers = []
    for start in range(0, len(pool), AT_A_TIME):
        images = _read(pool, np.arange(start, min(start + AT_A_TIME, len(pool))), config)
        answers.append(torch.sigmoid(-discriminator(autoencoder.place(images.to(device)))).cpu())
    found = torch.cat(answers).numpy()
    if not np.isfinite(found).all():
        raise TrainingError(
            f"Of {len(found)} samples {np.count_nonzero(~np.isfinite(found))} got no finite unlabeledness. Expected all "
            f"finite. Lower the learning rate (now {config.learning_rate:g}), or look for images far out of the usual range."
        )
    return found
