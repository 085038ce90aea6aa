"""How far predictions moved: of segmenters whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.study.agreement import SAMPLES, agreement, chosen
from nextmask.study.rounds import Round, StoredFile
from nextmask.study.study import Study


class Sees:
    """A segmenter that sees a square of class 1, from this column on; it counts how often it is asked."""

    def __init__(self, column: int | None):
        self.column, self.asked = column, 0

    def predict(self, image: np.ndarray) -> np.ndarray:
        self.asked += 1
        one = np.zeros(image.shape[1:], np.float32)
        if self.column is not None:
            one[..., 4:12, self.column : self.column + 8] = 1
        return np.stack([1 - one, one])


@pytest.fixture
def labels(home):
    return Study(home).labels


def rounds_of(labels, *names: str) -> list[Round]:
    """Rounds whose segmenters are files that are there."""
    for name in names:
        (labels.folder / name).write_text(name)
    return [Round(n, "random", (), segmenter=StoredFile(name, name * 8)) for n, name in enumerate(names, start=1)]


def measured(labels, tmp_path, rounds, seen: dict[str, Sees]) -> float | None:
    return agreement(labels, tmp_path / "kept", rounds, lambda file: seen[file.path])


def test_the_agreement_is_the_dice_of_what_both_see(labels, tmp_path):
    rounds = rounds_of(labels, "a", "b")
    assert measured(labels, tmp_path, rounds, {"a": Sees(4), "b": Sees(6)}) == pytest.approx(2 * 6 / 16)


def test_segmenters_that_say_the_same_agree_wholly_and_others_not_at_all(labels, tmp_path):
    assert measured(labels, tmp_path, rounds_of(labels, "a", "b"), {"a": Sees(4), "b": Sees(4)}) == 1.0
    assert measured(labels, tmp_path, rounds_of(labels, "c", "d"), {"c": Sees(4), "d": Sees(None)}) == 0.0


def test_where_neither_sees_anything_there_is_nothing_to_agree_on(labels, tmp_path):
    assert measured(labels, tmp_path, rounds_of(labels, "a", "b"), {"a": Sees(None), "b": Sees(None)}) is None


def test_the_last_two_are_compared_and_each_is_asked_once(labels, tmp_path):
    seen = {"a": Sees(20), "b": Sees(4), "c": Sees(4)}
    rounds = rounds_of(labels, "a", "b", "c")
    assert measured(labels, tmp_path, rounds[:1], seen) is None
    assert measured(labels, tmp_path, rounds[:2], seen) == 0.0
    assert measured(labels, tmp_path, rounds, seen) == 1.0
    assert measured(labels, tmp_path, rounds, seen) == 1.0
    assert {each.asked for each in seen.values()} == {min(SAMPLES, len(labels.pool))}


def test_a_segmenter_that_is_gone_can_be_compared_only_where_it_was_asked(labels, tmp_path):
    seen, rounds = {"a": Sees(4), "b": Sees(4), "c": Sees(4)}, rounds_of(labels, "a", "b", "c")
    (labels.folder / "a").unlink()
    assert measured(labels, tmp_path, rounds[:2], seen) is None
    (labels.folder / "b").unlink()
    assert measured(labels, tmp_path, rounds, seen) == 1.0


def test_a_segmenter_of_volumes_sees_each_case_once(labels, tmp_path):
    seen = {"a": Sees(4), "b": Sees(6)}
    for each in seen.values():
        each.dimensions = 3
    assert measured(labels, tmp_path, rounds_of(labels, "a", "b"), seen) == pytest.approx(2 * 6 / 16)
    assert seen["a"].asked == len(labels.pool.cases)


def test_the_samples_are_fixed_and_of_a_small_pool_all():
    assert chosen(1000) == chosen(1000)
    assert len(set(chosen(1000))) == SAMPLES
    assert chosen(5) == [0, 1, 2, 3, 4]
