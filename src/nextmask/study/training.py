"""How a study trains a round: what its learner is given, and what the ledger keeps of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nextmask.data.files import Progress, digest
from nextmask.errors import StudyError
from nextmask.study.config import LAST_ROUND, StudyConfig
from nextmask.study.embeddings import Embedder
from nextmask.study.labels import Labels, Load
from nextmask.study.learners import LEARNERS, described, name_of, refuse_answer, refuse_settings, trained_by
from nextmask.study.pseudo import PseudoLabels
from nextmask.study.rounds import Round, StoredFile
from nextmask.study.versions import versions

if TYPE_CHECKING:
    from nextmask.networks.warm_start import WarmStart
    from nextmask.training.config import TrainConfig
    from nextmask.training.learner import Learner


@dataclass(frozen=True, eq=False)
class Trainer:
    """Trains the rounds of a study.

    ``path`` finds a file that the ledger names, ``load`` opens a segmenter, ``pseudo`` makes pseudo-labels by one, and
    ``told`` gives what is shown of the progress.
    """

    folder: Path
    config: StudyConfig
    learner: Learner
    labels: Labels
    embedder: Embedder
    device: str
    rgb: bool
    path: Callable[[StoredFile], Path]
    load: Callable[[StoredFile], Any]
    pseudo: Callable[[StoredFile], PseudoLabels]
    told: Callable[[str], Progress | None]

    def train(self, rounds: Sequence[Round], number: int, folder: Path) -> dict[str, Any]:
        """Train round ``number`` on all masks, write the segmenter, and return what the ledger should know of it.

        ``folder`` keeps what an interrupted training needs to go on; the caller deletes it.
        """
        from nextmask.training.learner import TrainingTask

        started = time.monotonic()
        refuse_settings(self.learner, self.config)
        folder.mkdir(parents=True, exist_ok=True)
        masks = {name: self.path(file) for each in rounds for name, file in each.masks.items()}
        previous = next((each.segmenter for each in reversed(rounds[: number - 1]) if each.segmenter), None)
        scribbles, config = self.config.supervision == "scribble", self.derived()
        starts = self._starts(previous, trained_by(rounds, previous) if previous else "")
        task = TrainingTask(
            samples=self.labels.samples(
                masks, dimensions=config.dimensions, far=scribbles and self.config.far_background
            ),
            config=config,
            seed=[self.config.seed, number],
            device=self.device,
            folder=folder,
            classes=self.config.classes,
            unlabeled=self.labels.images(config.dimensions),
            pseudo=self._pseudo_labels(number, previous, folder),
            starts=starts,
            members=self.config.members,
            spacing=self.labels.typical_spacing(config.dimensions),
        )
        about = described(self.learner, task)
        segmenter = self.learner.fit(task, self.told(f"round {number}: training"))
        relative = f"rounds/{number:02d}/segmenter.pt"
        self.learner.save(segmenter, self.folder / relative)
        if name_of(self.learner) not in LEARNERS:
            self._try_out(relative)
        return {
            **about,
            "round": number,
            "path": relative,
            "sha256": digest(self.folder / relative),
            "trained_on": len(task.samples),
            "pseudo_labeled": len(task.pseudo),
            "start": {"weights": self.config.start, "sha256": starts[0].sha256 if starts[0] else None},
            "device": self.device,
            "seconds": round(time.monotonic() - started, 1),
            "versions": versions(),
        }

    def derived(self) -> TrainConfig:
        """Derive how the network is trained from the images, the device and the settings."""
        from nextmask.training.config import derive_config

        shapes = self.labels.shapes()
        if self.config.dimensions == 3 and len(shapes[0]) == 2:
            raise StudyError(
                "dimensions = 3, and the images of this study are pictures of two axes. Expected volumes. Leave dimensions out "
                "of study.toml."
            )
        derived = derive_config(
            shapes,
            len(self.labels.image(0)),
            len(self.config.classes) + 1,
            dimensions=self.config.dimensions or (2 if self.labels.planar else 3),
            device=self.device,
            rgb=self.rgb,
            iterations=self.config.iterations,
            objectives=self.config.objectives,
        )
        return replace(derived, snapshots=self.config.snapshots)

    def _try_out(self, relative: str) -> None:
        """Open what a learner of the user's own saved, and predict a sample and its case: what errs is told at once."""
        segmenter = self.learner.load(self.folder / relative, self.device)
        images = [self.labels.image(0)] if self.derived().dimensions == 2 else []
        images.append(self.labels.cache.image(self.labels.pool.samples[0].case))
        for image in {each.shape: np.asarray(each, np.float32) for each in images}.values():
            refuse_answer(self.learner, segmenter.predict(image), image, len(self.config.classes) + 1)

    def _starts(self, previous: StoredFile | None, by: str) -> Sequence[WarmStart | None]:
        """Open the weights to begin with, one for each member in turn; None for random ones."""
        if self.config.start != LAST_ROUND:
            return [self.embedder.warm_start(self.config.start)]
        if previous is None:
            return [None]
        if by != name_of(self.learner):
            raise StudyError(
                f"start = {LAST_ROUND!r}, and the last round was trained by the learner {by!r}. Expected weights of "
                f'{name_of(self.learner)!r}, which is to go on. Set start = "scratch", or learner back to {by!r}.'
            )
        from nextmask.networks.warm_start import WarmStart

        networks = self.load(previous).networks
        return [WarmStart(network.state_dict(), "all", previous.sha256) for network in networks]

    def _pseudo_labels(self, number: int, previous: StoredFile | None, folder: Path) -> list[Load]:
        """Predict masks of samples that the last segmenter is certain of, where the objectives ask for that."""
        if "pseudo_labels" not in self.config.objectives or previous is None:
            return []
        pseudo = self.pseudo(previous)
        rows = pseudo.choose(number, [self.config.seed, number, 1])
        return pseudo.write(rows, self.load(previous), previous.sha256, folder)
