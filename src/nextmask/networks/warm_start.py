"""Warm start: a segmenter begins with the weights of a network that was trained on images alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from nextmask.errors import TrainingError
from nextmask.networks.unet import contracting
from nextmask.networks.weights import misfits

HEAD = "model.2."
"""Where the weights of a U-Net begin that depend on how many classes it gives."""


@dataclass(frozen=True, eq=False)
class WarmStart:
    """Weights to begin with, by name, and which ``part`` of the segmenter they are for; ``sha256`` names their file.

    "encoder": the weights of a contracting half; "all but head": those of a whole U-Net, whose last level is left out; "all":
    those of a segmenter of the same classes, which goes on learning.
    """

    weights: Mapping[str, Tensor]
    part: Literal["encoder", "all but head", "all"]
    sha256: str


def load_into(network: nn.Module, start: WarmStart) -> None:
    """Put weights in place, by name and shape.

    Raises TrainingError, with a list of what does not fit, and changes nothing then.
    """
    target = contracting(network) if start.part == "encoder" else network
    own, headless = target.state_dict(), start.part == "all but head"
    kept = {name: tensor for name, tensor in own.items() if headless and name.startswith(HEAD)}
    given = {name: tensor for name, tensor in start.weights.items() if name not in kept}
    wanted = {name: tensor for name, tensor in own.items() if name not in kept}
    problems = misfits(given, wanted)
    if problems:
        raise TrainingError(
            f"{len(problems)} weights do not fit the segmenter that they should warm up ({start.part}): "
            f"{'; '.join(problems[:10])}{'; ...' if len(problems) > 10 else ''}. Expected {len(wanted)} weights, all "
            "fitting. Pretrain on the same kind of images and device, or start from scratch."
        )
    target.load_state_dict({**kept, **given})
