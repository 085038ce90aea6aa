"""Proxy masks: an organ told from its intensities, as far as that goes."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.data.proxy_masks import WINDOWS, Proxy, otsu, parse_proxy, proxy_mask
from nextmask.errors import DataError

BALL = np.sum(np.square(np.indices((12, 20, 20)) - np.array([6, 10, 10])[:, None, None, None]), 0) < 25


def image(inside, outside, noise=0.0, dtype=np.float32):
    drawn = np.where(BALL, inside, outside) + noise * np.random.default_rng(0).standard_normal(BALL.shape)
    return drawn.astype(dtype)[None]


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8])
def test_otsu_finds_what_is_bright_and_what_is_dark(dtype):
    ct = image(140, 60, 8, dtype)
    for name, wanted in (("otsu-bright", BALL), ("otsu-dark", ~BALL)):
        mask = proxy_mask(ct, parse_proxy(name))
        assert mask.dtype == np.uint8
        assert (mask == wanted).mean() > 0.99
    assert (proxy_mask(image(60, 140, 8), Proxy(bright=False)) == BALL).mean() > 0.99


def test_a_few_very_bright_voxels_do_not_move_the_threshold():
    bright = image(140, 60, 8)
    bright[0, 0, :2, :2] = 1e6
    mask = proxy_mask(bright, Proxy())
    assert (mask == BALL).mean() > 0.99


def test_a_window_is_of_hounsfield_units_as_they_are():
    """COLosSAL's transform thresholds after scaling to 0..1, where no voxel is within 100 and 150."""
    ct = np.array([[-1000, 0, 79, 80, 160, 161, 3000]], np.int16)
    assert proxy_mask(ct, parse_proxy("hu-liver")).tolist() == [0, 0, 0, 1, 1, 0, 0]
    assert proxy_mask(ct, parse_proxy("hu:-10.5:79")).tolist() == [0, 1, 1, 0, 0, 0, 0]


def test_the_window_is_of_the_first_channel_and_otsu_of_all():
    two = np.concatenate([image(120, 20), image(2000, 0, dtype=np.float32)])
    two[1, :6] = 0  # half of the ball shows in one channel only
    assert (proxy_mask(two, parse_proxy("hu-generic")) == BALL).all()
    mask = proxy_mask(two, Proxy())
    assert (mask[6:] == BALL[6:]).all()


@pytest.mark.parametrize("bright", [True, False])
def test_an_image_that_does_not_vary_has_no_foreground(bright):
    assert not proxy_mask(np.full((1, 8, 8), 7, np.int16), Proxy(bright=bright)).any()


def test_a_nearly_constant_image_is_told_by_its_few_voxels():
    nearly = np.zeros((1, 40, 40), np.float32)
    nearly[0, 3, 3:6] = 5
    assert proxy_mask(nearly, Proxy()).sum() == 3


def test_otsu_is_the_best_of_all_thresholds():
    rng = np.random.default_rng(0)
    levels = np.clip(np.concatenate([rng.normal(0.3, 0.1, 700), rng.normal(0.6, 0.05, 300)]), 0, 1)

    def between(threshold):
        low, high = levels[levels <= threshold], levels[levels > threshold]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    best = max(between(t) for t in np.linspace(0.2, 0.65, 800))
    assert between(otsu(levels)) == pytest.approx(best, rel=2e-3)
    assert otsu(np.array([0.1] * 5 + [0.9] * 5)) == pytest.approx(0.5, abs=0.01)
    assert otsu(np.full(9, 0.4)) is None


@pytest.mark.parametrize("name", ["otsu", "hu", "hu:100", "hu:150:100", "hu:a:b", "hu:1:2:3", "ct:1:2", "hu:nan:3", ""])
def test_another_rule_is_refused(name):
    with pytest.raises(DataError, match="no rule for proxy masks"):
        parse_proxy(name)


@pytest.mark.parametrize("name", ["otsu-bright", "otsu-dark", "hu:100:150", *WINDOWS])
def test_a_rule_is_known_by_its_own_name(name):
    assert parse_proxy(parse_proxy(name).name) == parse_proxy(name)
