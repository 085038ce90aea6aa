"""Cases become samples; row i is sample i."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.data.pool import Case, build_pool
from nextmask.errors import DataError


def cases(*names: str) -> list[Case]:
    return [Case(name, (f"{name}.nii.gz",), patient=name[:2]) for name in names]


def test_slices_are_numbered_in_order_with_their_place():
    pool = build_pool(cases("p1a", "p2a"), [(3, 8, 8), (2, 8, 8)], "slice")
    assert [sample.id for sample in pool.samples] == [
        "p1a__z0000",
        "p1a__z0001",
        "p1a__z0002",
        "p2a__z0000",
        "p2a__z0001",
    ]
    assert pool.position.tolist() == pytest.approx([1 / 6, 0.5, 5 / 6, 0.25, 0.75])
    assert pool.row_of["p2a__z0001"] == 4
    assert pool.rows_of_case == {"p1a": [0, 1, 2], "p2a": [3, 4]}
    assert pool.case_of(4).id == "p2a"


def test_scans_of_one_patient_share_a_number():
    pool = build_pool(cases("p1a", "p2a", "p1b"), [(4, 4, 4)] * 3, "whole")
    assert pool.patient[0] == pool.patient[2] != pool.patient[1]


def test_a_picture_is_one_sample_even_where_slices_are_asked_for():
    assert [sample.region.shape for sample in build_pool(cases("p1"), [(40, 60)], "slice").samples] == [(40, 60)]


def test_boxes_cover_the_image_have_one_size_and_stay_inside():
    pool = build_pool(cases("p1"), [(10, 20, 7)], "box", (4, 8, 8))
    covered = np.zeros((10, 20, 7), int)
    for sample in pool.samples:
        assert sample.region.shape == (4, 8, 7)
        covered[sample.region.slices] += 1
    assert covered.min() == 1


def test_boxes_need_a_size():
    with pytest.raises(DataError, match="box"):
        build_pool(cases("p1"), [(10, 20, 7)], "box")


def test_two_cases_of_one_name_are_refused():
    with pytest.raises(DataError, match="'p1'"):
        build_pool(cases("p1", "p1"), [(4, 4, 4)] * 2, "whole")


def test_a_case_without_a_patient_is_its_own():
    assert Case("x", ("x.png",)).patient == "x"
