"""VAAL asks for what looks least like anything labeled."""

from __future__ import annotations

import numpy as np

from nextmask.selection import vaal


def test_takes_the_least_labeled_looking_unlabeled_samples_and_of_equals_the_lowest_row():
    unlabeledness = np.array([0.2, 0.9, 0.5, 0.99, 0.5, 0.1])
    labeled = np.array([False, False, False, True, False, False])
    query = vaal(unlabeledness, labeled, 3, rng=np.random.default_rng(0))
    assert query.rows.tolist() == [1, 2, 4]
    assert query.reasons[0] == "rank 1 of 5 by how little it looks like a labeled sample (0.9)"
    np.testing.assert_array_equal(query.numbers["unlabeledness"], [0.9, 0.5, 0.5])
