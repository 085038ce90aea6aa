"""Slices, boxes, whole volumes and pictures go through the same verbs."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.data.images import read_mask
from nextmask.data.synthetic import write_patients
from nextmask.data.synthetic_pictures import write_pictures
from nextmask.errors import StudyError
from nextmask.study.config import StudyConfig
from nextmask.study.study import Study


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    folder = tmp_path_factory.mktemp("units")
    write_patients(folder / "patients", 5, seed=5, shape=(8, 40, 40), phases=1)
    write_pictures(folder / "pictures", 6, seed=5, size=40)
    return folder


def play(study: Study, masks, strategy: str = "k_center") -> Study:
    study.query(2, strategy)
    assert study.annotate(masks).missing == ()
    study.train()
    study.evaluate()
    return study


@pytest.mark.parametrize("unit", ["slice", "box", "whole"])
def test_a_round_and_a_query_by_uncertainty(patients, small_config, unit):
    box = (4, 16, 16) if unit == "box" else None
    config = small_config(unit=unit, box=box, working_size=32)
    study = play(Study.create(patients / unit, config), patients / "patients" / "masks")
    assert study.rounds[0].training["config"]["dimensions"] == (2 if unit == "slice" else 3)
    assert study.rounds[0].stage == "done"
    second = study.query(1, "most_uncertain")
    assert not set(second.samples) & set(study.rounds[0].samples)


def test_networks_see_the_field_of_view_and_masks_stay_whole(patients, small_config):
    config = small_config(unit="slice", field_of_view=0.5, working_size=20)
    study = play(Study.create(patients / "field", config), patients / "patients" / "masks")
    assert study.labels.image(0).shape == (1, 20, 20)
    file = study.rounds[0].masks[study.rounds[0].samples[0]]
    assert read_mask(study.path(file))[0].shape == (8, 40, 40)
    assert study.rounds[0].stage == "done"


def test_networks_are_told_where_a_slice_lies_and_encoders_of_intensities_are_not(patients, small_config):
    asked, plain = (
        Study.create(patients / name, small_config(unit="slice", working_size=20, coordinates=axes))
        for name, axes in (("told", ["z"]), ("untold", []))
    )
    assert np.array_equal(asked.embed("intensity").array, plain.embed("intensity").array)
    play(asked, patients / "patients" / "masks")
    assert asked.rounds[0].stage == "done"
    assert asked.rounds[0].training["config"]["channels"] == 2
    rows = asked.pool.rows_of_case[asked.pool.cases[0].id]
    first, last = (asked.labels.image(rows[k])[1] for k in (0, -1))
    assert (first == first.min()).all()
    assert (first == -last).all()
    assert first.max() < -1
    assert asked.embed("network").array.shape[0] == len(asked.pool)
    predicted = asked.predict(patients / "new", images=patients / "patients" / "images")
    assert len(predicted.written) == 5


def test_pictures_have_no_place_along_z(patients, small_config):
    config = StudyConfig(images=str(patients / "pictures" / "cases.csv"), classes=("lesion",), coordinates=("z",))
    with pytest.raises(StudyError, match="pictures of two axes"):
        Study.create(patients / "flat", config)


def test_what_is_drawn_beyond_the_field_of_view_is_told(patients, small_config):
    study = Study.create(patients / "beyond", small_config(unit="slice", field_of_view=0.5))
    (asked,) = study.query(1, "random").samples
    drawn = np.zeros((1, 40, 40), np.uint8)
    drawn[0, 20, :40] = 1
    assert study.annotate(lambda case, sample: drawn).outside == {asked: 0.5}
    assert study.annotate(lambda case, sample: drawn, replace=True).outside == {}


def test_boxes_outside_of_the_field_of_view_are_not_asked_for(patients, small_config):
    with pytest.raises(StudyError, match="no network sees"):
        Study.create(patients / "both", small_config(unit="box", box=(4, 16, 16), field_of_view=0.5))


def test_a_box_is_annotated_inside_and_nowhere_else(patients, small_config):
    study = Study.create(patients / "boxes", small_config(unit="box", box=(4, 16, 16)))
    asked = study.query(1, "random")
    study.annotate(patients / "patients" / "masks")
    file = study.rounds[0].masks[asked.samples[0]]
    mask, _ = read_mask(study.path(file))
    region = study.pool.samples[study.pool.row_of[asked.samples[0]]].region
    assert (mask[region.slices] != 255).all()
    assert (mask != 255).sum() == np.prod(region.shape)


@pytest.mark.parametrize("size", [16, 40])
def test_what_an_encoder_sees_of_a_box_is_that_box(patients, small_config, size):
    """A bright box in one corner must be seen in the sample of that corner, whatever the working resolution."""
    study = Study.create(patients / f"seen{size}", small_config(unit="box", box=(4, 20, 20), working_size=size))
    whole = study.cache("pool").image(0)
    parts = [study.labels.image(row) for row in study.pool.rows_of_case[study.pool.cases[0].id]]
    assert sum(part[0].size for part in parts) == whole[0].size
    corner = parts[-1]
    z, y, x = corner.shape[1:]
    assert (corner == whole[:, -z:, -y:, -x:]).all()


def test_colour_pictures(patients):
    config = StudyConfig(
        images="../pictures/cases.csv",
        classes=("lesion",),
        mask_codes={255: 1},
        iterations=4,
        device="cpu",
        unit="slice",
    )
    study = play(Study.create(patients / "photographs", config), patients / "pictures" / "masks")
    trained = study.rounds[0].training["config"]
    assert (trained["channels"], trained["mirror"], trained["dimensions"]) == (3, True, 2)
    assert study.rounds[0].scores["lesion"]["hd95"] is None
    assert study.rounds[0].scores["lesion"]["dice"] is not None


def test_the_network_encoder_waits_for_a_segmenter_and_the_ledger_says_so(patients, small_config):
    study = Study.create(patients / "network", small_config(encoder="network"))
    first = play(study, patients / "patients" / "masks").rounds[0]
    assert first.details["used"]["embeddings"] == {"encoder": "intensity", "wanted": "network", "segmenter": None}
    second = study.query(2, "k_center")
    used = {"encoder": "network", "wanted": "network", "segmenter": first.segmenter.sha256}
    assert second.details["used"]["embeddings"] == used
