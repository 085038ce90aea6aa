"""What strategies may ask for, made for one study; what no strategy names is never computed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache, partial
from typing import Any

import numpy as np

from nextmask.errors import StudyError
from nextmask.selection.types import EVIDENCE
from nextmask.study.embeddings import Embedder, Report
from nextmask.study.oracle import Truth
from nextmask.study.pretraining import unlabeled
from nextmask.study.proxy import ProxySegmenter
from nextmask.study.rounds import StoredFile
from nextmask.study.scores import (
    MEASURES_OF_MEMBERS,
    OF_CLASSES,
    OF_MEMBERS,
    PASSES,
    Members,
    Scorer,
    columns,
    members_of,
)

VERSION = 2
"""Part of every key of scores; raised when the same measure of the same segmenter would give other numbers."""
LEARNED_VERSION = 1
"""Part of every key of what is learned from who is labeled; raised when the same samples would give other numbers."""


class Evidence:
    """Arrays over the pool, each made when it is asked for. ``used`` tells what was made, and from what.

    ``segmenter`` is the last round's, as the ledger names it; ``load`` opens it. ``labeled`` (samples,) says what was dealt
    with, for evidence that tells such samples from others; ``seed`` is the study's, and ``classes`` how many it has, the
    background included.
    As long as there is no segmenter, ``proxy`` stands in. ``truth`` is there in simulations only.
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
        labeled: np.ndarray,
        seed: int,
        classes: int,
        proxy: ProxySegmenter | None = None,
        truth: Truth | None = None,
        report: Report | None = None,
    ):
        self._embedder, self._cost = embedder, cost
        self._pool, self._labels = embedder.pool, embedder.labels
        self._encoder, self._measure = encoder, measure
        self._labeled, self._seed, self._classes = labeled, seed, classes
        self._segmenter, self._open, self._proxy, self._report = segmenter, load, proxy, report
        self._truth = truth
        self.used: dict[str, Any] = {}

    def mapping(self) -> Mapping[str, Callable[[], np.ndarray]]:
        """Name every array with the function that makes it."""
        pool = self._pool
        return {
            "embeddings": self._embeddings,
            "graph_embeddings": self._graph_embeddings,
            "unlabeledness": self._unlabeledness,
            **{name: partial(self._scores, name) for name in columns(2)},
            "difficulty": self._difficulty,
            "true_class_share": self._true_class_share,
            "patient": lambda: pool.patient,
            "position": lambda: pool.position,
            "volume": lambda: pool.volume,
            "bounds": lambda: pool.bounds,
            "cost": lambda: self._cost,
        }

    def _embeddings(self) -> np.ndarray:
        embeddings, self.used["embeddings"] = self._embedder.embed(self._encoder, self._segmenter, self._open)
        return embeddings

    def _graph_embeddings(self) -> np.ndarray:
        """Place the pool by a network that tells labeled from unlabeled samples on the graph of the embeddings."""
        self._refuse_cold("graph_embeddings")
        from nextmask.features.graph import graph_embeddings

        embeddings, seed = self._embeddings(), [self._seed]
        told = self._told("training on the graph")
        made = {"embeddings": self.used["embeddings"], "labeled": self._rows_of_labeled(), "seed": self._seed}
        return self._learned(
            "graph_embeddings", made, lambda: graph_embeddings(embeddings, self._labeled, seed=seed, progress=told)
        )

    def _unlabeledness(self) -> np.ndarray:
        """Train an autoencoder and a discriminator on the whole pool, and ask the latter of every sample."""
        self._refuse_cold("unlabeledness")
        from nextmask.features.adversarial import derive_adversarial_config, unlabeledness

        labels, pool = self._labels, self._pool
        device, dimensions = self._embedder.device, 2 if self._embedder.planar else 3
        config = derive_adversarial_config(
            labels.shapes(), len(labels.image(0)), len(pool), dimensions=dimensions, device=device
        )
        images = unlabeled(labels, pool)
        told = self._told("training to tell labeled from unlabeled")

        def train() -> np.ndarray:
            found = unlabeledness(images, self._labeled, config, seed=[self._seed], device=device, progress=told)
            return found[:, None]

        made = {"config": asdict(config), "labeled": self._rows_of_labeled(), "seed": self._seed}
        return self._learned("unlabeledness", made, train)[:, 0]

    def _learned(self, name: str, made: Mapping[str, Any], train: Callable[[], np.ndarray]) -> np.ndarray:
        """Open what was learned before of the same, or learn it now; ``train`` returns (samples, dims)."""
        self.used[name] = {**made, "version": LEARNED_VERSION}
        store, once = self._embedder.store(), cache(train)
        key = self._embedder.key({"evidence": name, **self.used[name]})
        return store.embeddings(key, len(self._pool), None, lambda row: once()[row])

    def _rows_of_labeled(self) -> str:
        """Name the labeled rows in short."""
        return hashlib.sha256(np.packbits(self._labeled).tobytes()).hexdigest()[:32]

    def _refuse_cold(self, name: str) -> None:
        if not self._labeled.any():
            raise StudyError(
                f"{name} tells labeled from unlabeled samples, and nothing is labeled yet. Expected a finished round. Choose "
                "a strategy that needs no labels for the first query, for example --strategy typiclust."
            )

    def _difficulty(self) -> np.ndarray:
        difficulty, self.used["difficulty"] = self._embedder.difficulty()
        return difficulty

    def _true_class_share(self) -> np.ndarray:
        """Look into the masks that nobody has annotated yet."""
        if self._truth is None:
            raise StudyError(
                "this strategy reads the masks of samples before they are annotated, and outside of a simulation nobody has "
                "drawn them yet. Expected a strategy that looks at images and predictions only. Choose "
                "predicted_foreground_random, or play this one with nextmask simulate."
            )
        self.used["true_class_share"] = {"read": "masks"}
        return self._truth.class_share(self._pool)

    def _scores(self, name: str) -> np.ndarray:
        """Score every sample by the last segmenter; one image's probabilities in memory at a time.

        All kinds of scores come of one pass over the pool; those that compare members take a second, over the networks of an
        ensemble, or over mirrored views where there is one network.
        Of a proxy segmenter all come of passes with dropout.
        """
        segmenter, members, used = self._predicting(name)
        made = {"scores": self._measure, **used, "version": VERSION}
        self.used[name] = {**used, "measure": self._measure} if name in ("uncertainty", "selective") else used
        scorer = Scorer(self._labels, segmenter, measure=self._measure, members=members)
        told = self._told("scoring the pool" if members == "one" else f"scoring the pool ({members} each)")
        values = self._embedder.store().embeddings(self._embedder.key(made), len(self._pool), None, scorer, told)
        found = values[
            :, columns(2 if self._segmenter is None else self._classes)[name]
        ]  # a proxy knows foreground only
        return found if EVIDENCE[name].axes[1:] else found[:, 0]

    def _predicting(self, name: str) -> tuple[Any, Members, dict[str, Any]]:
        """Open what is to predict; say how its members are made, and what the ledger should know of both."""
        if self._segmenter is None:
            return self._by_proxy(name)
        several = name in OF_MEMBERS or (name in ("uncertainty", "selective") and self._measure in MEASURES_OF_MEMBERS)
        segmenter = self._open(self._segmenter)
        members: Members = members_of(segmenter) if several else "one"
        return segmenter, members, {"members": members, "segmenter": self._segmenter.sha256}

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
