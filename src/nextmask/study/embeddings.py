"""Where a study's samples lie: by the encoder that it names, made when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nextmask.data.files import digest_json
from nextmask.data.pool import Pool
from nextmask.data.proxy_masks import Proxy
from nextmask.errors import StudyError
from nextmask.features.encoders import EncodingSegmenter
from nextmask.features.store import EmbeddingStore, embed_pool, find_encoding
from nextmask.study.labels import Labels
from nextmask.study.oracle import Truth
from nextmask.study.pretraining import pretrained
from nextmask.study.region import focus
from nextmask.study.rounds import StoredFile

if TYPE_CHECKING:
    from nextmask.networks.warm_start import WarmStart

Report = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


DIFFICULTY = 1
"""Part of every key of difficulties; raised when the same encoder would find others."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """Where every sample of a pool lies, (samples, dims) float32, and ``used``: by which encoder and weights."""

    array: np.ndarray
    used: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Describer:
    """What describes the samples of a study: the image of a row, and the network that sees it, if the encoder has one.

    ``key`` names all that the numbers depend on besides the encoder; ``used`` is what the ledger keeps of it.
    """

    encoder: str
    image: Callable[[int], np.ndarray]
    network: Any
    key: str
    used: dict[str, Any]


@dataclass(frozen=True)
class Embedder:
    """Embeds the pool of a study; everything it makes is kept below ``folder``, its cache.

    ``pretraining`` holds what a study sets of it: iterations, seed, options of the task; or which network was pretrained
    elsewhere, its files relative to ``home``, the study's folder. ``region`` is the part of an image
    that encoders see; ``proxy`` tells it where there is no segmenter yet, and ``truth`` in a simulation that asks for that.
    """

    pool: Pool
    labels: Labels
    folder: Path
    planar: bool
    device: str
    pretraining: Mapping[str, Any]
    home: Path
    region: str = "whole"
    proxy: Proxy | None = None
    truth: Truth | None = None
    report: Report | None = None

    def embed(
        self, wanted: str, segmenter: StoredFile | None, load: Callable[[StoredFile], Any]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Embed the pool, (samples, dims) float32, and say by what.

        An encoder that needs a segmenter is stood in for by "intensity" until there is one, and the ledger says so.
        """
        found = self.describer(wanted, segmenter, load)
        return self.collect(found), found.used

    def collect(self, found: Describer, compute: Callable[[int], np.ndarray] | None = None) -> np.ndarray:
        """Open the embeddings of a describer; make what is missing here, or take it from ``compute``, row -> vector."""
        told, store = self._told(f"embedding ({found.encoder})"), EmbeddingStore(self.folder / "embeddings")
        return embed_pool(
            found.encoder, found.image, len(self.pool), found.key, store, told, segmenter=found.network, compute=compute
        )

    def describer(self, wanted: str, segmenter: StoredFile | None, load: Callable[[StoredFile], Any]) -> Describer:
        """Open what describes the samples by an encoder; pretrain it where it needs that and was not."""
        encoding = find_encoding(wanted)
        encoder = "intensity" if encoding.needs == "segmenter" and segmenter is None else wanted
        network, weights = None, None
        self.store()
        made: dict[str, Any] = {}
        if encoder == wanted and encoding.needs == "segmenter":
            assert segmenter is not None
            network, weights = load(segmenter), segmenter.sha256
            refuse_without_encode(network, wanted)
        elif encoding.needs == "pretraining":
            network, weights = self.pretrained(encoding.task, self.pretraining)
        elif encoding.needs == "pretrained":
            network, made = self._given()
            weights = digest_json(made)
        part = focus(self.region, self.labels, self.proxy, segmenter, load, self.truth)
        seen = {} if part.made["region"] == "whole" else {"region": {**part.made, "wanted": None}}
        told = {} if self.region == "whole" else {"region": part.in_short}
        used = {"encoder": encoder, "wanted": wanted, "segmenter": weights, **made, **told}
        trained_here = encoding.needs in ("segmenter", "pretraining") and encoder == wanted
        image = part.image if trained_here else partial(self._without_coordinates, part.image)
        return Describer(encoder, image, network, self.key({"encoder": encoder, "segmenter": weights, **seen}), used)

    def warm_start(self, start: str) -> WarmStart | None:
        """Open the weights that a training begins with: "scratch", a task, or a task "+decoder"."""
        from nextmask.networks.warm_start import WarmStart

        task, _, decoder = start.partition("+")
        if task == "scratch":
            return None
        self.store()
        encoder, sha256 = self.pretrained(task, self.pretraining)
        if decoder:
            return WarmStart(encoder.network.state_dict(), "all but head", sha256)
        return WarmStart(encoder.task.encoder(encoder.network).state_dict(), "encoder", sha256)

    def store(self) -> EmbeddingStore:
        """Open the store of embeddings, after making sure that every image of the pool is preprocessed."""
        self.labels.cache.build(self._told("preprocessing"))
        return EmbeddingStore(self.folder / "embeddings")

    def key(self, what: Mapping[str, Any]) -> str:
        """Name what depends on ``what`` and on the pool's content."""
        content = [dict(what), list(self.labels.cache.keys), [sample.id for sample in self.pool.samples]]
        return digest_json(content)[:32]

    def difficulty(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Say of every sample how hard it is to restore, (samples,) float32, and by what encoder that was found."""
        from nextmask.features.difficulty import MASKINGS, restoration_difficulty

        # Other settings are options of the study's own encoder, whose task may be another one.
        common = {name: value for name, value in self.pretraining.items() if name in ("iterations", "seed")}
        store = self.store()
        encoder, weights = self.pretrained("reconstruction", common)
        made = {"encoder": "reconstruction", "weights": weights, "maskings": MASKINGS}

        def compute(row: int) -> np.ndarray:
            return np.array([restoration_difficulty(encoder, self.labels.image(row))])

        key, told = self.key({"difficulty": DIFFICULTY, **made}), self._told("restoring each image")
        return store.embeddings(key, len(self.pool), 1, compute, told)[:, 0], made

    def pretrained(self, task: str, settings: Mapping[str, Any]) -> tuple[Any, str]:
        """Open what pretraining by a task gives on the pool, and the hash of its file; train it if there is none yet."""
        return pretrained(
            task,
            self.labels,
            self.pool,
            self.folder / "encoders",
            planar=self.planar,
            device=self.device,
            settings=settings,
            progress=self._told(f"pretraining ({task})"),
        )

    def _without_coordinates(self, image: Callable[[int], np.ndarray], row: int) -> np.ndarray:
        """Return the channels of intensities alone: nothing else is known to what was not trained on the pool's images."""
        seen = image(row)
        return seen[: len(seen) - len(self.labels.cache.preprocessing.coordinates)]

    def _given(self) -> tuple[Any, dict[str, Any]]:
        """Open the encoder that the user brought, and say which it is, files by their hashes."""
        from nextmask.features.pretrained import load_pretrained, pretrained_config

        config = pretrained_config(self.pretraining, self.home)
        return load_pretrained(config, self.device), {"pretrained": config.identity()}

    def _told(self, what: str) -> Callable[[int, int], None] | None:
        return partial(self.report, what) if self.report else None


def refuse_without_encode(segmenter: Any, encoder: str) -> None:
    """Raise StudyError where a segmenter cannot be asked for its features."""
    if not isinstance(segmenter, EncodingSegmenter):
        raise StudyError(
            f"encoder = {encoder!r} takes the features of the last round's segmenter, and {type(segmenter).__name__} has no "
            'method encode. Expected a segmenter of learner = "unet", or one that offers it. Choose another encoder in '
            'study.toml, for example encoder = "intensity".'
        )
