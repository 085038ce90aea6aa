"""The device that networks run on, and how large an image it can take."""

from __future__ import annotations

from nextmask.errors import TrainingError

LIMITS = {("cpu", True): 128, ("cpu", False): 64, ("gpu", True): 256, ("gpu", False): 128}
"""Longest side of a typical working image, by kind of device and by whether samples are planar."""


def choose_device(wanted: str) -> str:
    """Return the device to use; "auto" takes a GPU if there is one.

    Raises:
        TrainingError: the device that was asked for is not there.
    """
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = wanted.split(":")[0]
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, False):
        raise TrainingError(
            f"the device {wanted!r} is not there. Expected one of {[k for k, v in there.items() if v]}, or auto. "
            "Set device to one of these, or install a build of PyTorch for the accelerator."
        )
    return wanted


def working_limit(device: str, planar: bool) -> int:
    """Return the longest side that a typical working image should have on a device."""
    return LIMITS["cpu" if device == "cpu" else "gpu", planar]
