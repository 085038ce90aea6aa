"""The file of a benchmark: what it may say, what is wrong with it, and the units that it amounts to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nextmask.benchmark.grid import OWN, BenchmarkConfig, Unit, read_benchmark, units
from nextmask.errors import StudyError
from nextmask.study.config import StudyConfig, checked

STUDIES: dict[str, Any] = {"hearts": {"images": "cases.csv", "classes": ["lv"]}}


def config(*arms: dict[str, Any], **top: Any) -> BenchmarkConfig:
    values = {"studies": STUDIES, "arms": [{"strategies": ["random"], **arm} for arm in arms or ({},)], **top}
    return checked(BenchmarkConfig, values, "b.toml")


def listed(*arms: dict[str, Any], **top: Any) -> tuple[Unit, ...]:
    return units(config(*arms, **{"budgets": [4], **top}))


@pytest.mark.parametrize(
    ("arm", "told"),
    [
        ({"strategis": ["random"]}, "arms.0.strategis: there is no such setting; did you mean 'strategies'"),
        ({"strategies": ["typicluster"]}, "Did you mean 'typiclust'"),
        ({"first": "randon"}, "Did you mean 'random'"),
        ({"encoders": ["intensty"]}, "Did you mean 'intensity'"),
        ({"settings": {"iteration": 3}}, "did you mean 'iterations'"),
        ({"vary": {"strat": ["scratch"]}}, "did you mean 'start'"),
        ({"vary": {"split_by": ["patient"]}}, "split_by is the study's"),
        ({"budgets": [4, 4]}, "grow from round to round"),
        ({"budgets": [[8, 4]]}, "grow from round to round"),
        ({"query_sizes": [4]}, "either budgets, or query_sizes together with rounds"),
        ({"query_sizes": [4], "rounds": 2, "budgets": [4]}, "either budgets, or query_sizes together with rounds"),
        ({"studies": ["lungs"]}, "an arm names study 'lungs'; expected one of hearts"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_meant(arm, told):
    with pytest.raises(StudyError) as error:
        config(arm)
    assert told in str(error.value)


def test_an_unknown_key_above_the_arms_is_named_too():
    with pytest.raises(StudyError, match="seed: there is no such setting; did you mean 'seeds'"):
        config(seed=3)


@pytest.mark.parametrize("name", OWN)
def test_no_arm_varies_what_its_units_share(name):
    with pytest.raises(StudyError, match="is the study's"):
        config({"settings": {name: 1}})


def test_a_study_must_be_able_to_name_a_folder():
    with pytest.raises(StudyError, match="expected letters"):
        config(studies={"../hearts": {}})


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path):
    with pytest.raises(StudyError, match="there is no file"):
        read_benchmark(tmp_path / "b.toml")
    (tmp_path / "b.toml").write_text("seeds = ")
    with pytest.raises(StudyError, match="no valid TOML"):
        read_benchmark(tmp_path / "b.toml")


def test_the_example_is_in_order():
    example = Path(__file__).parents[2] / "examples" / "benchmark.toml"
    assert len(units(read_benchmark(example))) == 6


def test_every_combination_is_a_unit():
    found = listed(
        {
            "strategies": ["k_center", "typiclust"],
            "encoders": ["intensity", "restoration"],
            "vary": {"iterations": [3, 5]},
        },
        seeds=2,
        studies={"a": {}, "b": {}},
        budgets=[[4], [4, 8], [20]],
    )
    assert len(found) == 2 * 2 * 2 * 2 * 2 * 3
    assert {(u.study, u.strategy, u.settings["encoder"], u.settings["iterations"], u.seed, u.sizes) for u in found} == {
        (study, strategy, encoder, iterations, seed, sizes)
        for study in ("a", "b")
        for strategy in ("k_center", "typiclust")
        for encoder in ("intensity", "restoration")
        for iterations in (3, 5)
        for seed in (0, 1)
        for sizes in ((4,), (4, 4), (20,))
    }


def test_units_come_seed_by_seed():
    found = listed({"seeds": [0, 1, 2]}, {"strategies": ["k_center"], "seeds": [2, 0]})
    assert [(unit.seed, unit.strategy) for unit in found] == [
        (0, "random"),
        (0, "k_center"),
        (1, "random"),
        (2, "random"),
        (2, "k_center"),
    ]


def test_seeds_are_a_list_or_how_many_and_those_of_training_are_the_same_if_not_given():
    assert [(u.seed, u.training_seed) for u in listed(seeds=2)] == [(0, 0), (1, 1)]
    assert [(u.seed, u.training_seed) for u in listed(seeds=[5])] == [(5, 5)]
    crossed = listed(seeds=[5, 6], training_seeds=2)
    assert [(u.seed, u.training_seed) for u in crossed] == [(5, 0), (5, 1), (6, 0), (6, 1)]


def test_seeds_share_one_pretraining_or_have_one_each():
    study = StudyConfig(images="cases.csv", classes=("lesion",), pretraining={"iterations": 7, "seed": 9})
    shared, own = listed(seeds=2), listed(seeds=2, pretrainings="each")
    assert [u.settings_in(study) for u in shared] == [u.settings for u in shared]
    assert [u.settings_in(study)["pretraining"] for u in own] == [{"iterations": 7, "seed": k} for k in (0, 1)]
    assert len({u.arm for u in own}) == 1
    set_here = listed(seeds=[5], pretrainings="each", settings={"pretraining": {"iterations": 3}})[0]
    assert set_here.settings_in(study)["pretraining"] == {"iterations": 3, "seed": 5}
    elsewhere = listed(seeds=[5], pretrainings="each", settings={"encoder": "pretrained"})[0]
    assert "pretraining" not in elsewhere.settings_in(study)
    both = listed({"pretrainings": "each"}, {}, seeds=1)
    assert [(u.own_pretraining, u.arm) for u in both] == [(True, "random pretrainings=each"), (False, "random")]


def test_budgets_are_samples_in_all_and_sizes_are_those_of_each_query():
    assert [u.sizes for u in listed(budgets=[14, 29, 43])] == [(14, 15, 14)]
    assert [u.sizes for u in listed(budgets=[[14], [29]])] == [(14,), (29,)]
    assert [u.sizes for u in units(config(query_sizes=[5, 10], rounds=2))] == [(5, 5), (10, 10)]


def test_an_arm_overrules_what_is_said_for_all():
    top: dict[str, Any] = {"settings": {"iterations": 3, "start": "scratch"}, "first": "random", "seeds": 3}
    (one,) = listed(
        {"settings": {"iterations": 5}, "first": "k_center", "seeds": 1, "query_sizes": [2], "rounds": 3}, **top
    )
    assert (one.settings, one.first, one.sizes) == ({"iterations": 5, "start": "scratch"}, "k_center", (2, 2, 2))


def test_nothing_that_says_how_much_is_asked_for_is_an_error():
    with pytest.raises(StudyError, match="budgets = "):
        units(config())


def test_what_two_arms_both_ask_for_is_one_unit():
    assert len(listed({}, {"seeds": 2}, {"name": "again"})) == 2


def test_arms_are_named_by_what_differs_between_them():
    found = listed(
        {"settings": {"iterations": 3}},
        {"strategies": ["typiclust"], "settings": {"iterations": 3}, "options": {"neighbors": 5}},
        {"strategies": ["most_uncertain"], "first": "random", "settings": {"iterations": 3}, "encoders": ["intensity"]},
        {"name": "ours", "strategies": ["k_center"]},
        {"name": "both", "strategies": ["badge", "usl"], "settings": {"iterations": 3}},
        {
            "name": "starts",
            "strategies": ["usl"],
            "vary": {"start": ["scratch", "restoration"]},
            "settings": {"members": 2},
        },
    )
    assert sorted(unit.arm for unit in found) == [
        "both: badge",
        "both: usl",
        "most_uncertain first=random encoder=intensity iterations=3",
        "ours",
        "random iterations=3",
        "starts: usl start=restoration",
        "starts: usl start=scratch",
        "typiclust neighbors=5 iterations=3",
    ]


def test_a_first_strategy_is_named_where_it_tells_arms_apart():
    same = listed({"strategies": ["typiclust", "badge"], "first": "random"}, {}, first="random")
    assert [unit.arm for unit in same] == ["typiclust", "badge", "random"]
    mixed = listed({"strategies": ["random", "badge"], "first": "random"}, {})
    assert [unit.arm for unit in mixed] == ["random first=random", "badge first=random", "random"]


def test_a_baseline_that_is_no_arm_is_said_before_anything_is_played():
    with pytest.raises(StudyError, match="baseline is 'rand'"):
        listed(baseline="rand")
