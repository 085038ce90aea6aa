"""One step of training, as its objectives see it: the networks, what was drawn, and what several of them share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor, nn

from nextmask.networks.running import in_memory_format
from nextmask.networks.share import ALONE, Share
from nextmask.networks.unet import decode, encode, expanding
from nextmask.training.config import TrainConfig


@dataclass(frozen=True, eq=False)
class Networks:
    """The network that is trained, its moving average if there is one, and what objectives train beside it, by their name."""

    student: nn.Module
    average: nn.Module | None
    others: nn.ModuleDict

    @property
    def trained(self) -> nn.ModuleList:
        """Everything whose weights are moved by gradients."""
        return nn.ModuleList([self.student, self.others])

    @property
    def kept(self) -> nn.Module:
        """The network that predicts in the end, and that says what unlabeled images show on the way."""
        return self.average or self.student

    @torch.no_grad()
    def follow(self, decay: float, i: int) -> None:
        """Move the average towards the student after iteration i; early on it follows faster, as an average of few."""
        if self.average is None:
            return
        decay = min(decay, (1 + i) / (10 + i))
        own: list[Tensor] = list(self.average.parameters())
        new: list[Tensor] = list(self.student.parameters())
        torch._foreach_lerp_(own, new, 1 - decay)
        for running, latest in zip(self.average.buffers(), self.student.buffers(), strict=True):
            running.copy_(latest)  # statistics of batch normalisation are averages already


@dataclass(eq=False)
class Step:
    """What iteration ``i`` is about.

    ``images`` (batch, channels, *patch) float32 and ``masks`` (batch, *patch) uint8, 255 = ignore, are annotated;
    ``unlabeled`` (batch, channels, *patch) are not, and are only moved about, not changed in intensity; ``pseudo`` are
    images and masks that an earlier segmenter predicted. ``generator`` gives every random number that an objective needs.
    Batches are whole wherever they are; where several processes ``share`` them, the network sees the own part only, and
    ``activations`` are of that part.
    """

    networks: Networks
    config: TrainConfig
    images: Tensor
    masks: Tensor
    unlabeled: Tensor | None
    pseudo: tuple[Tensor, Tensor] | None
    generator: Generator
    i: int = 0
    share: Share = ALONE

    @cached_property
    def activations(self) -> list[Tensor]:
        """What each level of the student makes of the annotated images."""
        return encode(self.networks.student, self.laid_out(self.images))

    @cached_property
    def logits(self) -> Tensor:
        """What the student says of the annotated images, (batch, classes, *patch) float32."""
        return self.decoded(expanding(self.networks.student), self.activations)

    @cached_property
    def expected(self) -> Tensor:
        """What is expected to be in the unlabeled images: probabilities of the kept network, without gradient."""
        return self.predicted(self.unlabeled_images)

    @property
    def unlabeled_images(self) -> Tensor:
        """The unlabeled images, where an objective cannot do without."""
        assert self.unlabeled is not None  # fit refuses such objectives where there are none
        return self.unlabeled

    @torch.no_grad()
    def predicted(self, images: Tensor) -> Tensor:
        """Return probabilities of the kept network, float32, without gradient; an average drops nothing."""
        return torch.softmax(self.said(self.networks.kept, images), dim=1)

    def student(self, images: Tensor) -> Tensor:
        """Return the student's logits of images, float32."""
        return self.said(self.networks.student, images)

    def said(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return a network's logits of images, (batch, classes, *patch) float32."""
        return self._single(network(self.laid_out(images)))

    def decoded(self, levels: Iterable[nn.Module], activations: Sequence[Tensor]) -> Tensor:
        """Return the logits that an expanding half makes of activations, (batch, classes, *patch) float32."""
        return self._single(decode(levels, activations))

    def _single(self, logits: Tensor) -> Tensor:
        """Put the parts together, float32, and classes first in memory, which losses want; half as long before it is float32."""
        return self.share.whole(logits).contiguous().float()

    def laid_out(self, images: Tensor) -> Tensor:
        """Take the images that this process runs the network on, laid out as the network wants them."""
        return in_memory_format(self.share.own(images), self.config)
