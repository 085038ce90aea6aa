"""What is freed is kept while a network is trained, and given back then."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

WORK = """
import resource
from pathlib import Path
import numpy as np
from nextmask.networks.freed import keeping_freed

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

def step():
    return [np.ones(2**18) for _ in range(100)]  # 2 MiB each

with keeping_freed():
    step()
    before = faults()
    for _ in range(5):
        step()
    inside, held = faults() - before, resident()
before = resident()
for _ in range(5):
    step()
print(inside, held, before, resident())
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="glibc alone can be told"
)


def run(**settings):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    told = subprocess.run([sys.executable, "-c", WORK], env=kept | settings, capture_output=True, text=True, check=True)
    return [float(number) for number in told.stdout.split()]


def test_steps_write_to_the_same_pages_and_all_are_given_back():
    inside, held, *after = run()
    assert inside < 1000  # of 51,200 pages a step
    assert held > 200  # MiB
    assert max(after) < held - 100


def test_thresholds_of_the_environment_are_left_alone():
    inside, *_ = run(MALLOC_MMAP_THRESHOLD_="65536")
    assert inside > 5 * 51_200 * 0.9
