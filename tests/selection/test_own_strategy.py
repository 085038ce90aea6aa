"""The example of a strategy of one's own runs, and does what it says."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from nextmask.selection import needs, select

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_strategy.py"


def _example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_strategy", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_runs_as_a_script() -> None:
    printed = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=True).stdout
    assert len(re.findall(r"\d+", printed)) == 10


def test_takes_uncertain_samples_that_lie_apart() -> None:
    strategy = _example().uncertain_and_apart
    assert needs(strategy) == ("embeddings", "uncertainty")
    # Two tight groups are uncertain, a third is certain and far from both.
    embeddings = np.repeat([[0.0], [5.0], [99.0]], 10, axis=0) + np.linspace(0, 1, 30)[:, None]
    uncertainty = np.repeat([0.9, 0.8, 0.1], 10)
    evidence = {"embeddings": lambda: embeddings, "uncertainty": lambda: uncertainty}
    rows = select(strategy, evidence, np.zeros(30, dtype=bool), 4, rng=np.random.default_rng(0)).rows
    assert rows.max() < 20
    assert {int(row) // 10 for row in rows[:2]} == {0, 1}
