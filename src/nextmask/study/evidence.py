"""What strategies may ask for, made for one study; what no strategy names is never computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nextmask.data.files import digest_json
from nextmask.errors import StudyError
from nextmask.study.rounds import StoredFile

if TYPE_CHECKING:
    from nextmask.study.study import Study


class Evidence:
    """Arrays over the pool, each made when it is asked for. ``used`` tells what was made, and from what."""

    def __init__(self, study: Study, segmenter: StoredFile | None):
        self._study = study
        self._segmenter = segmenter
        self.used: dict[str, Any] = {}

    def mapping(self) -> Mapping[str, Callable[[], np.ndarray]]:
        """Name every array with the function that makes it."""
        pool = self._study.pool
        return {
            "embeddings": self._embeddings,
            "uncertainty": self._uncertainty,
            "patient": lambda: pool.patient,
            "position": lambda: pool.position,
            "volume": lambda: np.array([sample.case for sample in pool.samples]),
        }

    def _embeddings(self) -> np.ndarray:
        """Embed the pool. "network" needs a segmenter; until there is one, "intensity" stands in, and the ledger says so."""
        from nextmask.features.store import embed_pool

        wanted = self._study.config.encoder
        encoder = wanted if self._segmenter or wanted != "network" else "intensity"
        segmenter = self._load() if encoder == "network" else None
        made_by = self._segmenter.sha256 if encoder == "network" and self._segmenter else None
        self.used["embeddings"] = {"encoder": encoder, "wanted": wanted, "segmenter": made_by}
        return embed_pool(
            encoder,
            self._study.labels.image,
            len(self._study.pool),
            self._key({"encoder": encoder, "segmenter": made_by}),
            self._store(),
            self._told(f"embedding ({encoder})"),
            segmenter=segmenter,
        )

    def _uncertainty(self) -> np.ndarray:
        """Mean entropy of the last segmenter over each sample; one image's probabilities in memory at a time."""
        from nextmask.selection.measures import image_uncertainty

        segmenter = self._load()
        assert self._segmenter is not None
        self.used["uncertainty"] = {"measure": "entropy", "segmenter": self._segmenter.sha256}

        def measure(row: int) -> np.ndarray:
            return np.array(
                [image_uncertainty(segmenter.predict(np.asarray(self._study.labels.image(row), np.float32)))]
            )

        values = self._store().embeddings(
            self._key(self.used["uncertainty"]), len(self._study.pool), 1, measure, self._told("scoring the pool")
        )
        return np.asarray(values)[:, 0]

    def _load(self) -> Any:
        from nextmask.training.predict import load_segmenter

        if self._segmenter is None:
            raise StudyError(
                "this needs a trained segmenter, and there is none yet. Expected a finished round. Choose a strategy and an "
                'encoder that need none for the first query, for example --strategy typiclust with encoder = "intensity".'
            )
        return load_segmenter(self._study.path(self._segmenter), self._study.device)

    def _key(self, what: Mapping[str, Any]) -> str:
        keys = self._study.cache("pool").keys
        return digest_json([dict(what), list(keys), [sample.id for sample in self._study.pool.samples]])[:32]

    def _store(self) -> Any:
        """Open the store of embeddings, after making sure that every image of the pool is preprocessed."""
        from nextmask.features.store import EmbeddingStore

        self._study.labels.cache.build(self._told("preprocessing"))
        return EmbeddingStore(self._study.folder / self._study.config.cache / "embeddings")

    def _told(self, what: str) -> Callable[[int, int], None] | None:
        return partial(self._study._report, what) if self._study._report else None
