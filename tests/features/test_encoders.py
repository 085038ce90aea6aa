"""Descriptors of one image, and what becomes of them over a pool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from nextmask.features.encoders import BINS, DIMS, intensity, principal_components, standardised, thumbnail


def _shape(kind: int, seed: int, size: int = 40) -> np.ndarray:
    """A noisy picture (1, size, size): 0 a bright disk, 1 the same disk dim, 2 a bright frame, 3 the disk aside."""
    rng = np.random.default_rng([kind, seed])
    y, x = np.mgrid[:size, :size] / size - 0.5 + rng.normal(scale=0.02, size=2)[:, None, None]
    where = [
        y**2 + x**2 < 0.06,
        y**2 + x**2 < 0.06,
        np.maximum(abs(y), abs(x)) > 0.4,
        (y - 0.2) ** 2 + (x - 0.2) ** 2 < 0.06,
    ]
    return (where[kind] * (0.5 if kind == 1 else 2.0) + rng.normal(scale=0.3, size=(size, size)))[None]


def test_length_depends_on_channels_and_axes_only() -> None:
    assert intensity(np.zeros((1, 5, 9))).shape == (BINS + 256,)
    assert intensity(np.zeros((3, 300, 211), dtype=np.float16)).shape == (3 * BINS + 256,)
    assert intensity(np.zeros((1, 3, 40, 50))).shape == (BINS + 512,)
    assert intensity(np.zeros((2, 1, 1, 1))).dtype == np.float32


def test_halves_have_the_same_weight_whatever_the_channels_and_the_size() -> None:
    for shape in [(1, 20, 20), (4, 33, 60), (2, 8, 30, 30)]:
        dark, bright = intensity(np.full(shape, -1.0)), intensity(np.full(shape, 1.0))
        by_histogram = np.linalg.norm((dark - bright)[: BINS * shape[0]])
        by_thumbnail = np.linalg.norm((dark - bright)[BINS * shape[0] :])
        assert by_histogram == pytest.approx(np.sqrt(2), rel=1e-6)
        assert by_thumbnail == pytest.approx(0.5 * 2, rel=1e-6)


@pytest.mark.parametrize("shape", [(16, 16), (64, 48), (17, 5), (8, 8, 8), (3, 40, 21)])
def test_thumbnail_averages_areas(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).normal(size=shape)
    small = thumbnail(picture)
    assert small.shape == ((16, 16) if len(shape) == 2 else (8, 8, 8))
    assert small.mean() == pytest.approx(picture.mean())


def test_thumbnail_of_a_multiple_is_the_mean_of_blocks() -> None:
    picture = np.random.default_rng(0).normal(size=(32, 64))
    np.testing.assert_allclose(thumbnail(picture), picture.reshape(16, 2, 16, 4).mean(axis=(1, 3)), atol=1e-12)


def test_thumbnail_of_a_picture_keeps_its_orientation() -> None:
    ramp = np.arange(20.0)[:, None] * np.ones((1, 30))
    assert (np.diff(thumbnail(ramp), axis=0) > 0).all()
    np.testing.assert_allclose(np.diff(thumbnail(ramp), axis=1), 0, atol=1e-9)


def test_brightness_and_shape_separate() -> None:
    kind = np.repeat(np.arange(4), 15)
    embeddings = principal_components(np.array([intensity(_shape(k, seed)) for seed, k in enumerate(kind)]))
    distances = np.linalg.norm(embeddings[:, None] - embeddings[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (kind[distances.argmin(axis=1)] == kind).all()
    same = kind[:, None] == kind[None]
    assert distances[~same].min() > 1.5 * np.median(distances[same & np.isfinite(distances)])


def test_principal_components_keep_distances_and_sort_by_spread() -> None:
    rng = np.random.default_rng(0)
    descriptors = (rng.normal(size=(5000, 6)) * [1, 9, 3, 0.1, 5, 2] + 1000).astype(np.float32)
    embeddings = principal_components(descriptors)
    assert (np.diff(embeddings.std(axis=0)) < 0).all()
    np.testing.assert_allclose(embeddings.mean(axis=0), 0, atol=1e-3)
    there = np.linalg.norm(np.diff(descriptors.astype(np.float64), axis=0), axis=1)
    np.testing.assert_allclose(np.linalg.norm(np.diff(embeddings, axis=0), axis=1), there, rtol=1e-4)


def test_principal_components_are_the_same_on_any_number_of_threads() -> None:
    # Large enough for a linear algebra library to share out the sums, whose last digits then differ.
    descriptors = np.random.default_rng(0).normal(size=(4096, 576)).astype(np.float32)
    with threadpool_limits(4):
        many = principal_components(descriptors)
    with threadpool_limits(1):
        np.testing.assert_array_equal(principal_components(descriptors), many)
    assert many.shape == (4096, DIMS)


@pytest.mark.parametrize("finish", [principal_components, standardised])
def test_one_sample_and_constant_pools_stay_finite(finish: Callable[[np.ndarray], np.ndarray]) -> None:
    for samples in (1, 2, 30):
        embeddings = finish(np.full((samples, 320), 0.1, dtype=np.float32))
        assert len(embeddings) == samples
        np.testing.assert_allclose(embeddings, 0, atol=1e-6)


def test_standardised_columns() -> None:
    descriptors = np.random.default_rng(0).normal(size=(50, 3)) * [1, 1000, 0] + [5, -7, 3]
    embeddings = standardised(descriptors.astype(np.float32))
    np.testing.assert_allclose(embeddings.std(axis=0), [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(embeddings.mean(axis=0), 0, atol=1e-5)


def test_neighbouring_slices_of_real_hearts_lie_near(shared_data: Callable[[str], Path]) -> None:
    volumes = sorted(shared_data("acdc/images").glob("*_frame01.nii.gz"))[:20]
    descriptors, volume_of = [], []
    for number, path in enumerate(volumes):
        voxels = np.asarray(nibabel.load(path).dataobj, dtype=np.float32).T
        voxels = (voxels - voxels.mean()) / voxels.std()
        descriptors += [intensity(picture[None]) for picture in voxels]
        volume_of += [number] * len(voxels)
    embeddings, volume = principal_components(np.array(descriptors)), np.array(volume_of)
    neighbours = np.linalg.norm(np.diff(embeddings, axis=0), axis=1)[np.diff(volume) == 0]
    rng = np.random.default_rng(0)
    a, b = rng.integers(len(volume), size=(2, 1000))
    strangers = np.linalg.norm(embeddings[a] - embeddings[b], axis=1)[volume[a] != volume[b]]
    assert neighbours.mean() < 0.5 * strangers.mean()
