"""Every recipe of a published system plays to its end, on images where they are and on drawn patients where they are not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from nextmask.errors import StudyError
from nextmask.features import adversarial
from nextmask.study.benchmark import make_benchmark, run_benchmark
from nextmask.study.config import as_toml
from nextmask.study.executors import in_this_process
from nextmask.study.grid import read_benchmark, units
from nextmask.study.recipes import fill_in, recipes

PUBLISHED = ("colossal", "saal", "sal_smis", "ceal", "metric_coreset", "clasp_pe", "nextmask")
QUICK = ("saal",)


def shrunk(path: Path) -> None:
    """Leave of a recipe what shows that it plays: one seed, two steps of training, tiny patients, two rounds."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    settings = {**table["settings"], "iterations": 2, "device": "cpu"}
    settings["pretraining"] = {**settings.get("pretraining", {}), "iterations": 2}
    if "patch_size" in settings.get("training", {}):
        settings["training"] = {**settings["training"], "patch_size": [16, 16, 16], "features": [4, 8]}
    studies = {
        name: {**own, "synthetic": {**drawn, "patients": 10, "phases": 1, "shape": [min(drawn["shape"][0], 6), 32, 32]}}
        for name, own in table["studies"].items()
        if (drawn := own["synthetic"])
    }
    budgets = [[2]] if isinstance(table["budgets"][0], list) else [2, 4]
    arms = [{**arm, "seeds": [0]} for arm in table["arms"]]
    small = {**table, "seeds": [0], "settings": settings, "studies": studies, "budgets": budgets, "arms": arms}
    path.write_text("".join(f"{key} = {as_toml(value)}\n" for key, value in small.items()), encoding="utf-8")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PUBLISHED]
)
def test_a_recipe_plays_to_its_end(name, tmp_path, monkeypatch):
    monkeypatch.setitem(adversarial.ITERATIONS, "cpu", (2, 3))
    path, drawn = fill_in(name, tmp_path / "nowhere", tmp_path)
    assert drawn
    shrunk(path)
    made = make_benchmark(path)
    run_benchmark(made, in_this_process)
    assert {job.key: job.failure for job in made.jobs if job.failure} == {}
    assert all(job.done for job in made.jobs)


def test_every_published_system_has_its_recipe_and_larger_files_are_beside_it():
    assert set(PUBLISHED) <= set(recipes())
    assert {name.partition("-")[0] for name in recipes()} == set(PUBLISHED)


@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_recipe_takes_the_images_that_are_there(name, shared_data, tmp_path):
    data = shared_data("acdc/cases.csv").parents[1]
    path, drawn = fill_in(name, data, tmp_path)
    assert not drawn
    config = read_benchmark(path)
    assert all(Path(study["images"]).is_file() for study in config.studies.values())
    assert units(config)


def test_a_recipe_that_does_not_exist_is_named_with_one_that_does(tmp_path):
    with pytest.raises(StudyError, match="Did you mean colossal"):
        fill_in("collosal", tmp_path, tmp_path)
