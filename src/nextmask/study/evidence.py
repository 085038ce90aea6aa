"""What strategies may ask for, made for one study; what no strategy names is never computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from nextmask.errors import StudyError
from nextmask.selection.types import EVIDENCE
from nextmask.study.embeddings import Embedder, Report
from nextmask.study.rounds import StoredFile
from nextmask.study.scores import MEASURES_OF_MEMBERS, OF_MEMBERS, Scorer, columns

VERSION = 1
"""Part of every key of scores; raised when the same measure of the same segmenter would give other numbers."""


class Evidence:
    """Arrays over the pool, each made when it is asked for. ``used`` tells what was made, and from what.

    ``segmenter`` is the last round's, as the ledger names it; ``load`` opens it.
    """

    def __init__(
        self,
        embedder: Embedder,
        cost: np.ndarray,
        *,
        encoder: str,
        measure: str,
        segmenter: StoredFile | None,
        load: Callable[[StoredFile], Any],
        report: Report | None = None,
    ):
        self._embedder, self._cost = embedder, cost
        self._pool, self._labels = embedder.pool, embedder.labels
        self._encoder, self._measure = encoder, measure
        self._segmenter, self._open, self._report = segmenter, load, report
        self.used: dict[str, Any] = {}

    def mapping(self) -> Mapping[str, Callable[[], np.ndarray]]:
        """Name every array with the function that makes it."""
        pool = self._pool
        return {
            "embeddings": self._embeddings,
            **{name: partial(self._scores, name) for name in columns(2)},
            "difficulty": self._difficulty,
            "patient": lambda: pool.patient,
            "position": lambda: pool.position,
            "volume": lambda: pool.volume,
            "bounds": lambda: pool.bounds,
            "cost": lambda: self._cost,
        }

    def _embeddings(self) -> np.ndarray:
        embeddings, self.used["embeddings"] = self._embedder.embed(self._encoder, self._segmenter, self._open)
        return embeddings

    def _difficulty(self) -> np.ndarray:
        difficulty, self.used["difficulty"] = self._embedder.difficulty()
        return difficulty

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
        values = self._embedder.store().embeddings(self._embedder.key(made), len(self._pool), None, scorer, told)
        found = values[:, columns(segmenter.config.classes)[name]]
        return found if EVIDENCE[name].axes[1:] else found[:, 0]

    def _load(self) -> Any:
        if self._segmenter is None:
            raise StudyError(
                "this needs a trained segmenter, and there is none yet. Expected a finished round. Choose a strategy and an "
                'encoder that need none for the first query, for example --strategy typiclust with encoder = "intensity".'
            )
        return self._open(self._segmenter)

    def _told(self, what: str) -> Callable[[int, int], None] | None:
        return partial(self._report, what) if self._report else None
