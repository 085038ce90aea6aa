"""study.toml: few keys, each explained, and a wrong one is named."""

from __future__ import annotations

import pytest

from nextmask.errors import StudyError
from nextmask.study.config import FILE, StudyConfig, parse_config, read_config, refuse_changed, write_config

LEAST = {"images": "cases.csv", "classes": ["rv", "lv"]}


def test_what_is_written_is_read_back(tmp_path):
    config = parse_config(
        {**LEAST, "columns": {"patient": "scan group"}, "mask_codes": {"9": "ignore", "255": 1}, "box": [8, 16, 16],
         "unit": "box", "window": [-160, 240], "iterations": 100, "proxy": "hu:100:150",
         "drawing": {"structure": 0.25}}
    )  # fmt: skip
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config
    assert config.mask_codes == {9: 255, 255: 1}
    assert (config.drawing.structure, config.drawing.scribble) == (0.25, 1 / 15)


def test_every_setting_explains_itself_in_the_file(tmp_path):
    write_config(tmp_path, parse_config(LEAST))
    text = (tmp_path / FILE).read_text()
    for name, field in StudyConfig.model_fields.items():
        assert f"# {field.description}\n" in text
        assert f"{name} =" in text


def test_an_unknown_key_is_an_error_with_a_suggestion():
    with pytest.raises(StudyError, match="did you mean 'iterations'"):
        parse_config({**LEAST, "itertions": 5})


def test_an_unknown_part_of_drawing_is_an_error_with_a_suggestion():
    with pytest.raises(StudyError, match=r"drawing\.structur: (.|\n)*did you mean 'structure'"):
        parse_config({**LEAST, "drawing": {"structur": 1.0}})
    with pytest.raises(StudyError, match=r"drawing\.pen: (.|\n)*one of slice, structure, boundary, scribble"):
        parse_config({**LEAST, "drawing": {"pen": 1.0}})


def test_all_wrong_settings_are_named_at_once():
    with pytest.raises(StudyError, match=r"3 wrong settings(.|\n)*unit(.|\n)*test_fraction(.|\n)*seed"):
        parse_config({**LEAST, "unit": "voxel", "test_fraction": 2, "seed": -1})


@pytest.mark.parametrize("names", [[], ["lv", "lv"], [str(i) for i in range(255)]])
def test_class_names_are_distinct_and_leave_room_for_ignore(names):
    with pytest.raises(StudyError, match="classes"):
        parse_config({**LEAST, "classes": names})


@pytest.mark.parametrize("name", ["otsu", "hu:150:100"])
def test_a_proxy_that_there_is_not_is_named(name):
    with pytest.raises(StudyError, match=r"proxy = (.|\n)*no rule for proxy masks(.|\n)*otsu-bright"):
        parse_config({**LEAST, "proxy": name})


def test_a_folder_without_a_study_says_how_to_make_one(tmp_path):
    with pytest.raises(StudyError, match="nextmask new"):
        read_config(tmp_path)


def test_broken_toml_names_the_line(tmp_path):
    (tmp_path / FILE).write_text("seed == 1")
    with pytest.raises(StudyError, match="line 1"):
        read_config(tmp_path)


def test_a_study_of_an_earlier_release_lacks_settings_that_are_at_rest():
    config = parse_config(LEAST, "it")
    made = config.model_dump(mode="json")
    del made["coordinates"]
    refuse_changed(config, made)
    with pytest.raises(StudyError, match=r"rests on: coordinates\. Expected, as it was made: no coordinates\."):
        refuse_changed(config.model_copy(update={"coordinates": ("z",)}), made)


def test_each_axis_has_one_coordinate():
    with pytest.raises(StudyError, match="each axis once"):
        parse_config({**LEAST, "coordinates": ["z", "z"]}, "it")
