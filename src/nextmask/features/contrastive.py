"""Contrastive learning: two views of one image lie close, and views of different images apart (SimCLR).

With groups, views of one patient, volume or of neighbouring slices lie closer than others: the metric of the learned
core-set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from nextmask.errors import SelectionError
from nextmask.features.group_batches import group_batches
from nextmask.features.pretrain import PretrainConfig, Task, its_encoder
from nextmask.features.unlabeled import Batch, Unlabeled, shuffled_passes
from nextmask.networks.augment import change_intensities, positions, random_affine, uniform
from nextmask.networks.running import in_memory_format
from nextmask.networks.unet import build_unet, contracting

NETWORKS = ("unet", "resnet18")
"""What may be trained: what warms up a segmenter, or what the papers train."""
RESNET_WIDTH = 512
PROJECTED = 64
"""Dimensions of the space in which views are compared."""
ERASED = 0.2
"""Share of views of which a box is erased."""


class Projector(nn.Module):
    """A network averaged over space, and a head that only training uses.

    The network is the contracting half of the segmenter's U-Net, or a ResNet-18 as in the literature, by option ``network``.
    """

    def __init__(self, config: PretrainConfig, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            if network_of(config) == "resnet18":
                self.encoder, width, norm = _resnet18(config), RESNET_WIDTH, []
            else:
                self.encoder, width = contracting(build_unet(config, config.channels, seed)), config.features[-1]
                # Instance normalisation leaves all images much the same mean activations: what they differ in is small.
                norm = [nn.BatchNorm1d(width, affine=False)]
            self.head = nn.Sequential(
                *norm, nn.Linear(width, width, bias=False), nn.ReLU(), nn.Linear(width, PROJECTED, bias=False)
            )

    def forward(self, images: Tensor) -> Tensor:
        """Project images, (batch, channels, *patch), to (batch, PROJECTED)."""
        projected: Tensor = self.head(self.encoder(images).flatten(2).mean(dim=2))
        return projected


def network_of(config: PretrainConfig) -> str:
    """Say which network a task wants; raise SelectionError if there is none of that name."""
    name = config.options.get("network", NETWORKS[0])
    if name not in NETWORKS:
        raise SelectionError(
            f"Task {config.task!r} has network = {name!r}. Expected one of {', '.join(NETWORKS)}. Mend `pretraining` in "
            "study.toml, or leave network out."
        )
    return str(name)


def _resnet18(config: PretrainConfig) -> nn.Sequential:
    """Build a ResNet-18 for images of any channels, in two or three dimensions, up to where it would be averaged over space.

    Shrinks by 2 in its first convolution, as the original. Source: He et al., CVPR 2016, https://arxiv.org/abs/1512.03385.
    """
    from monai.networks.nets.resnet import resnet18  # seconds to import: not before a network is wanted

    network = resnet18(
        spatial_dims=config.dimensions,
        n_input_channels=config.channels,
        conv1_t_stride=2,
        bias_downsample=False,
        feed_forward=False,
    )
    first = (network.conv1, network.bn1, network.act, network.maxpool)
    return nn.Sequential(*first, network.layer1, network.layer2, network.layer3, network.layer4)


def view(images: Tensor, generator: Generator) -> Tensor:
    """Turn, scale, move, mirror, soften, brighten and partly erase images: another look at the same."""
    transforms = random_affine(len(images), images.shape[2:], generator, mirror=False, rotate_degrees=15.0)
    mirrored = uniform((len(images), 1), 0, 1, generator) < 0.5
    transforms[:, 0] = torch.where(mirrored, -transforms[:, 0], transforms[:, 0])
    grid = positions(transforms, images.shape[2:])
    images = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return _erased(change_intensities(images, generator), generator)


def _erased(images: Tensor, generator: Generator) -> Tensor:
    """Set a box of up to a third of the image to its mean."""
    count, space = len(images), images.shape[2:]
    inside = uniform((count, *[1] * (images.ndim - 1)), 0, 1, generator) < ERASED
    for axis, length in enumerate(space):
        side = uniform((count, 1), 0.15, 0.57, generator) * length
        first = uniform((count, 1), 0, 1, generator) * (length - side)
        place = torch.arange(length, device=images.device)
        within = (place >= first) & (place < first + side)
        inside = inside & within.view(count, 1, *[length if a == axis else 1 for a in range(len(space))])
    mean = images.mean(dim=list(range(2, images.ndim)), keepdim=True)
    return torch.where(inside, mean, images)


def nt_xent(similarity: Tensor) -> Tensor:
    """Average, over 2n views, the cross-entropy of finding an image's other view, n places on, among all other views.

    ``similarity`` (2n, 2n) is divided by the temperature already. Source: Chen et al., "A simple framework for contrastive
    learning of visual representations", ICML 2020, https://arxiv.org/abs/2002.05709.
    """
    views = len(similarity)
    itself = torch.eye(views, dtype=torch.bool, device=similarity.device)
    other = torch.arange(views, device=similarity.device).roll(views // 2)
    return functional.cross_entropy(similarity.masked_fill(itself, -torch.inf), other)


def group_loss(similarity: Tensor, same_group: Tensor, same_patient: Tensor) -> Tensor:
    """Average, over all pairs of different views of one group, how hard the one is to find from the other.

    It is sought among the views of the group and those of other patients; views of the same patient in other groups are
    left out, so that the losses of several groupings do not pull against each other. Shapes (2n, 2n), bool but for
    ``similarity``. Source: equations 4 and 5 of the paper that `group_contrastive` names.
    """
    itself = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    positive = same_group & ~itself
    among = (same_group | ~same_patient) & ~itself
    logits = similarity.masked_fill(~among, -torch.inf)
    found = similarity - torch.logsumexp(logits, dim=1, keepdim=True)
    return -found[positive].mean()


def group_loss_as_coded(similarity: Tensor, same_group: Tensor) -> Tensor:
    """Compute what the authors' code computes: all other views are positives, those outside the group negatives.

    Their mask of positives begins full, so that which group is meant does not matter to it; only the sampler knows.
    """
    itself = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    if same_group.all():
        return similarity.sum() * 0  # no view lies outside: nothing to tell apart
    outside = torch.logsumexp(similarity.masked_fill(same_group, -torch.inf), dim=1, keepdim=True)
    return functional.softplus(outside - similarity)[~itself].mean()


def _similarity(network: nn.Module, batch: Batch, config: PretrainConfig, generator: Generator) -> Tensor:
    """Compare two views of every image by cosine over temperature: (2n, 2n), image i at i and n + i."""
    views = torch.cat([view(batch.images, generator), view(batch.images, generator)])
    projected = functional.normalize(network(in_memory_format(views, config)).float(), dim=1)
    return projected @ projected.T / config.options["temperature"]


def _contrastive_loss(network: nn.Module, batch: Batch, config: PretrainConfig, generator: Generator) -> Tensor:
    return nt_xent(_similarity(network, batch, config, generator))


def _group_loss(network: nn.Module, batch: Batch, config: PretrainConfig, generator: Generator) -> Tensor:
    similarity, options = _similarity(network, batch, config, generator), config.options
    loss = options["nt_xent"] * nt_xent(similarity)
    same_patient = groupings(batch)["patient"]
    for name, same_group in groupings(batch).items():
        if options[name]:
            coded = group_loss_as_coded(similarity, same_group)
            own = coded if options["as_coded"] else group_loss(similarity, same_group, same_patient)
            loss = loss + options[name] * own
    return loss


def groupings(batch: Batch) -> dict[str, Tensor]:
    """Say of each two of 2n views whether they share the patient, the volume, or lie on neighbouring slices of one."""
    patient, volume, place = (torch.cat([each, each]) for each in (batch.patient, batch.volume, batch.place))
    same_volume = volume[:, None] == volume
    return {
        "patient": patient[:, None] == patient,
        "volume": same_volume,
        "adjacent": same_volume & ((place[:, None] - place).abs() <= 1),
    }


def _grouped(pool: Unlabeled, config: PretrainConfig, seed: Sequence[int]) -> Iterator[np.ndarray]:
    wanted = [name for name in ("adjacent", "volume", "patient") if config.options[name]]
    return group_batches(pool, wanted, config.batch_size, seed)


contrastive = Task(
    build=Projector,
    loss=_contrastive_loss,
    batches=lambda pool, config, seed: shuffled_passes(len(pool), config.batch_size, seed),
    encoder=its_encoder,
    batch_size=24,
    options={"temperature": 0.5, "network": "unet"},
)
"""SimCLR with the loss NT-Xent. Source: Chen et al., ICML 2020, https://arxiv.org/abs/2002.05709."""

group_contrastive = Task(
    build=Projector,
    loss=_group_loss,
    batches=_grouped,
    encoder=its_encoder,
    batch_size=24,
    options={
        "temperature": 0.5,
        "nt_xent": 1.0,
        "patient": 0.05,
        "volume": 0.35,
        "adjacent": 0.0,
        "as_coded": False,
        "network": "unet",
    },
)
"""The metric of the learned core-set: NT-Xent, and a loss for each grouping that has a weight.

Source: slice-based active learning with a learned core-set metric, NeurIPS 2024, https://arxiv.org/abs/2411.15763; weights as
for ACDC there. With ``as_coded`` the loss is that of the authors' code instead of the published one. ``network`` is "unet", or
"resnet18" with the projection 512-512-64 as in the paper; theirs began with ImageNet's weights, this one with random ones.
"""
