"""The proxy segmenter of a study: trained on proxy masks of the whole pool, it is unsure where no segmenter can be yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nextmask.data.files import Progress, digest, digest_json
from nextmask.data.proxy_masks import Proxy
from nextmask.errors import StudyError, TrainingError
from nextmask.study.labels import PROXIES, Labels
from nextmask.study.lock import one_maker

if TYPE_CHECKING:
    from nextmask.training.config import TrainConfig
    from nextmask.training.predict import Segmenter

VERSION = 1
"""Part of every key; raised when the same settings would give other weights."""

DROPOUT = 0.2
LEAST, MOST = 0.001, 0.6
"""Shares of foreground between which a proxy may show an organ; beyond, it shows noise, or the body."""


@dataclass(frozen=True, eq=False)
class ProxySegmenter:
    """A segmenter of foreground and background that stands in until there is one; kept in ``folder`` by its content.

    ``config`` gives how a round's segmenter is trained: this one is trained so too, but for its classes and its dropout.

    Source: ProxyRank of Nath et al., MICCAI 2022, https://arxiv.org/abs/2209.06285, as in Liu et al., "COLosSAL", MICCAI
    2023, https://arxiv.org/abs/2307.12004.
    """

    proxy: Proxy
    labels: Labels
    folder: Path
    config: Callable[[], TrainConfig]
    device: str
    seed: int = 0
    told: Progress | None = None

    def open(self) -> tuple[Segmenter, str]:
        """Open the segmenter, and the hash of its file; train it if there is none yet, or go on where training was cut off.

        The whole pool takes part, labeled or not; test cases and anybody's masks never do.
        """
        from nextmask.training.predict import load_segmenter, save_segmenter
        from nextmask.training.train import fit

        config = as_proxy(self.config())
        path = self.folder / f"proxy-{self._key(config)[:16]}.pt"
        self.folder.mkdir(parents=True, exist_ok=True)
        with one_maker(path.with_suffix(".lock")):
            try:
                return load_segmenter(path, self.device), digest(path)
            except TrainingError:  # there is none, or it was cut off
                path.unlink(missing_ok=True)
            refuse_proxy(self.labels, self.proxy)
            samples, checkpoint = self.labels.proxies(self.proxy), path.with_suffix(".checkpoint")
            segmenter = fit(
                samples, config, seed=[self.seed], device=self.device, checkpoint=checkpoint, progress=self.told
            )
            save_segmenter(segmenter, path)
            checkpoint.unlink(missing_ok=True)
            return segmenter, digest(path)

    def _key(self, config: TrainConfig) -> str:
        samples = [sample.id for sample in self.labels.pool.samples]
        made = [VERSION, PROXIES, self.proxy.name, asdict(config), self.seed, list(self.labels.cache.keys), samples]
        return digest_json(made)


def as_proxy(config: TrainConfig) -> TrainConfig:
    """Turn the training of a round into that of a proxy segmenter: every image has a mask, of one class."""
    return replace(config, classes=2, dropout=DROPOUT, objectives=(("supervised", 1.0),), snapshots=1)


def refuse_proxy(labels: Labels, proxy: Proxy) -> None:
    """Raise StudyError where a rule cannot show an organ in the images of a pool."""
    refuse_window(proxy, labels.cache.preprocessing.intensity)
    refuse_unlikely(proxy, foreground_share(labels, proxy))


def refuse_window(proxy: Proxy, intensity: str) -> None:
    """Raise StudyError where a rule is in Hounsfield units and the images are not."""
    if proxy.window is not None and intensity != "ct":
        raise StudyError(
            f"proxy = {proxy.name} is a window of Hounsfield units, and not all images of this study are CT. Expected a rule "
            'for any intensities. Set it to "otsu-bright" or "otsu-dark" in study.toml.'
        )


def foreground_share(labels: Labels, proxy: Proxy) -> float:
    """Average the share of foreground in the proxy masks of a pool's cases, 0 to 1."""
    return float(np.mean([labels.proxy(case, proxy).mean() for case in range(len(labels.pool.cases))]))


def refuse_unlikely(proxy: Proxy, share: float) -> None:
    """Raise StudyError where proxy masks show next to nothing, or nearly everything."""
    if LEAST <= share <= MOST:
        return
    raise StudyError(
        f"proxy = {proxy.name} makes {100 * share:.3g} % of the pool's voxels foreground. Expected {100 * LEAST:g} to "
        f"{100 * MOST:g} %, as an organ has. Choose another rule in study.toml: a window of Hounsfield units where the organ "
        'lies, "otsu-bright" or "otsu-dark"; or a strategy that needs no segmenter.'
    )
