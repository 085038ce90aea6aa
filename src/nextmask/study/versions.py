"""What a result was made with."""

from __future__ import annotations

import platform
from importlib.metadata import version

PACKAGES = ("nextmask", "torch", "monai", "numpy", "scipy", "scikit-learn", "SimpleITK", "nibabel", "pydicom")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide about results."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
