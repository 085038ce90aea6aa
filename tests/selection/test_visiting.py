"""The walk through clusters: how many, in which order, and whose turn it is."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.selection.geometry.visiting import clusters_wanted, rounded, standing, visit


def _labeled(samples: int, *rows: int) -> np.ndarray:
    labeled = np.zeros(samples, dtype=bool)
    labeled[list(rows)] = True
    return labeled


@pytest.mark.parametrize(
    ("samples", "labeled", "n", "expected"),
    [(1000, 0, 12, 12), (1000, 5, 12, 17), (9000, 3000, 12, 500), (9000, 3000, 800, 800), (9, 5, 4, 9), (1, 0, 1, 1)],
)
def test_a_cold_pool_has_a_cluster_a_pick_and_labels_add_to_it(
    samples: int, labeled: int, n: int, expected: int
) -> None:
    assert clusters_wanted(_labeled(samples, *range(labeled)), n) == expected


def test_goes_by_fewest_labeled_then_largest_then_lowest_row() -> None:
    cluster = np.array([7, 7, 7, 7, 3, 3, 5, 5, 9])
    visits = visit(cluster, np.zeros(9), _labeled(9, 0), 8)
    #            clusters 3, 5, 9 hold nothing labeled; 3 and 5 are larger, 3 has the lower row; 7 comes last
    np.testing.assert_array_equal(visits.rows, [4, 6, 8, 1, 5, 7, 2, 3])
    np.testing.assert_array_equal(visits.size, [2, 2, 1, 4, 2, 2, 4, 4])
    np.testing.assert_array_equal(visits.labeled, [0, 0, 0, 1, 0, 0, 1, 1])
    np.testing.assert_array_equal(visits.turn, [1, 1, 1, 1, 2, 2, 2, 3])


def test_takes_the_highest_score_and_of_equals_the_lowest_row() -> None:
    score = np.array([0.1 + 0.2, 0.3, 0.2, 0.9])  # 0.30000000000000004 and 0.3 tie on paper
    np.testing.assert_array_equal(visit(np.zeros(4, int), score, _labeled(4), 4).rows, [3, 0, 1, 2])
    np.testing.assert_array_equal(visit(np.zeros(4, int), score[[1, 0, 2, 3]], _labeled(4), 4).rows, [3, 0, 1, 2])


def test_equals_the_walk_in_so_many_words() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        cluster, score = rng.integers(5, size=40), rng.integers(4, size=40) / 4
        labeled = rng.random(40) < rng.choice([0, 0.3, 0.9])
        n = int((~labeled).sum())
        if n:
            np.testing.assert_array_equal(visit(cluster, score, labeled, n).rows, _walk(cluster, score, labeled))


def _walk(cluster: np.ndarray, score: np.ndarray, labeled: np.ndarray) -> list[int]:
    members = {c: [i for i in range(len(cluster)) if cluster[i] == c] for c in set(cluster.tolist())}
    order = sorted(members, key=lambda c: (labeled[members[c]].sum(), -len(members[c]), members[c][0]))
    left = {c: sorted((i for i in members[c] if not labeled[i]), key=lambda i: (-score[i], i)) for c in order}
    rows = []
    while any(left.values()):
        rows += [left[c].pop(0) for c in order if left[c]]
    return rows


def test_standing_ranks_some_and_leaves_out_the_others() -> None:
    among = np.array([True, True, False, True, True])
    places = standing(np.array([0, 0, 0, 1, 1]), np.array([1.0, 2, 9, 5, 5]), among)
    np.testing.assert_array_equal(places, [1, 0, -1, 0, 1])


def test_rounding_keeps_ten_digits_of_any_number() -> None:
    assert rounded(np.array([0.0]))[0] == 0
    for value in (1e-12, -3.0, 1e9, np.inf):
        assert rounded(np.array([value]))[0] == pytest.approx(value, rel=1e-9)
    assert rounded(np.array([1e9]))[0] != rounded(np.array([1e9 - 1]))[0]
