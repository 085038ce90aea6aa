"""The map keeps near what is near, marks what was asked for, and stands odd pools."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nextmask.study.pool_map import MARGIN, MOST_POINTS, SIDE, map_of_pool
from nextmask.study.simulate import simulate
from nextmask.study.study import Study
from nextmask.study.summary import write_report


def drawn(embeddings, asked=None, **options):
    count = len(embeddings)
    names = tuple(f"sample {row}" for row in range(count))
    position = options.pop("position", np.arange(count) / count)
    return map_of_pool(
        np.asarray(embeddings, float), names, np.arange(count) // 5, position, asked or {}, encoder="x", **options
    )


def at(found):
    return {point.name: np.array([point.x, point.y]) for point in found.points}


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_two_heaps_stay_two_heaps(method):
    rng = np.random.default_rng(0)
    heaps = np.concatenate([rng.normal(size=(30, 8)), 20 + rng.normal(size=(30, 8))])
    places = np.array([at(drawn(heaps, method=method))[f"sample {row}"] for row in range(60)])
    apart = np.linalg.norm(places[:30].mean(0) - places[30:].mean(0))
    assert apart > 2 * max(places[:30].std(), places[30:].std())
    assert places.min() >= MARGIN - 0.1
    assert places.max() <= SIDE - MARGIN + 0.1


def test_both_axes_have_one_scale():
    grid = np.stack(np.meshgrid(np.arange(20.0), np.arange(5.0)), axis=-1).reshape(-1, 2)
    places = np.array(list(at(drawn(grid)).values()))
    spread = np.sort(np.ptp(places, axis=0))
    assert spread[1] / spread[0] == pytest.approx(19 / 4, rel=0.02)


def test_what_was_asked_for_is_always_there_and_on_top():
    asked = {3333: 2, 7: 1}
    found = drawn(np.random.default_rng(0).normal(size=(MOST_POINTS + 500, 3)), asked)
    assert MOST_POINTS <= len(found.points) <= MOST_POINTS + 2
    assert [(point.name, point.round) for point in found.points[-2:]] == [("sample 7", 1), ("sample 3333", 2)]
    assert found.samples == MOST_POINTS + 500


@pytest.mark.parametrize("embeddings", [np.ones((5, 4)), np.arange(6.0)[:, None], np.zeros((3, 1))])
def test_constant_and_one_dimensional_pools_have_a_map(embeddings):
    places = np.array(list(at(drawn(embeddings)).values()))
    assert np.isfinite(places).all()
    assert places.min() >= 0
    assert places.max() <= SIDE


def test_two_samples_have_none():
    assert drawn(np.zeros((2, 3))) is None


def test_the_report_shows_it(home):
    simulate(home, strategy="k_center", query_size=3, rounds=1, seed=0)
    for layout in ("pca", "tsne"):
        page = write_report(Study(home), layout=layout).read_text()
        assert page.count('class="asked"') == 2 * 3  # by patient, and by position
        assert "placed by encoder intensity" in page
        assert ("t-SNE" in page) == (layout == "tsne")
        assert re.search(r'<svg class="map"[^>]*aria-label="Map of the pool, coloured by patient"', page)
