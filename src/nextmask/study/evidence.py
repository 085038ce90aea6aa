"""What strategies may ask for, made for one study; what no strategy names is never computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nextmask.data.files import digest_json
from nextmask.data.pool import Pool
from nextmask.errors import StudyError
from nextmask.features.store import EmbeddingStore, embed_pool
from nextmask.selection.measures import image_uncertainty
from nextmask.study.labels import Labels
from nextmask.study.rounds import StoredFile

Report = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


class Evidence:
    """Arrays over the pool, each made when it is asked for. ``used`` tells what was made, and from what.

    ``segmenter`` is the last round's, as the ledger names it; ``load`` opens it. Embeddings and scores are kept in
    ``folder``.
    """

    def __init__(
        self,
        pool: Pool,
        labels: Labels,
        folder: Path,
        *,
        encoder: str,
        segmenter: StoredFile | None,
        load: Callable[[StoredFile], Any],
        report: Report | None = None,
    ):
        self._pool, self._labels, self._folder = pool, labels, folder
        self._encoder, self._segmenter, self._open, self._report = encoder, segmenter, load, report
        self.used: dict[str, Any] = {}

    def mapping(self) -> Mapping[str, Callable[[], np.ndarray]]:
        """Name every array with the function that makes it."""
        pool = self._pool
        return {
            "embeddings": self._embeddings,
            "uncertainty": self._uncertainty,
            "patient": lambda: pool.patient,
            "position": lambda: pool.position,
            "volume": lambda: np.array([sample.case for sample in pool.samples]),
        }

    def _embeddings(self) -> np.ndarray:
        """Embed the pool. "network" needs a segmenter; until there is one, "intensity" stands in, and the ledger says so."""
        wanted = self._encoder
        encoder = wanted if self._segmenter or wanted != "network" else "intensity"
        segmenter = self._load() if encoder == "network" else None
        made_by = self._segmenter.sha256 if encoder == "network" and self._segmenter else None
        self.used["embeddings"] = {"encoder": encoder, "wanted": wanted, "segmenter": made_by}
        return embed_pool(
            encoder,
            self._labels.image,
            len(self._pool),
            self._key({"encoder": encoder, "segmenter": made_by}),
            self._store(),
            self._told(f"embedding ({encoder})"),
            segmenter=segmenter,
        )

    def _uncertainty(self) -> np.ndarray:
        """Mean entropy of the last segmenter over each sample; one image's probabilities in memory at a time."""
        segmenter = self._load()
        assert self._segmenter is not None
        self.used["uncertainty"] = {"measure": "entropy", "segmenter": self._segmenter.sha256}

        def measure(row: int) -> np.ndarray:
            return np.array([image_uncertainty(segmenter.predict(np.asarray(self._labels.image(row), np.float32)))])

        values = self._store().embeddings(
            self._key(self.used["uncertainty"]), len(self._pool), 1, measure, self._told("scoring the pool")
        )
        return np.asarray(values)[:, 0]

    def _load(self) -> Any:
        if self._segmenter is None:
            raise StudyError(
                "this needs a trained segmenter, and there is none yet. Expected a finished round. Choose a strategy and an "
                'encoder that need none for the first query, for example --strategy typiclust with encoder = "intensity".'
            )
        return self._open(self._segmenter)

    def _key(self, what: Mapping[str, Any]) -> str:
        content = [dict(what), list(self._labels.cache.keys), [sample.id for sample in self._pool.samples]]
        return digest_json(content)[:32]

    def _store(self) -> EmbeddingStore:
        """Open the store of embeddings, after making sure that every image of the pool is preprocessed."""
        self._labels.cache.build(self._told("preprocessing"))
        return EmbeddingStore(self._folder)

    def _told(self, what: str) -> Callable[[int, int], None] | None:
        return partial(self._report, what) if self._report else None
