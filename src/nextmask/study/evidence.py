"""What strategies may ask for, made for one study; what no strategy names is never computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from nextmask.errors import StudyError
from nextmask.selection.types import EVIDENCE
from nextmask.study.embeddings import Embedder, Report
from nextmask.study.proxy import ProxySegmenter
from nextmask.study.rounds import StoredFile
from nextmask.study.scores import MEASURES_OF_MEMBERS, OF_CLASSES, OF_MEMBERS, PASSES, Members, Scorer, columns

VERSION = 1
"""Part of every key of scores; raised when the same measure of the same segmenter would give other numbers."""


class Evidence:
    """Arrays over the pool, each made when it is asked for. ``used`` tells what was made, and from what.

    ``segmenter`` is the last round's, as the ledger names it; ``load`` opens it. As long as there is none, ``proxy`` stands in.
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
        proxy: ProxySegmenter | None = None,
        report: Report | None = None,
    ):
        self._embedder, self._cost = embedder, cost
        self._pool, self._labels = embedder.pool, embedder.labels
        self._encoder, self._measure = encoder, measure
        self._segmenter, self._open, self._proxy, self._report = segmenter, load, proxy, report
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
        Of a proxy segmenter all come of passes with dropout.
        """
        segmenter, members, used = self._predicting(name)
        made = {"scores": self._measure, **used, "version": VERSION}
        self.used[name] = {**used, "measure": self._measure} if name in ("uncertainty", "selective") else used
        scorer = Scorer(self._labels, segmenter, measure=self._measure, members=members)
        told = self._told("scoring the pool" if members == "one" else f"scoring the pool ({members} each)")
        values = self._embedder.store().embeddings(self._embedder.key(made), len(self._pool), None, scorer, told)
        found = values[:, columns(segmenter.config.classes)[name]]
        return found if EVIDENCE[name].axes[1:] else found[:, 0]

    def _predicting(self, name: str) -> tuple[Any, Members, dict[str, Any]]:
        """Open what is to predict; say how its members are made, and what the ledger should know of both."""
        if self._segmenter is None:
            return self._by_proxy(name)
        flips = name in OF_MEMBERS or (name in ("uncertainty", "selective") and self._measure in MEASURES_OF_MEMBERS)
        members: Members = "flips" if flips else "one"
        return self._open(self._segmenter), members, {"members": members, "segmenter": self._segmenter.sha256}

    def _by_proxy(self, name: str) -> tuple[Any, Members, dict[str, Any]]:
        if self._proxy is None:
            raise StudyError(
                "this needs a trained segmenter, and there is none yet. Expected a finished round. Choose a strategy and an "
                'encoder that need none for the first query, for example --strategy typiclust with encoder = "intensity"; '
                'or set proxy in study.toml, for example to "otsu-bright", for a segmenter that learns from intensities.'
            )
        if name in OF_CLASSES:
            raise StudyError(
                f"this needs {name}, and the proxy segmenter knows foreground only, no classes. Expected a finished round. "
                "Choose a strategy by uncertainty for the first query, for example most_uncertain."
            )
        self._embedder.store()  # every image is preprocessed then, and that is shown
        segmenter, weights = self._proxy.open()
        rule = self._proxy.proxy.name
        return segmenter, "dropout", {"proxy": rule, "members": "dropout", "passes": PASSES, "segmenter": weights}

    def _told(self, what: str) -> Callable[[int, int], None] | None:
        return partial(self._report, what) if self._report else None
