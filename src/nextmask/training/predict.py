"""What a trained network says about an image: class probabilities, and a vector that describes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nextmask.errors import TrainingError
from nextmask.networks.describe import describe
from nextmask.networks.device import choose_device
from nextmask.networks.dropout import dropouts, dropping
from nextmask.networks.running import autocast, in_memory_format, place
from nextmask.networks.unet import build_unet, contracting
from nextmask.networks.weights import check_weights, read_stored, save_tensors
from nextmask.training.config import TrainConfig, config_from
from nextmask.training.views import mean_of

FORMAT = "nextmask segmenter 1"
OVERLAP = 0.5
STITCHED_ON_DEVICE = 2**30
"""Bytes of probabilities up to which windows are stitched on the device; a larger volume is stitched in main memory."""


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A trained network, or several that predict together, and the configuration they were trained with."""

    config: TrainConfig
    network: nn.Module
    further: tuple[nn.Module, ...] = ()

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All networks."""
        return (self.network, *self.further)

    @property
    def dimensions(self) -> int:
        """Axes of what the networks take: 2 = slices, and volumes slice by slice; 3 = volumes."""
        return self.config.dimensions

    @property
    def device(self) -> torch.device:
        """Name the device that the network is on."""
        return next(self.network.parameters()).device

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Return class probabilities (classes, *spatial) float32 of an image (channels, *spatial) on the same grid.

        A network of slices takes a volume too, slice by slice. Windows of the training patch overlap by half and are
        blended with Gaussian weights; an image smaller than the patch is padded with its border and cropped back.
        Several networks predict one after another, and the mean of what they say is returned.
        """
        return mean_of(self.predict_members(image))

    def predict_members(self, image: np.ndarray) -> Iterator[np.ndarray]:
        """Yield what each network says of one image, each as `predict` gives it.

        Made one at a time, so that no more than one need be in memory.
        """
        batch, by_slice = self._as_batch(image)
        for network in self.networks:
            yield self._predicted(network, batch, by_slice)

    @torch.inference_mode()
    def _predicted(self, network: nn.Module, batch: Tensor, by_slice: bool) -> np.ndarray:
        probabilities = self._sliding_window(network, batch)
        probabilities = probabilities.transpose(0, 1) if by_slice else probabilities[0]
        return np.ascontiguousarray(probabilities.float().cpu().numpy())

    def predict_dropout(self, image: np.ndarray, members: int, seed: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield so many predictions of one image, each as `predict` makes it, with other activations dropped.

        Only dropout is as in training; normalisation is not, and nothing of the network changes. What member k drops
        depends on ``seed`` and k alone; several networks take turns. Made one at a time. Gal and Ghahramani, "Dropout as a
        Bayesian approximation", ICML 2016, https://arxiv.org/abs/1506.02142.

        Raises TrainingError if the network was trained without dropout.
        """
        if not dropouts(self.network):
            raise TrainingError(
                f"This segmenter drops nothing (dropout = {self.config.dropout:g}), so all members would be equal. Expected "
                "one that was trained with dropout. Train it so, or compare mirrored views (`mirrored_views`)."
            )
        return self._members_by_dropout(image, members, seed)

    def _members_by_dropout(self, image: np.ndarray, members: int, seed: Sequence[int]) -> Iterator[np.ndarray]:
        for k in range(members):
            drawn = int(np.random.default_rng([*seed, k]).integers(2**63 - 1))
            one = Segmenter(self.config, self.networks[k % len(self.networks)])
            with dropping(one.network, torch.Generator(self.device).manual_seed(drawn)):
                member = one.predict(image)
            yield member

    def encode(self, image: np.ndarray, grid: int = 1) -> np.ndarray:
        """Return the network's bottleneck activations averaged over an image (channels, *spatial), (dims,) float32.

        With ``grid``, over so many parts along every axis. A volume given to a network of slices is the mean over its slices.
        Of several networks the first: their activations cannot be compared.
        """
        batch, _ = self._as_batch(image)
        return self._describe(batch, grid).mean(dim=0).numpy()

    def encode_batch(self, images: np.ndarray) -> np.ndarray:
        """Encode equally shaped images (n, channels, *spatial), spatial axes as the network's, as (n, dims) float32."""
        if images.ndim != self.config.dimensions + 2:
            raise _wrong_shape(images.shape, self.config, leading="n, ")
        self._check_channels(images.shape[1:])
        return self._describe(torch.from_numpy(np.array(images, dtype=np.float32))).numpy()

    def _describe(self, batch: Tensor, grid: int = 1) -> Tensor:
        at_a_time = 2 * self.config.batch_size
        return describe(contracting(self.network), batch, self.config, at_a_time=at_a_time, grid=grid)

    def _as_batch(self, image: np.ndarray) -> tuple[Tensor, bool]:
        """Turn an image into a batch of what the network takes; say whether its slices became the batch."""
        by_slice = image.ndim == self.config.dimensions + 2
        if not (image.ndim == self.config.dimensions + 1 or (by_slice and self.config.dimensions == 2)):
            raise _wrong_shape(image.shape, self.config)
        self._check_channels(image.shape)
        tensor = torch.from_numpy(np.array(image, dtype=np.float32))
        return (tensor.transpose(0, 1) if by_slice else tensor.unsqueeze(0)), by_slice

    def _check_channels(self, shape: tuple[int, ...]) -> None:
        if shape[0] != self.config.channels:
            raise _wrong_shape(shape, self.config)

    def _sliding_window(self, network: nn.Module, batch: Tensor) -> Tensor:
        from monai.inferers.utils import sliding_window_inference

        stitched = 4 * self.config.classes * batch[:, 0].numel()
        probabilities = sliding_window_inference(
            batch,
            self.config.patch_size,
            max(self.config.batch_size, 1),
            partial(self._probabilities, network),
            overlap=OVERLAP,
            mode="gaussian",
            padding_mode="replicate",
            sw_device=self.device,
            device=self.device if stitched <= STITCHED_ON_DEVICE else torch.device("cpu"),
        )
        assert isinstance(probabilities, Tensor)  # a predictor of one tensor gives one
        return probabilities

    def _probabilities(self, network: nn.Module, patches: Tensor) -> Tensor:
        with autocast(self.config, self.device):
            logits = network(in_memory_format(patches, self.config))
        return torch.softmax(logits.float(), dim=1)


def _wrong_shape(shape: tuple[int, ...], config: TrainConfig, leading: str = "") -> TrainingError:
    axes = "z, y, x" if config.dimensions == 3 else "y, x" if leading else "[z, ]y, x"
    return TrainingError(
        f"An image of shape {tuple(shape)} was given to a network of {config.channels} channels and "
        f"{config.dimensions} dimensions. Expected ({leading}{config.channels}, {axes}). "
        "Give the channels it was trained on."
    )


def save_segmenter(segmenter: Segmenter, path: Path) -> None:
    """Write weights and configuration, so that a crash leaves the old file or the new one, never half of one."""
    save_tensors(
        {
            "format": FORMAT,
            "config": asdict(segmenter.config),
            "weights": segmenter.network.state_dict(),
            "further": [network.state_dict() for network in segmenter.further],
        },
        path,
    )


def load_segmenter(path: Path, device: str) -> Segmenter:
    """Read what ``save_segmenter`` wrote; nothing in the file is executed.

    Raises TrainingError if the file is missing, damaged or something else, or if its weights do not fit its network.
    """
    stored = read_stored(path)
    if stored is None or stored.get("format") != FORMAT:
        raise TrainingError(
            f"{path} is not a segmenter, or is damaged. Expected a file that save_segmenter wrote. "
            "Restore it from a backup, or train again."
        )
    config = config_from(stored["config"])
    where = torch.device(choose_device(device))
    networks = [_network(config, weights, path, where) for weights in (stored["weights"], *stored.get("further", ()))]
    return Segmenter(config, networks[0], tuple(networks[1:]))


def _network(config: TrainConfig, weights: Mapping[str, Tensor], path: Path, where: torch.device) -> nn.Module:
    network = build_unet(config, config.classes)
    check_weights(weights, network.state_dict(), path)
    network.load_state_dict(weights)
    return place(network, config, where).eval()
