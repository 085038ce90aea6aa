"""All the evidence that one image holds, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.selection import EVIDENCE
from nextmask.selection.measures import (
    class_uncertainty,
    contour_variance,
    dense_measures,
    entropy,
    image_uncertainty,
    predicted_foreground,
    residual,
    sample_scores,
    selective_scores,
)

SPACING = (4.0, 1.0, 1.0)


def _members(empty_slices: int = 2) -> list[np.ndarray]:
    """Three members (3, 6, 20, 24) that find two structures, each a little elsewhere, but not in the last slices."""
    rng = np.random.default_rng(0)
    _, y, x = np.mgrid[:6, :20, :24]
    members = []
    for _ in range(3):
        logits = np.zeros((3, 6, 20, 24))
        logits[1] = 6 - np.hypot(y - 8 - rng.random(), x - 8)
        logits[2] = 4 - np.hypot(y - 12, x - 16 - rng.random())
        logits[1:, 6 - empty_slices :] = -4
        p = np.exp(logits)
        members.append((p / p.sum(axis=0)).astype(np.float32))
    return members


def test_a_whole_image_is_one_sample() -> None:
    members = _members()
    scores = sample_scores(iter(members), spacing=SPACING)
    measured = dense_measures(members)
    mean = measured.probabilities
    around = predicted_foreground(mean, spacing=SPACING)
    assert set(scores) <= set(EVIDENCE)
    assert scores["uncertainty"] == pytest.approx(image_uncertainty(members, spacing=SPACING))
    bald = image_uncertainty(members, measure="mutual_information", spacing=SPACING)
    assert scores["mutual_information"] == pytest.approx(bald)
    np.testing.assert_allclose(scores["class_uncertainty"][0], class_uncertainty(mean, measured["entropy"], around))
    np.testing.assert_allclose(scores["residual"][0], residual(mean))
    np.testing.assert_allclose(scores["selective"][0], selective_scores(mean, measured["entropy"]))
    bare = predicted_foreground(mean, 0.0)
    assert scores["contour_variance"] == pytest.approx(contour_variance(measured["variance"], bare, SPACING))
    assert scores["foreground_share"] == pytest.approx(bare.mean())
    predicted = np.argmax(mean, axis=0)
    np.testing.assert_allclose(scores["class_share"][0], [(predicted == label).mean() for label in (1, 2)])


def test_slices_are_scored_by_what_is_predicted_in_them() -> None:
    members = _members()
    slices = np.array([(z, 0, 0, z + 1, 20, 24) for z in range(6)])
    scores = sample_scores(members, slices, SPACING)
    for name, values in scores.items():
        assert len(values) == 6
        assert values.ndim == len(EVIDENCE[name].axes)
        assert np.isfinite(values).all()
    mean = dense_measures(members).probabilities
    around = predicted_foreground(mean, spacing=SPACING)
    assert scores["uncertainty"][1] == pytest.approx(entropy(members)[1][around[1]].mean(), rel=1e-6)
    # Nothing is predicted in the last two: a share of 0, no contour, and the mean of the whole slice.
    assert scores["foreground_share"][4:].tolist() == [0, 0]
    assert scores["foreground_share"][:4].min() > 0
    assert sample_scores(members, slices, SPACING, reach=3.0)["contour_variance"][4:].tolist() == [0, 0]
    assert scores["uncertainty"][5] == pytest.approx(entropy(members)[5].mean(), rel=1e-6)


def test_another_measure_and_an_image_without_a_prediction() -> None:
    nothing = np.zeros((3, 4, 5, 6), np.float32)
    nothing[0] = 0.8
    nothing[1:] = 0.1
    scores = sample_scores([nothing, nothing], measure="margin")
    assert scores["uncertainty"] == pytest.approx(0.3, rel=1e-5)
    assert scores["contour_variance"] == scores["foreground_share"] == scores["mutual_information"] == 0
    assert all(np.isfinite(values).all() for values in scores.values())
    assert sample_scores(nothing, [(0, 0, 0, 4, 5, 6)])["uncertainty"].shape == (1,)


def test_selective_scores_of_two_classes_are_the_papers() -> None:
    p = np.random.default_rng(0).random((12, 13))
    both = np.stack([1 - p, p])
    values = entropy(both)
    wanted = values[p >= 0.2].mean(), values[np.abs(p - 0.5) <= 0.08].mean()
    np.testing.assert_allclose(selective_scores(both, values, target=0.2, boundary=0.08), wanted, rtol=1e-6)


def test_selective_scores_see_the_boundary_between_two_structures() -> None:
    p = np.array([[0.02, 0.02, 0.96], [0.49, 0.95, 0.02], [0.49, 0.03, 0.02]])
    target, boundary = selective_scores(p, np.array([1.0, 0.2, 0.7]))
    assert target == pytest.approx(0.6)
    assert boundary == pytest.approx(1.0)


def test_selective_scores_of_an_image_without_such_voxels_are_0() -> None:
    sure = np.stack([np.ones((4, 4)), np.zeros((4, 4))])
    assert selective_scores(sure, entropy(sure)).tolist() == [0, 0]
