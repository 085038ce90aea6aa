"""The voxel maps: what they say, that one pass gives what plain formulas give, and that odd probabilities do no harm."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from nextmask.errors import SelectionError
from nextmask.selection import measures
from nextmask.selection.measures import DENSE, dense_measures, running


def _members(members: int = 5, classes: int = 4, shape: tuple[int, ...] = (7, 9, 11), sharp: float = 2.0) -> np.ndarray:
    """Softmax of noise, (members, classes, *shape) float32."""
    logits = sharp * np.random.default_rng(0).standard_normal((members, classes, *shape))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


def _naive(p: np.ndarray) -> dict[str, np.ndarray]:
    """All maps by their formulas, in double precision, of members (members, classes, *shape)."""
    p = np.maximum(p.astype(np.float64), 0)
    n, classes = p.shape[:2]
    mean = p.mean(axis=0)

    def entropy(p: np.ndarray, axis: int) -> np.ndarray:
        return -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=axis) / np.log(classes)

    ranked = np.sort(mean, axis=0)
    votes = (p.argmax(axis=1)[:, None] == np.arange(classes).reshape(1, -1, *[1] * (p.ndim - 2))).sum(axis=0)
    expected = entropy(p, 1).mean(axis=0)
    return {
        "entropy": entropy(mean, 0),
        "expected_entropy": expected,
        "mutual_information": entropy(mean, 0) - expected,
        "margin": 1 - (ranked[-1] - ranked[-2]),
        "least_confidence": (1 - ranked[-1]) * classes / (classes - 1),
        "variance": p.var(axis=0).sum(axis=0),
        "variance_ratio": 1 - votes.max(axis=0) / n,
    }


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("members", [1, 2, 5])
@pytest.mark.parametrize("shape", [(8, 8), (3, 5, 7), (20, 31, 33)])  # the last is more than one chunk
def test_one_pass_gives_what_the_formulas_give(members: int, classes: int, shape: tuple[int, ...]) -> None:
    p = _members(members, classes, shape)
    measured = dense_measures(iter(p))
    assert tuple(measured) == DENSE
    for name, wanted in _naive(p).items():
        assert measured[name].dtype == np.float32
        np.testing.assert_allclose(measured[name], wanted, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(measured.probabilities, p.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("name", DENSE)
def test_each_map_is_also_a_function_and_runs_from_0_to_1(name: str) -> None:
    p = _members(sharp=6)
    values = getattr(measures, name)(iter(p))
    np.testing.assert_array_equal(values, dense_measures(list(p))[name])
    assert values.shape == (7, 9, 11)
    assert 0 <= values.min() < values.max() <= 1


def test_an_array_is_one_member_and_lists_of_it_are_the_same() -> None:
    p = _members(1)[0]
    alone, listed = dense_measures(p), dense_measures([p])
    for name in DENSE:
        np.testing.assert_array_equal(alone[name], listed[name])
    np.testing.assert_array_equal(alone["entropy"], alone["expected_entropy"])
    for name in ("mutual_information", "variance", "variance_ratio"):
        assert not alone[name].any()
    assert alone.probabilities is p or np.shares_memory(alone.probabilities, p)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("members", [2, 3, 7])
def test_members_that_agree_leave_exactly_nothing(members: int, dtype: type) -> None:
    """A mutual information a little below 0 is what gives others a NaN under the logarithm of PowerBALD."""
    p = _members(1)[0].astype(dtype)
    measured = dense_measures([p] * members)
    for name in ("mutual_information", "variance", "variance_ratio"):
        assert not measured[name].any(), name


def test_mutual_information_is_never_negative() -> None:
    p = _members(1, sharp=1)[0]
    nearly = [p, np.nextafter(p, 2, dtype=np.float32), np.nextafter(p, -1, dtype=np.float32)] * 3
    values = measures.mutual_information(nearly)
    assert values.min() >= 0
    with np.errstate(divide="ignore"):
        assert not np.isnan(np.log(values)).any()


def test_members_that_contradict_one_another_are_the_most_uncertain() -> None:
    sure = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])  # voxels: sure of 0, sure of 1, torn
    other = sure[::-1]
    values = measures.mutual_information([sure, other])
    np.testing.assert_allclose(values, [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(measures.variance_ratio([sure, other]), [0.5, 0.5, 0])
    np.testing.assert_allclose(measures.variance([sure, other]), [0.5, 0.5, 0])


def test_half_precision_is_taken_as_it_is() -> None:
    p = _members(sharp=6)
    half = p.astype(np.float16)
    assert np.abs(half.astype(np.float64).sum(axis=1) - 1).max() > 1e-5  # where others apply softmax a second time
    exact, rounded = dense_measures(p[0]), dense_measures(half[0])
    for name in DENSE:
        np.testing.assert_allclose(rounded[name], exact[name], atol=3e-3, err_msg=name)
    again = dense_measures(iter(half))
    for name, wanted in _naive(half).items():
        np.testing.assert_allclose(again[name], wanted, atol=1e-6, err_msg=name)


def test_probabilities_a_little_outside_of_0_and_1_are_finite() -> None:
    p = np.array([[1.0 + 1e-7, 1.0, 0.3], [-1e-7, 0.0, 0.7]])
    measured = dense_measures([p, p[:, ::-1]])
    for name in DENSE:
        assert np.isfinite(measured[name]).all()
        assert 0 <= measured[name].min() <= measured[name].max() <= 1
    assert dense_measures(p)["entropy"][:2].tolist() == [0, 0]


def test_entropy_runs_from_zero_to_one_and_peaks_at_one_half() -> None:
    """Over the foreground alone it would peak at p = 0.37."""
    p = np.linspace(0, 1, 101)
    for values in (measures.entropy(np.stack([1 - p, p])), measures.margin(np.stack([1 - p, p]))):
        assert values[0] == 0
        assert values[-1] == 0
        assert np.argmax(values) == 50
        assert values.max() == pytest.approx(1)
        np.testing.assert_allclose(values, values[::-1], atol=1e-6)


def test_all_alike_is_1_whatever_the_number_of_classes() -> None:
    for classes in (2, 5, 30):
        measured = dense_measures(np.full((classes, 2, 3, 4), 1 / classes))
        for name in ("entropy", "margin", "least_confidence"):
            np.testing.assert_allclose(measured[name], 1, atol=1e-6)
            assert measured[name].max() <= 1


def test_a_voxel_votes_once_also_where_classes_tie() -> None:
    tied = np.array([[0.4], [0.4], [0.2]])
    second = np.array([[0.1], [0.8], [0.1]])
    assert measures.variance_ratio([tied, second, second]) == pytest.approx(1 / 3)  # the tie votes for the first class


def test_more_members_than_a_byte_counts() -> None:
    p = np.array([[1.0, 0.0], [0.0, 1.0]])
    members = [p if member < 280 else p[::-1] for member in range(300)]
    for way in (members, iter(members)):
        np.testing.assert_allclose(measures.variance_ratio(way), 1 / 15, atol=1e-6)


def test_members_come_one_at_a_time() -> None:
    taken: list[int] = []

    def stream() -> Iterator[np.ndarray]:
        for number, p in enumerate(_members()):
            taken.append(number)
            yield p

    dense_measures(stream())
    assert taken == [0, 1, 2, 3, 4]


def test_memory_does_not_grow_with_the_members() -> None:
    def peak(members: int) -> int:
        p = _members(1, 3, (32, 64, 64))[0]
        tracemalloc.start()
        dense_measures(p * np.float32(1) for _ in range(members))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    # The mean, seven maps, and one member in the making; never a second copy of anything.
    assert peak(12) <= peak(3) + 1e5 <= (3 + 7 + 3 + 3) * 4 * 32 * 64 * 64


def test_threads_and_order_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it matter whether members come one by one or are all there."""
    p = _members(3, 3, (40, 64, 65))
    monkeypatch.setattr(running, "THREADS", 1)
    once = dense_measures(p[0]), dense_measures(list(p))
    monkeypatch.setattr(running, "THREADS", 3)
    for one, several in zip(once, (dense_measures(p[0]), dense_measures(iter(p))), strict=True):
        for name in DENSE:
            np.testing.assert_array_equal(one[name], several[name])


def test_tiny_probabilities_count_as_none_and_leave_no_denormal_numbers() -> None:
    """Squares below 1e-38 cost a processor a hundred times as long; networks are full of probabilities of 1e-20."""
    p = _members(2, sharp=40)
    assert ((p > 0) & (p < 1e-19)).any()
    measured = dense_measures(list(p))
    for name, wanted in _naive(p).items():
        np.testing.assert_allclose(measured[name], wanted, atol=1e-6, err_msg=name)
    squares = measured["variance"]
    assert not ((squares > 0) & (squares < np.finfo(np.float32).tiny)).any()


def test_nothing_is_written_to_the_members() -> None:
    p = _members()
    p.flags.writeable = False
    before = p.copy()
    dense_measures(p[0])
    dense_measures(list(p))
    np.testing.assert_array_equal(p, before)


def test_a_map_that_is_not_contiguous_in_memory() -> None:
    p = _members(1, 3, (5, 6, 7))[0]
    np.testing.assert_array_equal(dense_measures(p[:, :, ::-1])["entropy"], dense_measures(p)["entropy"][:, ::-1])


def test_refuses_what_cannot_be_measured() -> None:
    with pytest.raises(SelectionError, match=r"'entropi' is not a map.*Did you mean 'entropy'"):
        dense_measures(_members()[0], ("entropi",))
    with pytest.raises(SelectionError, match="There are no members"):
        dense_measures([])
    with pytest.raises(SelectionError, match=r"A member is of shape \(4, 3, 3\)"):
        dense_measures([np.ones((4, 3, 4)), np.ones((4, 3, 3))])
