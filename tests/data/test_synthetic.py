"""Drawn patients: the same from the same seed, varied, consistent, and no toy."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from nextmask.data import synthetic
from nextmask.data.pool import IGNORE
from nextmask.data.synthetic import (
    CLASSES,
    VARIANTS,
    SyntheticPatient,
    SyntheticScan,
    draw_patient,
    write_patients,
)
from nextmask.data.synthetic_pictures import draw_picture, write_pictures
from nextmask.errors import DataError

LABELS = range(1, len(CLASSES) + 1)


@cache
def patients() -> tuple[SyntheticPatient, ...]:
    return tuple(draw_patient(1, number) for number in range(12))


def scans() -> list[SyntheticScan]:
    return [scan for patient in patients() for scan in patient.phases]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_types_and_shapes() -> None:
    for scan in scans():
        assert (scan.image.dtype, scan.mask.dtype, scan.scribble.dtype) == (np.int16, np.uint8, np.uint8)
        assert scan.image.shape == scan.mask.shape == scan.scribble.shape == (12, 96, 96)
        assert set(np.unique(scan.mask)) <= {0, *LABELS}
        assert scan.image.min() >= 0
        assert scan.image.std() > 20


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    shape = (8, 48, 48)
    first = write_patients(tmp_path / "a", 3, seed=4, shape=shape)
    again = write_patients(tmp_path / "b", 3, seed=4, shape=shape)
    other = write_patients(tmp_path / "c", 3, seed=5, shape=shape)
    assert digest(first.parent) == digest(again.parent)
    assert digest(first.parent) != digest(other.parent)


def test_a_patient_does_not_depend_on_how_many_are_drawn(tmp_path: Path) -> None:
    shape = (8, 48, 48)
    few = digest(write_patients(tmp_path / "a", 1, shape=shape).parent)
    more = digest(write_patients(tmp_path / "b", 2, shape=shape).parent)
    assert {name: value for name, value in more.items() if name in few and name != "cases.csv"} == {
        name: value for name, value in few.items() if name != "cases.csv"
    }


def test_seeds_may_be_sequences() -> None:
    one = draw_patient([3, 1], 0, shape=(8, 48, 48)).phases[0]
    assert np.array_equal(one.image, draw_patient([3, 1], 0, shape=(8, 48, 48)).phases[0].image)
    assert not np.array_equal(one.image, draw_patient([3, 2], 0, shape=(8, 48, 48)).phases[0].image)


def test_patients_differ() -> None:
    relaxed = [patient.phases[0] for patient in patients()]
    for a, b in pairwise(relaxed):
        assert dice(a.mask > 0, b.mask > 0) < 0.95
    assert len({scan.affine.tobytes() for scan in relaxed}) == len(relaxed)
    assert len({patient.scanner for patient in patients()}) >= 2


def test_every_class_occurs_where_the_variant_has_it() -> None:
    for patient in patients():
        for scan in patient.phases:
            expected = {1, 2} if patient.variant == "no lobe" else {1, 2, 3}
            assert set(np.unique(scan.mask)) - {0} == expected


def test_both_ends_are_empty_and_the_middle_is_not() -> None:
    for scan in scans():
        annotated = scan.mask.any(axis=(1, 2))
        assert not annotated[0]
        assert not annotated[-1]
        assert annotated[4:8].all()


def test_lowest_annotated_slice_is_wall_only() -> None:
    lowest = [scan.mask[scan.mask.any(axis=(1, 2))][0] for scan in scans()]
    assert np.mean([set(np.unique(slice_)) == {0, 2} for slice_ in lowest]) > 0.5


def test_wall_encloses_the_chamber_in_the_middle() -> None:
    for scan in scans():
        chamber = scan.mask[5] == 1
        y, x = np.nonzero(chamber)
        around = scan.mask[5, y.min() - 1 : y.max() + 2, x.min() - 1 : x.max() + 2]
        edge = np.concatenate([around[0], around[-1], around[:, 0], around[:, -1]])
        assert 1 not in edge
        assert 2 in edge


def test_phases_differ_by_contraction() -> None:
    for patient in patients():
        relaxed, contracted = patient.phases
        assert (relaxed.phase, contracted.phase) == ("ED", "ES")
        assert np.count_nonzero(contracted.mask == 1) < 0.8 * np.count_nonzero(relaxed.mask == 1)
        assert np.array_equal(relaxed.affine, contracted.affine)


def test_scribbles_agree_with_masks_and_are_thin() -> None:
    for scan in scans():
        drawn = scan.scribble != IGNORE
        assert np.array_equal(scan.scribble[drawn], scan.mask[drawn])
        assert drawn.mean() < 0.04
        for mask, scribble in zip(scan.mask, scan.scribble, strict=True):
            assert set(np.unique(scribble)) - {IGNORE} == set(np.unique(mask))


@pytest.mark.parametrize("label", LABELS)
def test_the_best_brightness_range_does_not_segment(label: int) -> None:
    scores = []
    for patient in patients():
        scan = patient.phases[0]
        region = scan.mask == label
        if region.any():
            values = scan.image[region]
            ends = [np.quantile(values, [a, 1 - b]) for a in (0, 0.05, 0.15, 0.3) for b in (0, 0.05, 0.15, 0.3)]
            scores.append(max(dice((scan.image >= low) & (scan.image <= high), region) for low, high in ends))
    assert np.mean(scores) < 0.55


def test_variants_occur_at_about_their_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    # 400 patients with nothing painted: the variant is drawn before the anatomy is.
    blank = (np.zeros((6, 32, 32)), np.zeros((6, 32, 32), np.uint8))
    monkeypatch.setattr(synthetic, "_paint", lambda *_: blank)
    monkeypatch.setattr(synthetic, "_parts", lambda *_: [])
    monkeypatch.setattr(synthetic, "_acquire", lambda *_: blank[0])
    counts = Counter(draw_patient(2, number, shape=(6, 32, 32)).variant for number in range(400))
    assert set(counts) == set(VARIANTS)
    assert 0.09 < 1 - counts["usual"] / 400 < 0.18


@cache
def of_variant(variant: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image and mask of a patient of ``variant``, and the mask of the same patient without it."""
    rng, twin = np.random.default_rng(8), np.random.default_rng(8)
    spacing, grid = (8.0, 1.5, 1.5), synthetic._grid((12, 96, 96), (8.0, 1.5, 1.5))
    special = synthetic._draw_anatomy(rng, variant, 12)
    usual = synthetic._draw_anatomy(twin, "usual", 12)
    image, mask = synthetic._paint(synthetic._parts(special, grid), 1, spacing)
    return image, mask, synthetic._paint(synthetic._parts(usual, grid), 1, spacing)[1]


def test_mirrored_lies_on_the_other_side() -> None:
    _, mask, usual = of_variant("mirrored")
    assert np.array_equal(mask, usual[..., ::-1])


def test_lobe_is_missing_or_enlarged() -> None:
    assert not (of_variant("no lobe")[1] == 3).any()
    _, mask, usual = of_variant("large lobe")
    assert np.count_nonzero(mask == 3) > 1.8 * np.count_nonzero(usual == 3)


def test_lesion_is_bright_and_still_wall() -> None:
    image, mask, usual = of_variant("bright lesion")
    assert np.array_equal(mask, usual)
    wall, chamber = image[mask == 2], image[mask == 1]
    assert 0.03 < np.mean(wall > np.median(chamber) * 0.9) < 0.4


def test_geometry_is_written_and_agrees_between_readers(tmp_path: Path) -> None:
    table = write_patients(tmp_path, 2, seed=1, shape=(8, 48, 40))
    for row in rows_of(table):
        patient = draw_patient(1, int(row["patient"].removeprefix("patient")), shape=(8, 48, 40))
        scan = {scan.id: scan for scan in patient.phases}[row["case"]]
        for kind, array in (("image", scan.image), ("mask", scan.mask), ("scribble", scan.scribble)):
            stored = nibabel.load(tmp_path / row[kind])
            assert np.array_equal(np.asarray(stored.dataobj), array.transpose(2, 1, 0))
            assert np.allclose(stored.affine, scan.affine, atol=1e-4)
            other = SimpleITK.ReadImage(str(tmp_path / row[kind]))
            assert np.array_equal(SimpleITK.GetArrayFromImage(other), array)
            assert np.allclose(other.GetSpacing()[::-1], scan.spacing, atol=1e-4)


def test_some_patients_are_oblique_and_slices_are_thick() -> None:
    axial = [np.count_nonzero(np.round(patient.phases[0].affine[:3, :3], 6)) == 3 for patient in patients()]
    assert 0 < sum(axial) < len(axial)
    for scan in scans():
        assert scan.spacing[0] > 4 * scan.spacing[1]
        assert np.allclose(np.linalg.norm(scan.affine[:3, :3], axis=0)[::-1], scan.spacing)


def test_a_finer_grid_shows_the_same_anatomy() -> None:
    coarse, fine = (draw_patient(0, 1, shape=(12, size, size)).phases[0] for size in (64, 128))
    millilitres = [np.count_nonzero(scan.mask == 1) * np.prod(scan.spacing) / 1000 for scan in (coarse, fine)]
    assert millilitres[0] == pytest.approx(millilitres[1], rel=0.03)
    assert 64 * coarse.spacing[1] == pytest.approx(128 * fine.spacing[1], rel=1e-3)


def test_table_names_what_was_written(tmp_path: Path) -> None:
    rows = rows_of(write_patients(tmp_path, 2, shape=(8, 48, 48)))
    assert [row["case"] for row in rows] == ["patient000_ED", "patient000_ES", "patient001_ED", "patient001_ES"]
    assert list(rows[0]) == ["case", "image", "mask", "scribble", "patient", "group", "phase", "scanner"]
    assert all((tmp_path / row[kind]).exists() for row in rows for kind in ("image", "mask", "scribble"))
    assert {row["group"] for row in rows} <= set(VARIANTS)
    single = rows_of(write_patients(tmp_path / "one", 2, shape=(8, 48, 48), phases=1))
    assert [row["phase"] for row in single] == ["ED", "ED"]


def test_impossible_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\(3, 96, 96\)"):
        draw_patient(0, 0, shape=(3, 96, 96))
    with pytest.raises(DataError, match="phases=3"):
        write_patients(tmp_path, 2, phases=3)
    with pytest.raises(DataError, match="count=0"):
        write_pictures(tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_pictures_are_drawn_and_written(tmp_path: Path) -> None:
    rows = rows_of(write_pictures(tmp_path, 6, seed=3, size=96))
    for number, row in enumerate(rows):
        image, mask = draw_picture(3, number, 96)
        assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((3, 96, 96), np.uint8, (96, 96), np.uint8)
        assert np.array_equal(np.asarray(Image.open(tmp_path / row["image"])), image.transpose(1, 2, 0))
        assert np.array_equal(np.asarray(Image.open(tmp_path / row["mask"])), mask)
        assert 0.005 < mask.mean() < 0.6
        assert image[:, mask == 1].mean() < image[:, mask == 0].mean()
    assert len({draw_picture(3, number, 32)[0].tobytes() for number in range(6)}) == 6
