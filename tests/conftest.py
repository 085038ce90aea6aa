"""Fixtures that every test may use."""

from __future__ import annotations

import os

# Before torch is imported anywhere: on tensors this small threads only wait for each other, and on a busy machine for long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Find a real image below NEXTMASK_DATA (default ../shared/data); skip the test where that one is absent."""
    folder = Path(os.environ.get("NEXTMASK_DATA", ROOT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"real image {name} is not present")
        return path

    return find
