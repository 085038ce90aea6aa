"""The region of interest that encoders see, which no annotation tells."""

from __future__ import annotations

import csv

import nibabel as nib
import numpy as np
import pytest

from nextmask.data.proxy_masks import parse_proxy
from nextmask.errors import StudyError
from nextmask.features.encoders import intensity
from nextmask.study.oracle import Truth
from nextmask.study.region import MARGIN, box_of, crop_to, focus
from nextmask.study.rounds import StoredFile
from nextmask.study.simulate import simulate
from nextmask.study.study import Study


def make(folder, made_study, small_config, **changes):
    images = str(made_study / "patients" / "cases.csv")
    return Study.create(folder / "study", small_config(**{"images": images, **changes}))


@pytest.fixture(scope="module")
def balls(tmp_path_factory):
    """Images with one bright ball each, elsewhere in each, and no mask of anybody."""
    folder = tmp_path_factory.mktemp("balls")
    for k in range(4):
        distance = np.square(np.indices((6, 32, 32)) - np.array([3, 12 + k, 18 - 2 * k])[:, None, None, None]).sum(
            axis=0
        )
        noise = np.random.default_rng(k).normal(0, 5, distance.shape)
        write_nifti(np.where(distance < 20, 200, 50) + noise, folder / f"p{k}.nii.gz")
    return folder


def write_nifti(array, path):
    nib.save(nib.Nifti1Image(array.T.astype(np.float32), np.eye(4)), path)


def seen(study, segmenter=None, load=None):
    """Embed the pool, and return what the encoder saw of each sample besides."""
    embedder, images = study._embedder, []
    from nextmask.study import embeddings

    def embed_pool(name, load, count, *rest, **more):
        images.extend(np.asarray(load(row)) for row in range(count))
        return original(name, load, count, *rest, **more)

    original, embeddings.embed_pool = embeddings.embed_pool, embed_pool
    try:
        array, used = embedder.embed(study.config.encoder, segmenter, load or study.load_segmenter)
    finally:
        embeddings.embed_pool = original
    return images, array, used


def test_an_image_is_cropped_to_the_box_of_a_mask_and_a_margin():
    mask = np.zeros((30, 40), bool)
    mask[10:14, 2:30] = True
    image = np.random.default_rng(0).random((2, 30, 40))
    np.testing.assert_array_equal(crop_to(image, mask, 3), image[:, 7:17, :33])
    np.testing.assert_array_equal(crop_to(image, mask), image[:, 10 - MARGIN : 14 + MARGIN, : 30 + MARGIN])
    np.testing.assert_array_equal(crop_to(image, np.zeros_like(mask)), image)


def test_specks_do_not_widen_a_box_and_two_kidneys_share_one():
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 4:10] = 1
    mask[10:20, 20:24] = 2
    mask[29, 39] = 1
    assert box_of(mask, 0) == (slice(10, 20), slice(4, 24))


def test_the_proxy_mask_tells_the_region(balls, tmp_path, small_config):
    study = Study.create(tmp_path, small_config(images=str(balls), region="proxy", proxy="otsu-bright"))
    images, array, used = seen(study)
    assert used["region"] == {"wanted": "proxy", "region": "proxy", "proxy": "otsu-bright", "margin": MARGIN}
    for row in (0, 8, 13):
        mask = study.labels.proxy(study.pool.samples[row].case, parse_proxy("otsu-bright"))
        np.testing.assert_array_equal(images[row], study.labels.image(row)[(slice(None), *box_of(mask)[-2:])])
        assert max(images[row].shape) == 9 + 2 * MARGIN
    assert len(array) == len(study.pool)


def test_embeddings_of_a_region_are_not_taken_for_those_of_the_whole(balls, tmp_path, small_config, monkeypatch):
    study = Study.create(tmp_path, small_config(images=str(balls), proxy="otsu-bright"))
    found = {}
    for region in ("whole", "proxy", "whole"):
        monkeypatch.setattr(study, "config", study.config.model_copy(update={"region": region}))
        made = study.embed()
        assert ("region" in made.used) == (region != "whole")
        found.setdefault(region, []).append(made.array)
    np.testing.assert_array_equal(*found["whole"])
    assert not np.allclose(found["whole"][0], found["proxy"][0])


class Bright:
    """Says foreground wherever a voxel is bright; made of no training."""

    def predict(self, image):
        bright = (image[:1] > 2).astype(np.float32)
        return np.concatenate([1 - bright, bright])


def test_the_last_segmenter_tells_the_region(balls, tmp_path, small_config):
    study = Study.create(tmp_path, small_config(images=str(balls), region="predicted", proxy="otsu-dark"))
    images, _, used = seen(study, StoredFile("segmenter.pt", "abc"), lambda _: Bright())
    assert used["region"] == {"wanted": "predicted", "region": "predicted", "segmenter": "abc", "margin": MARGIN}
    for row in (0, 5, 11):
        bright = np.asarray(study.labels.cache.image(study.pool.samples[row].case))[0] > 2
        np.testing.assert_array_equal(images[row], study.labels.image(row)[(slice(None), *box_of(bright)[-2:])])
        assert max(images[row].shape) == 9 + 2 * MARGIN


def test_until_there_is_a_segmenter_the_whole_is_seen(made_study, tmp_path, small_config):
    study = make(tmp_path, made_study, small_config, region="predicted")
    assert study.query(5, "typiclust").details["used"]["embeddings"]["region"] == {
        "wanted": "predicted",
        "region": "whole",
    }
    study.annotate(made_study / "patients" / "masks")
    study.train()
    region = study.query(5, "typiclust").details["used"]["embeddings"]["region"]
    assert region["segmenter"] == study.rounds[0].segmenter.sha256


def test_a_predicted_region_is_that_of_the_proxy_first(made_study, tmp_path, small_config):
    study = make(tmp_path, made_study, small_config, region="predicted", proxy="otsu-bright")
    assert study.embed().used["region"]["region"] == "proxy"


def test_no_mask_of_anybody_is_opened(made_study, tmp_path, small_config, monkeypatch):
    study = make(tmp_path, made_study, small_config, region="proxy", proxy="otsu-bright")

    def leak(*_):
        raise AssertionError("the truth was looked at")

    monkeypatch.setattr("nextmask.study.labels.read_mask", leak)
    monkeypatch.setattr("nextmask.study.annotations.read_mask", leak)
    assert study.embed().array.any()


def test_a_user_s_box_tells_the_region(made_study, tmp_path, small_config):
    study = boxed(made_study, tmp_path, small_config, "1 8 4 5 24 30", unit="whole")
    images, _, used = seen(study)
    assert used["region"] == {"wanted": "column:roi", "region": "column:roi"}
    part = study.labels.cache.placements[0].placed((1, 8, 4), (5, 24, 30))
    np.testing.assert_array_equal(images[0], study.labels.image(0)[(slice(None), *part)])
    assert intensity(images[0]).shape == intensity(study.labels.image(0)).shape


@pytest.mark.parametrize("text", ["", "1 2 3", "1 8 4 5 24 99", "5 8 4 1 24 30", "-1 8 4 5 24 30"])
def test_a_box_that_is_none_is_refused_with_its_case(made_study, tmp_path, small_config, text):
    study = boxed(made_study, tmp_path, small_config, text)
    with pytest.raises(StudyError, match=r"the column 'roi' of case(.|\n)*6 whole numbers"):
        study.embed()


def boxed(made_study, folder, small_config, text, **changes):
    rows = list(csv.DictReader((made_study / "patients" / "cases.csv").read_text().splitlines()))
    table = folder / "cases.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "roi"])
        writer.writeheader()
        for row in rows:
            paths = {
                name: str(made_study / "patients" / row[name]) for name in row if name in ("image", "mask", "scribble")
            }
            writer.writerow({**row, **paths, "roi": text})
    return make(folder, made_study, small_config, images=str(table), region="column:roi", **changes)


def test_boxes_are_cropped_to_their_part_of_the_region(made_study, tmp_path, small_config):
    changes = {"unit": "box", "box": (3, 16, 16), "working_size": 32}
    study = boxed(made_study, tmp_path, small_config, "0 4 20 5 12 30", **changes)
    images, _, _ = seen(study)
    rows = study.pool.rows_of_case[study.pool.cases[0].id]
    inside = np.zeros(study.labels.cache.placements[0].working, bool)
    inside[study.labels.cache.placements[0].placed((0, 4, 20), (5, 12, 30))] = True
    shapes = set()
    for row in rows:
        within = inside[study.labels.region(row)]
        whole = study.labels.image(row)
        np.testing.assert_array_equal(images[row], crop_to(whole, within, 0))
        shapes.add((images[row].shape, within.any()))
    assert len(shapes) > 2


def test_the_truth_tells_the_region_in_a_simulation(made_study, tmp_path, small_config):
    study = make(tmp_path, made_study, small_config)
    truth = Truth(study.config.mask_codes, len(study.config.classes))
    part = focus("oracle", study.labels, None, None, study.load_segmenter, truth)
    for row in (0, 8, 13):
        case = study.pool.samples[row].case
        where, mask = study.labels.cache.placements[case], truth.mask(study.pool.cases[case])
        drawn = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        box = where.placed([found[0] for found in drawn], [found[-1] + 1 for found in drawn])
        around = tuple(slice(max(s.start - MARGIN, 0), s.stop + MARGIN) for s in box)
        np.testing.assert_array_equal(part.image(row), study.labels.image(row)[(slice(None), *around[-2:])])
        assert part.image(row).size < study.labels.image(row).size
    assert part.in_short == {"wanted": "oracle", "region": "oracle", "margin": MARGIN}


def test_a_simulation_may_look_at_the_truth_for_its_region_and_a_study_may_not(made_study, tmp_path, small_config):
    study = make(tmp_path, made_study, small_config)
    played = simulate(study.folder, strategy="k_center", query_size=2, rounds=1, settings={"region": "oracle"})
    used = played.rounds[0].details["used"]["embeddings"]
    assert used["region"] == {"wanted": "oracle", "region": "oracle", "margin": MARGIN}
    (tmp_path / "real").mkdir()
    with pytest.raises(StudyError, match="this is no simulation"):
        make(tmp_path / "real", made_study, small_config, region="oracle").embed()


def test_a_region_by_proxy_needs_one(made_study, tmp_path, small_config):
    with pytest.raises(StudyError, match="no proxy is set"):
        make(tmp_path, made_study, small_config, region="proxy").embed()


@pytest.mark.parametrize("region", ["truth", "column:", ""])
def test_there_are_no_other_regions(small_config, region):
    with pytest.raises(ValueError, match="region"):
        small_config(region=region)
