"""Several networks as one segmenter: their mean predicts, and what they contradict one another about is uncertain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from nextmask.networks.warm_start import WarmStart
from nextmask.training.config import TrainConfig
from nextmask.training.labeled import LoadSample
from nextmask.training.predict import Segmenter
from nextmask.training.several import fit_on

Progress = Callable[[int, int], None]


def fit_members(
    samples: Sequence[LoadSample],
    config: TrainConfig,
    members: int,
    *,
    seed: Sequence[int],
    folder: Path,
    starts: Sequence[WarmStart | None] = (None,),
    progress: Progress | None = None,
    devices: int = 1,
    trained: Sequence[nn.Module] = (),
    **options: Any,
) -> Segmenter:
    """Train so many networks, each from a seed of its own, one after another; return them as one segmenter.

    The first is what `fit` gives for ``seed``. ``starts`` are taken in turn. ``trained`` are the networks of the first members,
    where these are trained already. In ``folder`` each keeps its state, finished ones too, so that an interrupted training goes on
    where it was; the caller deletes it. ``options`` are those of `fit_on`.
    Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep ensembles", NeurIPS 2017,
    https://arxiv.org/abs/1612.01474.
    """
    networks = list(trained)
    for k in range(len(trained) // config.snapshots, members):
        segmenter = fit_on(
            devices,
            samples,
            config,
            seed=[*seed, k] if k else seed,
            checkpoint=folder / f"member-{k}.checkpoint",
            start=starts[k % len(starts)],
            progress=_counted(progress, k, members),
            **options,
        )
        networks += segmenter.networks
    return Segmenter(config, networks[0], tuple(networks[1:]))


def _counted(progress: Progress | None, member: int, members: int) -> Progress | None:
    """Count the iterations of all members together."""
    return progress and partial(_report, progress, member, members)


def _report(progress: Progress, member: int, members: int, done: int, total: int) -> None:
    progress(member * total + done, members * total)
