"""Weights in files: written whole or not at all, read without executing anything, and checked before they are used."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmask.data.files import atomically
from nextmask.errors import TrainingError


def save_tensors(payload: Mapping[str, Any], path: Path) -> None:
    """Write plain values and tensors whole or not at all."""
    with atomically(path) as temporary, temporary.open("wb") as file:
        torch.save(dict(payload), file)  # into a stream: given a name, torch writes that name into the file


def read_stored(path: Path) -> dict[str, Any] | None:
    """Read a file of plain values and tensors; None if it is missing, damaged or holds anything else."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not compare checksums: a flipped bit would pass
            if archive.testzip() is not None:
                return None
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile, pickle.UnpicklingError):
        return None  # which one depends on where the damage is
    return stored if isinstance(stored, dict) else None


def misfits(stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """List which weights are missing, unknown, or of another shape."""
    problems = [f"{key} missing" for key in wanted if key not in stored]
    problems += [f"{key} unknown" for key in stored if key not in wanted]
    problems += [
        f"{key} {tuple(stored[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in stored and stored[key].shape != wanted[key].shape
    ]
    return problems


def check_weights(
    stored: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    path: Path,
    advice: str = "Train again with this version of nextmask.",
) -> None:
    """Raise TrainingError, with a list of what does not fit, unless a file's weights are those of a network."""
    problems = misfits(stored, wanted)
    if problems:
        raise TrainingError(
            f"{len(problems)} weights in {path} do not fit the network that its configuration describes: "
            f"{'; '.join(problems[:10])}{'; ...' if len(problems) > 10 else ''}. Expected {len(wanted)} weights, all "
            f"fitting. {advice}"
        )
