"""Every recipe of a published system plays to its end, on images where they are and on drawn patients where they are not."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from nextmask.benchmark.executors import in_this_process
from nextmask.benchmark.grid import read_benchmark, units
from nextmask.benchmark.recipes import fill_in, recipes
from nextmask.benchmark.standing import standing, together
from nextmask.benchmark.units import make_benchmark, open_benchmark, run_benchmark
from nextmask.errors import StudyError
from nextmask.features import adversarial
from nextmask.study.config import as_toml

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
    assert set(recipes()) == {each for name in PUBLISHED for each in (name, f"{name}-full")}


TRAININGS = {"iterations", "iterations_per_sample", "members"}


def sizeless(table: dict[str, Any], varied: set[str]) -> dict[str, Any]:
    """Leave out of a recipe what may be larger in its full-size file: nothing but this may differ between the two."""
    study_sizes = {"working_size", "synthetic", "test_fraction", "box"}
    return {
        **{name: value for name, value in table.items() if name not in {"seeds", "budgets", "gpus"}},
        "settings": _without_sizes(table["settings"], varied),
        "studies": {
            name: {key: value for key, value in own.items() if key not in study_sizes}
            for name, own in table["studies"].items()
        },
        "arms": [_arm_without_sizes(arm, varied) for arm in table["arms"]],
    }


def _without_sizes(settings: dict[str, Any], varied: set[str]) -> dict[str, Any]:
    left = {name: value for name, value in settings.items() if name not in TRAININGS | varied}
    for name, sizes in {"training": {"patch_size", "batch_size"}, "pretraining": {"iterations"}}.items():
        left[name] = {key: value for key, value in left.get(name, {}).items() if key not in sizes}
    return left


def _arm_without_sizes(arm: dict[str, Any], varied: set[str]) -> dict[str, Any]:
    """Full-size files may try more settings, and each in more repetitions."""
    return {
        **{name: value for name, value in arm.items() if name not in {"seeds", "vary", "settings"}},
        "settings": _without_sizes(arm.get("settings", {}), varied),
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_full_size_file_differs_from_the_small_one_in_size_alone(name):
    one, other = (tomllib.loads(recipes()[each].read_text(encoding="utf-8")) for each in (name, f"{name}-full"))
    varied = {key for arm in other["arms"] for key in arm.get("vary", {})}
    assert sizeless(other, varied) == sizeless(one, varied)
    for arm, larger in zip(one["arms"], other["arms"], strict=True):
        tried = larger.get("vary", {})
        assert all(set(map(str, values)) <= set(map(str, tried[key])) for key, values in arm.get("vary", {}).items())
    assert other["settings"]["iterations"] > one["settings"]["iterations"]
    assert other["seeds"] > one["seeds"]
    assert other["gpus"] == 1


@pytest.mark.parametrize("name", sorted(recipes()))
def test_the_units_of_a_recipe_are_listed_without_playing_any(name, tmp_path):
    path, drawn = fill_in(name, tmp_path / "nowhere", tmp_path)
    assert drawn
    opened = open_benchmark(path)
    assert not opened.jobs
    arms = {unit.arm for unit in opened.unmade}
    assert len(arms) >= 2
    total = together(standing(opened))
    assert total.counts["waiting"] == len(opened.unmade) > 0


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
