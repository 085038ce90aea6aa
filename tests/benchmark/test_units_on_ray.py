"""A benchmark on a Ray cluster of two nodes, one of which dies: the results are those of one machine."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest

from nextmask.benchmark.executors import in_this_process, on_ray
from nextmask.benchmark.standing import standing, together
from nextmask.benchmark.units import make_benchmark, open_benchmark, play, run_benchmark

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray leaves sockets and processes behind

FILE = """
seeds = 2
budgets = [2, 5]
settings = {device = "cpu", iterations = 40}
studies.hearts.folder = "study"
[[arms]]
strategies = ["random", "k_center"]
"""


def lasting(folder: Path) -> list[str]:
    """All of the table that must not depend on where it was made."""
    with (folder / "results.csv").open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    gone = ("select_seconds", "train_seconds", "evaluate_seconds", "shared", "peak_mb")
    return [str({name: value for name, value in row.items() if name not in gone}) for row in rows]


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100_000_000})
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_node_that_dies_in_the_middle_changes_nothing(home, cluster):
    file = home.parent / "b.toml"
    file.write_text(FILE)
    here = make_benchmark(file, home.parent / "here")
    run_benchmark(here, in_this_process)
    for path in (home / "cache" / "segmenters").iterdir():
        path.unlink()

    nodes = [cluster.add_node(num_cpus=1, object_store_memory=100_000_000) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    there = make_benchmark(file, home.parent / "there")
    died = []

    def watched(job, error):
        assert error is None
        if not died:
            died.append(running_on_both(there))
            cluster.remove_node(nodes.pop(), allow_graceful=False)

    run_benchmark(there, lambda work, jobs: on_ray(work, jobs, threads=1, gpus=0), watched)
    assert together(standing(open_benchmark(file, home.parent / "there"))).counts["done"] == 4
    assert died == [True]
    assert lasting(home.parent / "there") == lasting(home.parent / "here")


def running_on_both(benchmark) -> bool:
    """Wait until each node plays a unit, so that whichever dies is in the middle of one."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if together(standing(benchmark)).counts["running"] == 2:
            return True
    return False


def test_what_goes_wrong_in_a_unit_comes_back(home, cluster):
    cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    ray.init(address=cluster.address, log_to_driver=False)
    file = home.parent / "b.toml"
    file.write_text(FILE.replace("[[arms]]", '[[arms]]\noptions = {first = "nonsense"}').replace('"random", ', ""))
    made = make_benchmark(file)
    ended = list(on_ray(play, made.jobs, threads=1, gpus=0))
    assert ["nonsense" in str(error) for _, error in ended] == [True, True]
