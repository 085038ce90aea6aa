"""Pool and test never share a patient, nor the same pixels under two names."""

from __future__ import annotations

from collections import Counter

import pytest

from nextmask.data.pool import Case
from nextmask.data.scan import Problem, Scan, scan_case
from nextmask.data.splits import make_split, read_split, units_of, write_split
from nextmask.data.table import read_table
from nextmask.errors import DataError


def case(
    name: str, patient: str = "", group: str = "", split: str = "", mask: str | None = None, **columns: str
) -> Case:
    return Case(name, (f"{name}.nii.gz",), mask, None, patient, group, split, columns)


def patients(*groups: int) -> list[Case]:
    """Three cases a patient, so many patients a group."""
    return [
        case(f"g{group}p{number:02d}_{frame}", f"g{group}p{number:02d}", f"g{group}")
        for group, size in enumerate(groups)
        for number in range(size)
        for frame in range(3)
    ]


def patients_for_testing(cases: list[Case], split: dict[str, str]) -> set[str]:
    return {case.patient for case in cases if split[case.id] == "test"}


def test_patients_stay_whole_and_groups_in_proportion():
    cases = patients(20, 10, 5)
    split = make_split(cases, test_fraction=0.2, seed=1)
    tested = patients_for_testing(cases, split)
    assert all(split[case.id] == ("test" if case.patient in tested else "pool") for case in cases)
    assert Counter(patient[:2] for patient in tested) == {"g0": 4, "g1": 2, "g2": 1}


def test_remainders_go_to_the_largest():
    cases = patients(7, 2, 1)
    tested = patients_for_testing(cases, make_split(cases, test_fraction=0.3, seed=0))
    assert Counter(patient[:2] for patient in tested) == {"g0": 2, "g1": 1}


def test_the_same_seed_gives_the_same_split_and_another_another_one():
    cases = patients(12, 12)
    assert make_split(cases, seed=3) == make_split(cases, seed=3) == make_split(list(reversed(cases)), seed=3)
    assert len({tuple(sorted(make_split(cases, seed=seed).items())) for seed in range(5)}) > 1


def test_numbers_are_not_consecutive():
    cases = patients(100)
    runs = []
    for seed in range(20):
        tested = sorted(int(patient[3:]) for patient in patients_for_testing(cases, make_split(cases, seed=seed)))
        runs.append(tested[-1] - tested[0] + 1 == len(tested))
    assert not any(runs)


def test_each_side_gets_a_unit_whatever_the_fraction():
    for fraction in (0.01, 0.99):
        split = make_split(patients(3), test_fraction=fraction, seed=0)
        assert set(split.values()) == {"pool", "test"}
    with pytest.raises(DataError, match="1 unit to divide"):
        make_split(patients(1), seed=0)
    with pytest.raises(DataError, match="fraction is 1"):
        make_split(patients(3), test_fraction=1, seed=0)


def test_a_fraction_of_nothing_leaves_everything_in_the_pool():
    assert set(make_split(patients(1), test_fraction=0, seed=0).values()) == {"pool"}


def test_patients_with_the_same_pixels_are_one_unit():
    cases = patients(6)
    scans = [Scan(one.id, "", pixels="same" if one.id in ("g0p01_0", "g0p04_2") else one.id) for one in cases]
    units = units_of(cases, scans)
    assert units["g0p01_1"] == units["g0p04_0"] == "g0p01+g0p04"
    assert len(set(units.values())) == 5
    for seed in range(10):
        split = make_split(cases, scans, test_fraction=0.5, seed=seed)
        assert split["g0p01_0"] == split["g0p04_2"]


def test_a_column_joins_patients_and_never_tears_one():
    cases = [
        case("a1", "a", site="x"), case("a2", "a", site="y"), case("b", "b", site="y"), case("c", "c", site="z"),
        case("d", "d", site=""),
    ]  # fmt: skip
    assert units_of(cases, by="site") == {"a1": "x+y", "a2": "x+y", "b": "x+y", "c": "z", "d": "d"}
    with pytest.raises(DataError, match=r"no column 'city'.*site"):
        make_split(cases, by="city", seed=0)


def test_only_patients_with_all_masks_are_tested_on():
    cases = [case(f"p{n}_{f}", f"p{n}", mask="m" if n < 3 or f == 0 else None) for n in range(6) for f in range(2)]
    spoiled = Problem("error", "mask-grid", "p1_0", "", "", "mask")
    scans = [Scan(one.id, "", problems=(spoiled,) if one.id == "p1_0" else ()) for one in cases]
    for seed in range(5):
        assert patients_for_testing(cases, make_split(cases, scans, test_fraction=0.5, seed=seed)) == {"p0", "p2"}
    with pytest.raises(DataError, match="no patient has a usable one"):
        make_split([one for one in cases if one.patient > "p2"], seed=0)


def test_the_split_of_the_table_is_kept():
    cases = [case("a", split="pool"), case("b", split="test"), case("c", split="pool")]
    assert make_split(cases, seed=0) == {"a": "pool", "b": "test", "c": "pool"}
    with pytest.raises(DataError, match="2 of 3 cases, but not for c"):
        make_split([*cases[:2], case("c")], seed=0)
    assert set(make_split([cases[0], cases[2]], seed=0).values()) == {"pool"}
    with pytest.raises(DataError, match="all 1 cases on the test side"):
        make_split([cases[1]], seed=0)


def test_a_patient_or_a_copy_on_two_sides_of_the_tables_split_is_refused():
    cases = [case("a1", "a", split="pool"), case("a2", "a", split="test"), case("b", "b", split="pool")]
    with pytest.raises(DataError, match=r"Patient a lies on both sides.*a1 \(pool\), a2 \(test\)"):
        make_split(cases, seed=0)
    cases = [case("a", split="pool"), case("b", split="test")]
    with pytest.raises(DataError, match=r"Unit a\+b lies on both sides"):
        make_split(cases, [Scan("a", "", pixels="x"), Scan("b", "", pixels="x")], seed=0)


def test_a_split_comes_back_from_its_file(tmp_path):
    cases = patients(4, 3)
    split = make_split(cases, seed=0)
    write_split(tmp_path / "split.csv", cases, split)
    assert read_split(tmp_path / "split.csv", cases) == split
    assert read_split(tmp_path / "split.csv", cases[1:]) == {one.id: split[one.id] for one in cases[1:]}
    lines = (tmp_path / "split.csv").read_text().splitlines()
    assert lines[0] == "case,patient,unit,group,split"
    assert lines[1] == f"g0p00_0,g0p00,g0p00,g0,{split['g0p00_0']}"


def test_a_file_that_does_not_fit_is_refused(tmp_path):
    cases, path = patients(4), tmp_path / "split.csv"
    with pytest.raises(DataError, match="not there"):
        read_split(path, cases)
    write_split(path, cases, make_split(cases, seed=0))
    with pytest.raises(DataError, match="1 of 13 cases, first new"):
        read_split(path, [*cases, case("new")])
    text = path.read_text()
    path.write_text(text.replace(",pool", ",val"))
    with pytest.raises(DataError, match="side 'val'"):
        read_split(path, cases)
    path.write_text(text.replace(",pool", ",test", 1))
    with pytest.raises(DataError, match="both sides"):
        read_split(path, cases)
    path.write_text("name,side\na,pool\n")
    with pytest.raises(DataError, match="is no split"):
        read_split(path, cases)


def test_the_one_real_exam_read_twice_stays_on_one_side(shared_data):
    cases = [one for one in read_table(shared_data("acdc/cases.csv")).cases if one.group == "NOR"]
    scans = [scan_case(one, 3, None, {4: 255}) for one in cases]
    assert "patient074+patient076" in units_of(cases, scans).values()
    for seed in range(20):
        split = make_split(cases, scans, test_fraction=0.4, seed=seed)
        assert split["patient074_frame01"] == split["patient076_frame01"]


def test_every_real_disease_is_tested_on(shared_data):
    cases = read_table(shared_data("acdc/cases.csv")).cases
    split = make_split(cases, seed=0)
    assert {one.group for one in cases if split[one.id] == "test"} == {"DCM", "HCM", "MINF", "NOR", "RV"}


def test_real_scans_of_one_patient_stay_on_one_side(shared_data):
    cases = read_table(shared_data("la/cases.csv"), columns={"patient": "scan_group"}).cases
    split = make_split(cases, test_fraction=0.5, seed=0)
    assert len({split[one.id] for one in cases if one.patient == "G01"}) == 1
    assert len({one.patient for one in cases}) == 12
