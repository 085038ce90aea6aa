"""A pool on a Ray cluster: the numbers, picks and reasons of one machine, and a model that is loaded once an actor."""

from __future__ import annotations

import shutil
import uuid

import numpy as np
import pytest
from typer.testing import CliRunner

from nextmask.benchmark.shards import embed_on_ray, on_actors, two_stage_on_ray
from nextmask.cli import app
from nextmask.selection.two_stage import two_stage_k_center
from nextmask.study.study import Study

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray leaves sockets and processes behind


@pytest.fixture(scope="module", autouse=True)
def cluster():
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 100_000_000})
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def assert_same(one, other):
    assert one.rows.tolist() == other.rows.tolist()
    assert list(one.reasons) == list(other.reasons)
    for name, values in other.numbers.items():
        np.testing.assert_array_equal(one.numbers[name], values)


@pytest.mark.parametrize("labeled", [0, 6])
def test_picks_and_reasons_are_those_of_one_machine(labeled):
    embeddings = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    given = {"rng": np.random.default_rng(1), "shards": 4}
    found = two_stage_on_ray(embeddings, np.arange(60) < labeled, 7, **given)
    assert_same(found, two_stage_k_center(embeddings, np.arange(60) < labeled, 7, **given))


def test_each_actor_loads_its_model_once_and_rows_come_in_order(tmp_path):
    def make():
        (tmp_path / uuid.uuid4().hex).touch()
        return lambda row: np.array([row, row**2])

    found = on_actors(make, 50, actors=2, rows=4)
    assert found.dtype == np.float32
    assert found.tolist() == [[row, row**2] for row in range(50)]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_study_is_embedded_as_on_one_machine_and_its_cache_holds_it(home):
    local = np.array(Study(home).embed("intensity").array)
    shutil.rmtree(home / "cache" / "embeddings")
    there = embed_on_ray(home, "intensity", actors=2, rows=5)
    np.testing.assert_array_equal(there, local)
    np.testing.assert_array_equal(Study(home).embed("intensity", _refuse).array, local)


def test_the_command_does_so_too(home):
    local = np.array(Study(home).embed("intensity").array)
    shutil.rmtree(home / "cache" / "embeddings")
    ended = CliRunner().invoke(app, ["embed", str(home), "--encoder", "intensity", "--on", "ray", "--workers", "1"])
    assert ended.exit_code == 0, ended.output
    np.testing.assert_array_equal(Study(home).embed("intensity", _refuse).array, local)
    assert CliRunner().invoke(app, ["embed", str(home), "--on", "mars"]).exit_code == 2


def _refuse(row):
    raise AssertionError("it is in the cache already")
