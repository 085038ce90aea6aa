"""The cache: made once, checked against the content of the images, safe to lose."""

from __future__ import annotations

import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nextmask.data import cache as module
from nextmask.data.cache import Cache
from nextmask.data.pool import Case
from nextmask.data.preprocess import derive
from nextmask.data.scan import scan_case
from nextmask.errors import DataError


@pytest.fixture
def made(tmp_path):
    rng = np.random.default_rng(0)
    cases = []
    for number in range(3):
        path = tmp_path / f"scan{number}.nii.gz"
        nib.save(nib.Nifti1Image(rng.normal(size=(40, 32, 5)).astype(np.float32), np.diag([1.0, 1.0, 4.0, 1.0])), path)
        cases.append(Case(f"scan{number}", (str(path),)))
    return cases


def opened(folder: Path, cases: list[Case], limit: int = 16) -> Cache:
    scans = [scan_case(case, classes=1) for case in cases]
    return Cache(folder / "cache", cases, scans, derive(scans, planar=True, limit=limit), planar=True)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "images").glob("*"))


def test_an_image_is_a_read_only_map_of_its_working_shape(made, tmp_path):
    image = opened(tmp_path, made).image(1)
    assert isinstance(image, np.memmap)
    assert (image.shape, image.dtype) == ((1, 5, 13, 16), np.float16)
    with pytest.raises(ValueError, match="read-only"):
        image[:] = 0


def test_every_image_is_made_once_and_found_by_the_next(made, tmp_path, monkeypatch):
    opened(tmp_path, made).build()
    assert len(files(tmp_path)) == 3
    monkeypatch.setattr(module, "read_channels", None)
    seen = []
    opened(tmp_path, made).build(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_other_settings_are_other_files(made, tmp_path):
    opened(tmp_path, made).build()
    opened(tmp_path, made, limit=20).build()
    assert len(files(tmp_path)) == 6


def test_other_intensities_on_the_same_grid_are_other_files(made, tmp_path):
    scans = [scan_case(case, classes=1) for case in made]
    for window in ((-1.0, 1.0), (-2.0, 2.0)):
        Cache(tmp_path / "cache", made, scans, derive(scans, planar=True, limit=16, window=window), planar=True).build()
    assert len(files(tmp_path)) == 6


def test_cases_of_the_same_pixels_share_a_file(made, tmp_path):
    twin = Case("twin", made[0].images)
    opened(tmp_path, [*made, twin]).build()
    assert len(files(tmp_path)) == 3


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_a_damaged_file_is_made_anew(made, tmp_path, damage):
    cache = opened(tmp_path, made)
    whole = np.array(cache.image(0))
    path = tmp_path / "cache" / "images" / f"{cache.keys[0]}.npy"
    path.write_bytes(path.read_bytes()[:-5] if damage is None else damage)
    assert (cache.image(0) == whole).all()


def test_a_file_of_another_shape_is_made_anew(made, tmp_path):
    cache = opened(tmp_path, made)
    whole = np.array(cache.image(0))
    np.save(tmp_path / "cache" / "images" / f"{cache.keys[0]}.npy", whole[:, 1:])
    assert cache.image(0).shape == whole.shape


def test_an_image_that_is_no_longer_what_was_scanned_is_refused(made, tmp_path):
    cache = opened(tmp_path, made)
    other = nib.load(made[2].images[0])
    nib.save(nib.Nifti1Image(np.asarray(other.dataobj) * 2, other.affine), made[2].images[0])
    with pytest.raises(DataError, match="'scan2' changed"):
        cache.image(2)


def test_a_file_that_was_only_copied_is_still_the_same(made, tmp_path):
    cache = opened(tmp_path, made)
    path = Path(made[0].images[0])
    path.write_bytes(path.read_bytes())
    assert cache.image(0).shape[0] == 1


def test_masks_are_kept_by_content(made, tmp_path):
    cache = opened(tmp_path, made)
    mask = np.zeros((5, 32, 40), np.uint8)
    mask[:, 8:24, 8:24] = 1
    first = cache.mask(0, "a" * 32, lambda: mask)
    again = cache.mask(0, "a" * 32, lambda: pytest.fail("was not kept"))
    assert (first == again).all()
    assert first.shape == (5, 13, 16)
    assert (cache.mask(0, "b" * 32, lambda: 1 - mask) != first).any()


def test_old_leftovers_of_killed_processes_are_swept_young_ones_are_not(made, tmp_path):
    import os

    cache = opened(tmp_path, made)
    cache.image(0)
    old, young = (tmp_path / "cache" / "images" / f".{name}.npy.1-1.nextmask-tmp.npy" for name in ("old", "young"))
    for path in (old, young):
        path.touch()
    os.utime(old, (0, 0))
    cache.build()
    assert (old.exists(), young.exists()) == (False, True)


def test_no_two_threads_read_the_head_of_a_file_at_once(made, tmp_path, monkeypatch):
    reading, most, real = [], [], np.load

    def slow(*args, **given):
        reading.append(1)
        most.append(len(reading))
        time.sleep(0.02)
        reading.pop()
        return real(*args, **given)

    monkeypatch.setattr(module.np, "load", slow)
    opened(tmp_path, made).build(workers=3)
    assert max(most) == 1
    assert len(most) == 6
