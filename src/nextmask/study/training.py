"""How a study trains a round: what its learner is given, and what the ledger keeps of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nextmask.data.files import Progress
from nextmask.errors import StudyError
from nextmask.study.config import LAST_ROUND, StudyConfig
from nextmask.study.embeddings import Embedder
from nextmask.study.labels import Labels, Load
from nextmask.study.learners import LEARNERS, described, name_of, refuse_answer, refuse_settings, trained_by
from nextmask.study.pseudo import PseudoLabels
from nextmask.study.rounds import Round, StoredFile
from nextmask.study.trainings import find_training, train_once
from nextmask.study.versions import versions

if TYPE_CHECKING:
    from nextmask.networks.warm_start import WarmStart
    from nextmask.training.config import TrainConfig
    from nextmask.training.learner import Learner, TrainingTask


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

    def train(self, rounds: Sequence[Round], number: int) -> dict[str, Any]:
        """Train round ``number`` on all masks, or find the same training done; return what the ledger should know of it.

        A training is named by all that decides its weights: samples, masks, settings, seed, first weights, device and code.
        """
        refuse_settings(self.learner, self.config)
        masks = {name: self.path(file) for each in rounds for name, file in each.masks.items()}
        previous = next((each.segmenter for each in reversed(rounds[: number - 1]) if each.segmenter), None)
        starts = self._starts(previous, trained_by(rounds, previous) if previous else "")
        pseudo = self._pseudo_labeled(number, previous)
        task = self._task(masks, number, starts)
        start = {"weights": self.config.start, "sha256": starts[0].sha256 if starts[0] else None}
        about, own = described(self.learner, task), name_of(self.learner) not in LEARNERS
        content = {
            **about,
            "derived": asdict(task.config),
            "seed": list(task.seed),
            "start": start,
            "samples": self._drawn(masks),
            **self.config.concluded.key(),
            "pool": self.embedder.key({}),
            "pseudo": [pseudo.tolist(), previous.sha256 if previous and len(pseudo) else None],
            "device": self.device.split(":")[0],
        }

        relative = f"rounds/{number:02d}/segmenter.pt"
        # What decides the weights of a learner of the user's own is its code, which nobody here knows: it shares nothing.
        kept = self.folder / (f"rounds/{number:02d}/training" if own else f"{self.config.cache}/segmenters")

        def fit(folder: Path, to: Path) -> dict[str, Any]:
            fewer = self._fewer(kept, content, task)
            learned = replace(task, folder=folder, pseudo=self._pseudo_labels(pseudo, previous, folder), fewer=fewer)
            segmenter = self.learner.fit(learned, self.told(f"round {number}: training"))
            self.learner.save(segmenter, to)
            if own:
                self._try_out(to)
            return {"pseudo_labeled": len(learned.pseudo), "devices": learned.devices, "taken_over": fewer is not None}

        made = train_once(kept, content, fit, self.folder / relative)
        return {
            **about,
            "round": number,
            "path": relative,
            "sha256": made.sha256,
            "trained_on": len(task.samples),
            **made.told,
            "start": start,
            "concluded": self.config.concluded.plain(),
            "device": self.device,
            "seconds": made.seconds,
            "shared": not made.fresh,
            "versions": versions(),
        }

    def _fewer(self, kept: Path, content: Mapping[str, Any], task: TrainingTask) -> Path | None:
        """Find what the same training gave with fewer members, the most there are."""
        fewer = (replace(task, members=members) for members in range(task.members - 1, 0, -1))
        found = (find_training(kept, {**content, **described(self.learner, each)}) for each in fewer)
        return next((path for path in found if path), None)

    def _task(self, masks: Mapping[str, Path], number: int, starts: Sequence[WarmStart | None]) -> TrainingTask:
        """Put together what the learner is given; where it keeps its state, and pseudo-labels, are added when it trains."""
        from nextmask.training.learner import TrainingTask

        config = self._as_long_as_wanted(self.derived(), len(masks))
        seed = self.config.seed if self.config.training_seed is None else self.config.training_seed
        return TrainingTask(
            samples=self.labels.samples(masks, dimensions=config.dimensions, concluded=self.config.concluded),
            config=config,
            seed=[seed, number],
            device=self.device,
            folder=self.folder,
            classes=self.config.classes,
            unlabeled=self.labels.images(config.dimensions),
            starts=starts,
            members=self.config.members,
            spacing=self.labels.typical_spacing(config.dimensions),
            devices=self.config.devices,
        )

    def _as_long_as_wanted(self, config: TrainConfig, labeled: int) -> TrainConfig:
        """Let the training grow with the labels where that is asked for, as in https://arxiv.org/abs/2411.15763."""
        steps = self.config.iterations_per_sample
        return config if steps is None else replace(config, iterations=max(round(steps * labeled), config.snapshots))

    def _drawn(self, masks: Mapping[str, Path]) -> list[list[str]]:
        """Name samples with the content of image and mask; a mask's file is named by its content."""
        pool, keys = self.labels.pool, self.labels.cache.keys
        return [[name, keys[pool.samples[pool.row_of[name]].case], path.name] for name, path in sorted(masks.items())]

    def derived(self) -> TrainConfig:
        """Derive how the network is trained from the images, the device and the settings."""
        from nextmask.training.config import changed, derive_config

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
            unlabeled=len(self.labels.pool.samples),
        )
        return changed(replace(derived, snapshots=self.config.snapshots), self.config.training)

    def _try_out(self, path: Path) -> None:
        """Open what a learner of the user's own saved, and predict a sample and its case: what errs is told at once."""
        segmenter = self.learner.load(path, self.device)
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

    def _pseudo_labeled(self, number: int, previous: StoredFile | None) -> np.ndarray:
        """Choose the samples that the last segmenter is most certain of, (count,) int; none unless the objectives ask."""
        if "pseudo_labels" not in self.config.objectives or previous is None:
            return np.zeros(0, int)
        return self.pseudo(previous).choose(number, [self.config.seed, number, 1])

    def _pseudo_labels(self, rows: np.ndarray, previous: StoredFile | None, folder: Path) -> list[Load]:
        """Let the last segmenter predict the masks of these samples."""
        if not len(rows) or previous is None:
            return []
        return self.pseudo(previous).write(rows, self.load(previous), previous.sha256, folder)
