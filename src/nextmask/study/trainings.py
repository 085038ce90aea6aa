"""Segmenters that are trained once: studies that share a cache share equal trainings."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextmask.data.files import atomically, digest, digest_json, discard_temporaries, write_text
from nextmask.study.lock import one_maker
from nextmask.study.versions import versions

VERSION = 2
"""Part of every key; raised when the same content would give other weights."""
DECISIVE = ("nextmask", "torch", "monai")
"""Packages of which another version may give other weights."""


@dataclass(frozen=True)
class Training:
    """A finished training: the hash of its segmenter's file, the seconds it took, and whether they were spent only now.

    ``told`` is what whoever trained it told of it.
    """

    sha256: str
    seconds: float
    told: Mapping[str, Any]
    fresh: bool


def train_once(
    folder: Path, content: Mapping[str, Any], train: Callable[[Path, Path], dict[str, Any]], to: Path
) -> Training:
    """Put the segmenter of a training at ``to``: as it lies in ``folder``, or else as ``train(unfinished, path)`` writes it.

    ``content`` is all that decides its weights, in plain types. Of several processes that need the same training one
    trains and the others wait. ``unfinished`` is a folder for what an interrupted training needs to go on, whoever takes it
    up; ``train`` returns what is to be told of it. Both names of the file are one on disk where the file system can do that.
    """
    key = _key(content)
    path, unfinished = folder / f"{key}.pt", folder / f"{key}.unfinished"
    folder.mkdir(parents=True, exist_ok=True)
    discard_temporaries(folder, older_than=3600.0)  # younger ones may belong to another process
    with one_maker(folder / f"{key}.lock"):
        made = _made(path)
        fresh = made is None
        if made is None:
            started = time.monotonic()
            unfinished.mkdir(exist_ok=True)
            told = train(unfinished, path)
            made = {"sha256": digest(path), "seconds": round(time.monotonic() - started, 1), "told": told}
            write_text(path.with_suffix(".json"), json.dumps(made))
            shutil.rmtree(unfinished, ignore_errors=True)
        _link(path, to)
    return Training(**made, fresh=fresh)


def find_training(folder: Path, content: Mapping[str, Any]) -> Path | None:
    """Return the file of the segmenter that `train_once` keeps for ``content``; None where there is none, or it is damaged.

    Where another process is training it, that is waited for.
    """
    path = folder / f"{_key(content)}.pt"
    if not path.with_suffix(".lock").exists():
        return None
    with one_maker(path.with_suffix(".lock")):
        return path if _made(path) else None


def _key(content: Mapping[str, Any]) -> str:
    return digest_json([VERSION, *(versions()[name] for name in DECISIVE), dict(content)])[:32]


def _made(path: Path) -> dict[str, Any] | None:
    """Read what is known of a finished training; None where there is none, or its file is damaged."""
    try:
        made = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return made if digest(path) == made["sha256"] else None
    except FileNotFoundError:
        return None


def _link(path: Path, to: Path) -> None:
    with atomically(to) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, temporary)
