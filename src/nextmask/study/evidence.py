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
from nextmask.selection.types import EVIDENCE
from nextmask.study.labels import Labels
from nextmask.study.rounds import StoredFile
from nextmask.study.scores import MEASURES_OF_MEMBERS, OF_MEMBERS, Scorer, columns

VERSION = 1
"""Part of every key of scores; raised when the same measure of the same segmenter would give other numbers."""

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
        cost: np.ndarray,
        labels: Labels,
        folder: Path,
        *,
        encoder: str,
        measure: str,
        segmenter: StoredFile | None,
        load: Callable[[StoredFile], Any],
        report: Report | None = None,
    ):
        self._pool, self._cost, self._labels, self._folder = pool, cost, labels, folder
        self._encoder, self._measure = encoder, measure
        self._segmenter, self._open, self._report = segmenter, load, report
        self.used: dict[str, Any] = {}

    def mapping(self) -> Mapping[str, Callable[[], np.ndarray]]:
        """Name every array with the function that makes it."""
        pool = self._pool
        return {
            "embeddings": self._embeddings,
            **{name: partial(self._scores, name) for name in columns(2)},
            "patient": lambda: pool.patient,
            "position": lambda: pool.position,
            "volume": lambda: pool.volume,
            "bounds": lambda: pool.bounds,
            "cost": lambda: self._cost,
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

    def _scores(self, name: str) -> np.ndarray:
        """Score every sample by the last segmenter; one image's probabilities in memory at a time.

        All kinds of scores come of one pass over the pool; those that compare members take a second, over mirrored views.
        """
        segmenter = self._load()
        assert self._segmenter is not None
        flips = name in OF_MEMBERS or (name in ("uncertainty", "selective") and self._measure in MEASURES_OF_MEMBERS)
        members = "flips" if flips else "one"
        made = {"scores": self._measure, "members": members, "segmenter": self._segmenter.sha256, "version": VERSION}
        self.used[name] = {key: made[key] for key in ("members", "segmenter")}
        if name in ("uncertainty", "selective"):
            self.used[name]["measure"] = self._measure
        scorer = Scorer(self._labels, segmenter, measure=self._measure, flips=flips)
        told = self._told(f"scoring the pool ({members} each)" if flips else "scoring the pool")
        values = self._store().embeddings(self._key(made), len(self._pool), None, scorer, told)
        found = values[:, columns(segmenter.config.classes)[name]]
        return found if EVIDENCE[name].axes[1:] else found[:, 0]

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
