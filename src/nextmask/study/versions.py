"""What a result was made with."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("nextmask", "torch", "monai", "numpy", "scipy", "scikit-learn", "SimpleITK", "nibabel", "pydicom")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide about results."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


@cache
def source() -> str:
    """Return a hash of nextmask's own code as it is installed: a release may be changed in place."""
    home = Path(__file__).parent.parent
    found = hashlib.sha256()
    for path in sorted(home.rglob("*.py")):
        found.update(path.relative_to(home).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]
