"""Pretrained encoders of a study: made once for the same images and settings, whatever asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextmask.data.files import Progress, digest, digest_json
from nextmask.data.pool import Pool
from nextmask.errors import StudyError, TrainingError
from nextmask.study.labels import Labels
from nextmask.study.lock import one_maker

if TYPE_CHECKING:
    from nextmask.features.pretrain import LearnedEncoder, PretrainConfig
    from nextmask.features.unlabeled import Unlabeled

VERSION = 1
"""Part of every key; raised when the same settings would give other weights."""


def pretrained(
    task: str,
    labels: Labels,
    pool: Pool,
    folder: Path,
    *,
    planar: bool,
    device: str,
    settings: Mapping[str, Any],
    progress: Progress | None = None,
) -> tuple[LearnedEncoder, str]:
    """Open the encoder that a task gives on a pool's images, and the hash of its file; train it if there is none yet.

    ``settings`` may hold ``iterations``, ``seed``, and options of the task. The whole pool takes part, labeled or not;
    test cases and masks never do. The file is kept in ``folder`` by the content of all that decides its weights, so that
    simulations of every seed share it; a pretraining that was interrupted goes on.
    """
    from nextmask.features.pretrain import load_encoder, pretrain, save_encoder
    from nextmask.features.tasks import TASKS

    given = dict(settings)
    seed, iterations = given.pop("seed", 0), given.pop("iterations", None)
    if type(seed) is not int or seed < 0 or not (iterations is None or (type(iterations) is int and iterations > 0)):
        raise StudyError(
            f"pretraining has seed = {seed!r} and iterations = {iterations!r}. Expected whole numbers, a seed from 0 and "
            "iterations from 1. Mend that line of study.toml."
        )
    config = _config(task, labels, planar=planar, device=device, iterations=iterations, options=given)
    path = folder / f"{task}-{_key(config, seed, labels, pool)[:16]}.pt"
    folder.mkdir(parents=True, exist_ok=True)
    with one_maker(path.with_suffix(".lock")):
        try:
            return load_encoder(path, TASKS, device), digest(path)
        except TrainingError:  # there is none, or it was cut off
            path.unlink(missing_ok=True)
        images = unlabeled(labels, pool)
        checkpoint = path.with_suffix(".checkpoint")
        encoder = pretrain(
            images, config, TASKS[task], seed=[seed], device=device, checkpoint=checkpoint, progress=progress
        )
        save_encoder(encoder, path)
        checkpoint.unlink(missing_ok=True)
        return encoder, digest(path)


def unlabeled(labels: Labels, pool: Pool) -> Unlabeled:
    """Show a pool as what learns from images alone sees it: samples, and where each comes from."""
    from nextmask.features.unlabeled import Unlabeled

    return Unlabeled(labels.image, pool.patient, pool.volume, pool.bounds[:, 0])


def _config(
    task: str, labels: Labels, *, planar: bool, device: str, iterations: int | None, options: Mapping[str, Any]
) -> PretrainConfig:
    from nextmask.features.tasks import derive_pretrain_config

    return derive_pretrain_config(
        task,
        labels.shapes(),
        len(labels.image(0)),
        dimensions=2 if planar else 3,
        device=device,
        iterations=iterations,
        options=options,
    )


def _key(config: PretrainConfig, seed: int, labels: Labels, pool: Pool) -> str:
    from dataclasses import asdict

    samples = [sample.id for sample in pool.samples]
    return digest_json([VERSION, asdict(config), seed, list(labels.cache.keys), samples, pool.patient.tolist()])
